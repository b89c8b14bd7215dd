//! Whether what is pushed down means in the database what Polars means by it: random clauses over values that are chosen to
//! be difficult, against an evaluation of Polars' rules written out here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

use std::cmp::Ordering;

use floe_postgres::pushed::{Aggregate, Clause, Comparison, Group, Literal, Order};
use floe_postgres::{Described, Pushed, sql};
use server::{Server, all, described, query, read, table};

mod server;

const TABLE: &str = "
    CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TYPE size AS ENUM ('small', 'large', 'Large');
    CREATE TABLE odd (id int, b bool, i int4, l int8, h int2, f float8, g float4, n numeric(10, 2), s text, w text COLLATE loose,
        e size, by bytea, d date, tm time, ts timestamp, tz timestamptz, u uuid, free numeric, o oid, c char(3));
    INSERT INTO odd SELECT id,
        ('{t,f,NULL}'::bool[])[1 + id % 3],
        ('{0,-1,2147483647,-2147483648,NULL}'::int4[])[1 + id % 5],
        ('{0,1,9223372036854775807,-9223372036854775808,NULL}'::int8[])[1 + id % 5],
        ('{0,1,32767,-32768,NULL}'::int2[])[1 + id % 5],
        ('{0,-0,NaN,Infinity,-Infinity,0.1,NULL}'::float8[])[1 + id % 7],
        ('{0,-0,NaN,Infinity,-Infinity,0.1,NULL}'::float4[])[1 + id % 7],
        ('{0,1.50,-99999999.99,NULL}'::numeric[])[1 + id % 4],
        (ARRAY['', 'a', 'A', 'ab', 'ä', 'Z', E'a\\\\''b', 'z ', NULL])[1 + id % 9],
        (ARRAY['', 'a', 'A', 'ab', 'ä', 'Z', E'a\\\\''b', 'z ', NULL])[1 + id % 9],
        ('{small,large,Large,NULL}'::size[])[1 + id % 4],
        (ARRAY['\\x'::bytea, '\\x00', '\\xff', '\\x00ff', NULL])[1 + id % 5],
        ('{1970-01-01,0001-01-01,9999-12-31,2000-02-29,NULL}'::date[])[1 + id % 5],
        ('{00:00,23:59:59.999999,12:00:00.000001,NULL}'::time[])[1 + id % 4],
        ('{1970-01-01 00:00:00,1969-12-31 23:59:59.999999,9999-12-31 23:59:59,NULL}'::timestamp[])[1 + id % 4],
        ('{1970-01-01 00:00:00+00,1969-12-31 23:59:59.999999+00,2020-06-01 12:00+02,NULL}'::timestamptz[])[1 + id % 4],
        ('{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,00000000-0000-0000-0000-000000000000,NULL}'::uuid[])[1 + id % 3],
        ('{1.5,1.50,NaN,0,NULL}'::numeric[])[1 + id % 5],
        ('{0,1,4294967295,NULL}'::oid[])[1 + id % 4],
        (ARRAY['', 'a', 'a b', NULL])[1 + id % 4]
    FROM generate_series(0, 1259) AS id";

