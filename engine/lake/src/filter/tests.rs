//! What filters mean, and what is said of those that mean nothing.

use super::*;

const STRING: Type = Type::String;
const DATE: Type = Type::Date;
const INT: Type = Type::Int32;

fn keys() -> Vec<(&'static str, Type)> {
    vec![
        ("region", STRING),
        ("day", DATE),
        ("n", INT),
        ("price", Type::Decimal { precision: 6, scale: 2 }),
        ("x", Type::Float64),
        ("yes", Type::Boolean),
        ("at", Type::Timestamp { unit: Unit::Micros, utc: true }),
        ("local", Type::Timestamp { unit: Unit::Nanos, utc: false }),
        ("raw", Type::Binary),
        ("date", DATE),
        ("a b", STRING),
        ("day(at)", DATE),
    ]
}

fn bound(text: &str) -> Result<Bound> {
    let keys = keys();
    let keys: Vec<Key<'_>> =
        keys.iter().map(|(name, dtype)| Key { name, dtype, is_value: *name != "day(at)" }).collect();
    Filter::parse(text)?.bind(&keys, &["id"])
}

fn text(text: &str) -> Option<Value> {
    Some(Value::String(text.into()))
}

/// The values of a partition, of which all that are not named are null.
fn values(of: &[(&str, Value)]) -> Vec<Option<Value>> {
    keys().iter().map(|(name, _)| of.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())).collect()
}

#[test]
fn filters_mean_what_sql_means() {
    let day = |days: i64| Value::Int(days);
    let row = values(&[
        ("region", Value::String("it's".into())),
        ("day", day(20_000)),
        ("n", Value::Int(-3)),
        ("price", Value::Decimal(1250)),
        ("x", Value::Float(f64::NAN)),
        ("yes", Value::Boolean(true)),
        ("at", Value::Int(1_000_000)),
        ("local", Value::Int(2_000_000_000)),
        ("a b", Value::String("Z".into())),
    ]);
    for (filter, holds) in [
        ("region = 'it''s'", true),
        ("region <> 'x' and day = '2024-10-04'", true),
        ("day = DATE '2024-10-04'", true),
        ("'2024-10-03' < day AND day <= '2024-10-04'", true),
        ("day > '2024-10-04'", false),
        ("day between '2024-10-04' and '2024-10-31' and n = -3", true),
        ("day not between '2024-10-04' and '2024-10-31'", false),
        ("n in (1, -3)", true),
        ("n not in (1, -3)", false),
        ("n != 1 and not n == 1", true),
        ("price = 12.5", true),
        ("price >= 12.51", false),
        ("x > 1e300", true),
        ("yes = true and yes != FALSE", true),
        ("at = '1970-01-01T01:00:01+01:00'", true),
        ("at = TIMESTAMP '1970-01-01 00:00:01'", true),
        ("local = '1970-01-01 00:00:02'", true),
        ("raw is null and region is not null", true),
        ("date is null", true),
        ("date = '2024-10-04'", false),
        ("not (date = '2024-10-04')", false),
        ("date = '2024-10-04' or n = -3", true),
        ("date != '2024-10-04' and n = -3", false),
        ("n in (1) or (n < 0 and (region = 'it''s'))", true),
        ("n = 1 or n = 2 and n = -3", false),
        ("\"a b\" = 'Z' and `a b` = 'Z'", true),
    ] {
        assert_eq!(bound(filter).unwrap().holds(&row), holds, "{filter}");
    }
}

#[test]
fn what_means_nothing_is_named() {
    for (filter, told) in [
        ("", "a column or a value is expected at the end"),
        ("n", "a comparison, IN, BETWEEN or IS NULL is expected at the end"),
        ("n =", "a column or a value is expected at the end"),
        ("n = 1 n = 2", "n is not expected: join conditions by AND or OR"),
        ("(n = 1", ") is expected at the end"),
        ("n = null", "write IS NULL"),
        ("n = day", "column day stands where a value is expected: write texts in single quotes"),
        ("1 = 1", "a value is compared with a value"),
        ("n in ()", "a column or a value is expected instead of )"),
        ("n is 1", "NULL is expected instead of 1"),
        ("n not 1", "IN or BETWEEN is expected instead of 1"),
        ("region = 'x", "a ' is not closed"),
        ("n = 1; drop", "; means nothing here"),
        ("in = 1", "a column is expected instead of in: if it is one, write \"in\""),
        ("n = 1.5", "1.5 is no value of column n: write a whole number"),
        ("n = 99999999999", "is no value of column n"),
        ("n = '1'", "'1' is no value of column n"),
        ("region = 1", "1 is no value of column region: write a text such as 'eu'"),
        ("day = '2024-13-01'", "'2024-13-01' is no value of column day: write a date such as '2026-01-31'"),
        ("price = 1.255", "1.255 is no value of column price"),
        ("local = '1970-01-01T00:00:00Z'", "a time without a zone"),
        ("raw = 'x'", "values of the type of column raw cannot be written in it"),
        ("id = 1", "files cannot be told apart by column id, since the table is partitioned by region, day"),
        ("\"day(at)\" = '2026-01-31'", "the table has no column day(at)"),
        ("other = 1", "the table has no column other; it is partitioned by region, day"),
    ] {
        let error = bound(filter).unwrap_err();
        assert_eq!(error.class, "BadSpec");
        let begin = format!("sink.overwriteWhere: \"{filter}\": ");
        assert!(error.message.starts_with(&begin) && error.message.contains(told), "{}", error.message);
    }
    for deep in ["(".repeat(4000), "not ".repeat(4000)] {
        assert!(Filter::parse(&deep).unwrap_err().message.contains("nested more than 64 deep"));
    }
}

#[test]
fn rows_that_it_does_not_hold_for_are_refused() {
    let filter = bound("region = 'eu' and n is not null").unwrap();
    assert_eq!(filter.keys(), [0, 2]);
    let row = |region: &str, n: Option<i64>| {
        let mut row = values(&[]);
        (row[0], row[2]) = (text(region), n.map(Value::Int));
        row
    };
    filter.check(&row("eu", Some(1))).unwrap();
    let message = filter.check(&row("us", None)).unwrap_err().message;
    assert!(message.contains("it does not hold for (region = 'us', n = null): leave them out"), "{message}");
}