/// Small numbers from a seed, the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Values to compare the column with, some of which stand in it.
fn literals(column: &str) -> Vec<Literal> {
    let text = |texts: &[&str]| texts.iter().map(|text| Literal::String((*text).to_owned())).collect();
    match column {
        "b" => vec![Literal::Bool(true), Literal::Bool(false)],
        "i" | "l" | "h" => {
            [0, 1, -1, 70_000, i64::from(i32::MAX), i64::from(i32::MIN), i64::MAX, i64::MIN].map(Literal::Int).into()
        }
        "f" => [0.0, -0.0, 0.1, f64::NAN, f64::INFINITY, -f64::INFINITY, 1e300].map(Literal::Float64).into(),
        "g" => [0.0, -0.0, 0.1, f32::NAN, f32::INFINITY, -f32::INFINITY, 1e30].map(Literal::Float32).into(),
        "n" => [(0, 2), (15, 1), (1500, 3), (-9_999_999_999, 2), (1501, 3)]
            .map(|(value, scale)| Literal::Decimal { value, scale })
            .into(),
        "s" | "w" => text(&["", "a", "A", "ab", "Ä", "ä", r"a\'b", "z ", "z", "é"]),
        "e" => text(&["small", "large", "Large", "medium"]),
        "u" => text(&["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "b"]),
        "free" => text(&["1.5", "1.50", "NaN", "0", "0.0"]),
        "by" => [&[][..], &[0], &[0xff], &[0, 0xff], &[1]].map(|bytes| Literal::Binary(bytes.to_vec())).into(),
        "d" => [0, 11_016, -719_162, 2_932_896, 5].map(Literal::Date).into(),
        "tm" => [0, 86_399_999_999_000, 43_200_000_001_000, 1000].map(Literal::Time).into(),
        "ts" => [0, -1, 253_402_300_799_000_000, 7].map(Literal::Datetime).into(),
        "tz" => [0, -1, 1_591_005_600_000_000, 7].map(Literal::DatetimeUtc).into(),
        "o" => [0, 1, 4_294_967_295].map(Literal::Int).into(),
        _ => panic!("{column}"),
    }
}

const COMPARED: [&str; 18] =
    ["b", "i", "l", "h", "f", "g", "n", "s", "w", "e", "u", "free", "by", "d", "tm", "ts", "tz", "o"];

fn random(chance: &mut Chance, depth: usize) -> Clause {
    let column = COMPARED[chance.below(COMPARED.len())];
    let choice = literals(column);
    let pick = |chance: &mut Chance| choice[chance.below(choice.len())].clone();
    match chance.below(if depth == 0 { 6 } else { 10 }) {
        0..=2 => {
            let by = [
                Comparison::Equal,
                Comparison::NotEqual,
                Comparison::Less,
                Comparison::LessOrEqual,
                Comparison::Greater,
                Comparison::GreaterOrEqual,
                Comparison::EqualMissing,
                Comparison::NotEqualMissing,
            ][chance.below(8)];
            Clause::Compare { column: column.to_owned(), by, to: pick(chance) }
        }
        3 => Clause::In { column: column.to_owned(), of: (0..1 + chance.below(3)).map(|_| pick(chance)).collect() },
        4 => match chance.below(3) {
            0 => Clause::Null(column.to_owned()),
            1 => Clause::NotNull(column.to_owned()),
            _ => Clause::True("b".to_owned()),
        },
        5 => Clause::StartsWith {
            column: ["s", "w", "u", "e"][chance.below(4)].to_owned(),
            prefix: ["", "a", "A", r"a\", "a0ee", "L", "%"][chance.below(7)].to_owned(),
        },
        6 => Clause::Not(Box::new(random(chance, depth - 1))),
        7 | 8 => Clause::All((0..1 + chance.below(3)).map(|_| random(chance, depth - 1)).collect()),
        _ => Clause::Any((0..1 + chance.below(3)).map(|_| random(chance, depth - 1)).collect()),
    }
}

/// Polars' rules. `row` has each value as `server::show` writes it.
struct Row<'a> {
    described: &'a Described,
    values: &'a [String],
}

impl Row<'_> {
    fn value(&self, column: &str) -> Option<&str> {
        let at = self.described.columns.iter().position(|known| known.name == column).unwrap();
        Some(self.values[at].as_str()).filter(|value| *value != "null")
    }

    fn holds(&self, clause: &Clause) -> Option<bool> {
        match clause {
            Clause::Compare { column, by, to } => {
                let order = self.value(column).map(|value| order(value, to));
                match (by, order) {
                    (Comparison::EqualMissing, order) => Some(order == Some(Ordering::Equal)),
                    (Comparison::NotEqualMissing, order) => Some(order != Some(Ordering::Equal)),
                    (_, None) => None,
                    (Comparison::Equal, Some(order)) => Some(order.is_eq()),
                    (Comparison::NotEqual, Some(order)) => Some(order.is_ne()),
                    (Comparison::Less, Some(order)) => Some(order.is_lt()),
                    (Comparison::LessOrEqual, Some(order)) => Some(order.is_le()),
                    (Comparison::Greater, Some(order)) => Some(order.is_gt()),
                    (Comparison::GreaterOrEqual, Some(order)) => Some(order.is_ge()),
                }
            }
            Clause::In { column, of } => self.value(column).map(|value| of.iter().any(|to| order(value, to).is_eq())),
            Clause::True(column) => self.value(column).map(|value| value == "true"),
            Clause::Null(column) => Some(self.value(column).is_none()),
            Clause::NotNull(column) => Some(self.value(column).is_some()),
            Clause::StartsWith { column, prefix } => self.value(column).map(|value| value.starts_with(prefix)),
            Clause::Not(inner) => self.holds(inner).map(|holds| !holds),
            Clause::All(clauses) => self.all(clauses, true),
            // Not all of them are false.
            Clause::Any(clauses) => self.all(clauses, false).map(|all_false| !all_false),
        }
    }

    /// Whether all are `wanted`: no as soon as one is not, else unknown if one is unknown.
    fn all(&self, clauses: &[Clause], wanted: bool) -> Option<bool> {
        let held: Vec<Option<bool>> = clauses.iter().map(|clause| self.holds(clause)).collect();
        match (held.contains(&Some(!wanted)), held.contains(&None)) {
            (true, _) => Some(false),
            (false, true) => None,
            (false, false) => Some(true),
        }
    }
}

fn float(left: f64, right: f64) -> Ordering {
    match (left.is_nan(), right.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => left.partial_cmp(&right).unwrap(),
    }
}

fn order(value: &str, to: &Literal) -> Ordering {
    let whole = || value.parse::<i128>().unwrap();
    match to {
        Literal::Bool(to) => value.parse::<bool>().unwrap().cmp(to),
        Literal::Int(to) | Literal::Time(to) | Literal::Datetime(to) | Literal::DatetimeUtc(to) => {
            whole().cmp(&i128::from(*to))
        }
        Literal::Date(to) => whole().cmp(&i128::from(*to)),
        Literal::Float32(to) => float(f64::from(value.parse::<f32>().unwrap()), f64::from(*to)),
        Literal::Float64(to) => float(value.parse().unwrap(), *to),
        // The column has two digits after the point, the literal three at most.
        Literal::Decimal { value: to, scale } => (whole() * 10).cmp(&(to * 10i128.pow(3 - u32::from(*scale)))),
        Literal::String(to) => value.as_bytes().cmp(to.as_bytes()),
        Literal::Binary(to) => bytes(value).cmp(to),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_keep_the_rows_that_polars_keeps() {
    let server = Server::start();
    server.run(TABLE);
    let source = server.source(table("odd"));
    let (snapshot, described) = described(&source).await;
    let rows = read(&source, &snapshot, &described, &all(&described)).await;
    assert_eq!(rows.len(), 1260);
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    let mut kept_any = 0;
    // One connection for each would be most of the time: several clauses go into one table of truths.
    for round in 0..40 {
        let clauses: Vec<Clause> = (0..50).map(|_| random(&mut chance, 3)).collect();
        let truths: Vec<String> = clauses
            .iter()
            .enumerate()
            .map(|(at, clause)| {
                let pushed = Pushed { filter: vec![clause.clone()], ..Pushed::default() };
                let select = sql::select(&described, &pushed, &floe_postgres::Part::Whole)
                    .unwrap_or_else(|error| panic!("{clause:?}: {error}"));
                let condition = select.sql.split_once(" WHERE ").unwrap().1.to_owned();
                format!("coalesce({condition}, false) AS t{at}")
            })
            .collect();
        let asked = server.source(query(&format!("SELECT id, {} FROM odd", truths.join(", "))));
        let (own, found) = server::described(&asked).await;
        let answers = read(&asked, &own, &found, &all(&found)).await;
        for (answer, values) in answers.iter().zip(&rows) {
            assert_eq!(answer[0], values[0], "rows come in the same order");
            let row = Row { described: &described, values };
            for (clause, said) in clauses.iter().zip(&answer[1..]) {
                let expected = row.holds(clause) == Some(true);
                assert_eq!(said, &expected.to_string(), "round {round}: {clause:?} of {values:?}");
                kept_any += usize::from(expected);
            }
        }
    }
    assert!(kept_any > 100_000, "{kept_any}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_mean_something_else_is_not_pushed() {
    let server = Server::start();
    server.run(TABLE);
    server.run("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    let source = server.source(table("odd"));
    let (_snapshot, odd) = described(&source).await;
    let equal = |column: &str, to: Literal| Clause::Compare { column: column.to_owned(), by: Comparison::Equal, to };
    for clause in [
        equal("c", Literal::String("a".into())),
        equal("i", Literal::Float64(0.5)),
        equal("g", Literal::Float64(0.1)),
        equal("ts", Literal::DatetimeUtc(0)),
        equal("d", Literal::Date(i32::MAX)),
        equal("s", Literal::String("a\0".into())),
        equal("o", Literal::Int(-1)),
        equal("nowhere", Literal::Int(1)),
        Clause::In { column: "i".into(), of: vec![] },
        Clause::True("i".into()),
        Clause::Not(Box::new(equal("c", Literal::String("a".into())))),
        Clause::Any(vec![Clause::True("b".into()), Clause::True("i".into())]),
        Clause::StartsWith { column: "c".into(), prefix: "a".into() },
    ] {
        assert!(!sql::can_filter(&odd, &clause), "{clause:?}");
        let pushed = Pushed { filter: vec![clause], ..Pushed::default() };
        assert!(sql::select(&odd, &pushed, &floe_postgres::Part::Whole).is_err());
    }
    // Only with an index does an equality of text read little, and only without a collation of its own can it use one.
    let pushed = Pushed { filter: vec![equal("s", Literal::String("a".into()))], ..Pushed::default() };
    let select = sql::select(&odd, &pushed, &floe_postgres::Part::Whole).unwrap();
    assert!(select.sql.ends_with(r#"WHERE ("s" = 'a')"#), "{}", select.sql);

    // Another encoding: no text is compared there, since a literal may not exist in it.
    let uri = format!("postgres://floe@127.0.0.1:{}/latin", server.port);
    let secret = [("password".to_owned(), "floe-test".to_owned())].into();
    let options = serde_json::from_value(query("SELECT 'grüße'::text AS s, 1 AS i")).unwrap();
    let latin = floe_postgres::Source::parse(&uri, &options, &secret).unwrap();
    let (snapshot, found) = described(&latin).await;
    assert!(!found.server.utf8);
    assert!(!sql::can_filter(&found, &equal("s", Literal::String("☃".into()))));
    assert!(sql::can_filter(&found, &equal("i", Literal::Int(1))));
    assert_eq!(read(&latin, &snapshot, &found, &all(&found)).await, [["grüße", "1"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_rows_are_polars_first_rows() {
    let server = Server::start();
    server.run(TABLE);
    let source = server.source(table("odd"));
    let (snapshot, described) = described(&source).await;
    let rows = read(&source, &snapshot, &described, &all(&described)).await;
    for column in COMPARED {
        let at = described.columns.iter().position(|known| known.name == column).unwrap();
        let literal = &literals(column)[0];
        for (descending, nulls_last) in [(false, false), (false, true), (true, false), (true, true)] {
            let order = vec![Order { column: column.to_owned(), descending, nulls_last }];
            let pushed = Pushed { columns: vec![column.to_owned()], order, limit: Some(700), ..Pushed::default() };
            let found: Vec<String> =
                read(&source, &snapshot, &described, &pushed).await.into_iter().map(|mut row| row.remove(0)).collect();
            let mut expected: Vec<String> = rows.iter().map(|row| row[at].clone()).collect();
            expected.sort_by(|left, right| match (left == "null", right == "null") {
                (true, true) => Ordering::Equal,
                (true, false) => {
                    if nulls_last {
                        Ordering::Greater
                    } else {
                        Ordering::Less
                    }
                }
                (false, true) => {
                    if nulls_last {
                        Ordering::Less
                    } else {
                        Ordering::Greater
                    }
                }
                (false, false) => {
                    let order = crate::order(left, &same_type(literal, right));
                    if descending { order.reverse() } else { order }
                }
            });
            // Zero and minus zero are equal, so either may stand first.
            let plain = |values: &[String]| values.iter().map(|value| value.replace("-0", "0")).collect::<Vec<_>>();
            assert_eq!(plain(&found), plain(&expected[..700]), "{column} {descending} {nulls_last}");
        }
    }
}

/// From the form in which `server::show` writes them.
fn bytes(text: &str) -> Vec<u8> {
    let digits = text.trim_matches(['[', ']']).split(", ").filter(|digit| !digit.is_empty());
    digits.map(|digit| u8::from_str_radix(digit, 16).unwrap()).collect()
}

/// `text` as a literal of the kind of `like`.
fn same_type(like: &Literal, text: &str) -> Literal {
    match like {
        Literal::Bool(_) => Literal::Bool(text.parse().unwrap()),
        Literal::Int(_) | Literal::Time(_) | Literal::Datetime(_) | Literal::DatetimeUtc(_) | Literal::Date(_) => {
            Literal::Int(text.parse().unwrap())
        }
        Literal::Float32(_) => Literal::Float32(text.parse().unwrap()),
        Literal::Float64(_) => Literal::Float64(text.parse().unwrap()),
        Literal::Decimal { .. } => Literal::Decimal { value: text.parse().unwrap(), scale: 2 },
        Literal::String(_) => Literal::String(text.to_owned()),
        Literal::Binary(_) => Literal::Binary(bytes(text)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_are_polars_aggregates() {
    let server = Server::start();
    server.run(TABLE);
    server.run("CREATE TABLE nothing AS SELECT * FROM odd WHERE false");
    let values = |aggregates: &[Aggregate]| {
        aggregates.iter().enumerate().map(|(at, aggregate)| (format!("v{at}"), aggregate.clone())).collect::<Vec<_>>()
    };
    let [i, l, s, d] = ["i", "l", "s", "d"].map(str::to_owned);
    let wanted = values(&[
        Aggregate::Len,
        Aggregate::Count(i.clone()),
        Aggregate::Sum(i.clone()),
        Aggregate::Sum(l.clone()),
        Aggregate::Min(s.clone()),
        Aggregate::Max(s),
        Aggregate::Min(d),
        Aggregate::Max(l.clone()),
    ]);
    let source = server.source(table("odd"));
    let (snapshot, odd) = described(&source).await;
    let rows = read(&source, &snapshot, &odd, &all(&odd)).await;
    let pushed = Pushed { group: Some(Group { keys: vec![], values: wanted.clone() }), ..Pushed::default() };
    let one = read(&source, &snapshot, &odd, &pushed).await;
    // Sums of 64 bits go around: 252 times each of 0, 1, the greatest and the least.
    let sum = (252i128 * (1 + i128::from(i64::MAX) + i128::from(i64::MIN))) as i64;
    let of_i = 252i64 * (-1 + i64::from(i32::MAX) + i64::from(i32::MIN));
    let expected = [
        "1260".into(),
        "1008".into(),
        of_i.to_string(),
        sum.to_string(),
        "".into(),
        "ä".into(),
        "-719162".into(),
        i64::MAX.to_string(),
    ];
    assert_eq!(one, [expected]);

    let group = Group { keys: vec!["w".into(), "b".into()], values: values(&[Aggregate::Len, Aggregate::Sum(l)]) };
    let mut found = read(&source, &snapshot, &odd, &Pushed { group: Some(group), ..Pushed::default() }).await;
    let mut groups = std::collections::BTreeMap::<(String, String), (i64, i64)>::new();
    for values in &rows {
        let row = Row { described: &odd, values };
        let text = |column| row.value(column).unwrap_or("null").to_owned();
        let entry = groups.entry((text("w"), text("b"))).or_default();
        entry.0 += 1;
        entry.1 = entry.1.wrapping_add(row.value("l").map_or(0, |value| value.parse().unwrap()));
    }
    let mut expected: Vec<Vec<String>> =
        groups.into_iter().map(|((w, b), (len, sum))| vec![w, b, len.to_string(), sum.to_string()]).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "text is grouped by its bytes, whatever the collation");

    let nothing = server.source(table("nothing"));
    let (snapshot, found) = described(&nothing).await;
    let pushed = Pushed { group: Some(Group { keys: vec![], values: wanted }), ..Pushed::default() };
    let one = read(&nothing, &snapshot, &found, &pushed).await;
    assert_eq!(one, [["0", "0", "0", "0", "null", "null", "null", "null"]]);

    for aggregate in [
        Aggregate::Sum("f".into()),
        Aggregate::Max("f".into()),
        Aggregate::Min("b".into()),
        Aggregate::Sum("n".into()),
        Aggregate::Max("c".into()),
    ] {
        let group = Group { keys: vec![], values: values(std::slice::from_ref(&aggregate)) };
        assert!(!sql::can_group(&odd, &group), "{aggregate:?}");
    }
    for key in ["f", "g", "c", "nowhere"] {
        assert!(!sql::can_group(&odd, &Group { keys: vec![key.into()], values: vec![] }), "{key}");
    }
}
