//! How rows are parted into the files of a table: what `sink.partitionBy` says, and the values of each transform.

use floe_lake::write::{PartitionKey, Transform};
use polars_core::prelude::*;
use polars_plan::prelude::{Expr, LiteralValue, lit};

use super::bucket::bucket;
use floe_wire::error::{QueryError, Result};

/// Reads `region`, `days(ts)`, `bucket(16, id)`. A text that is the name of a column is that column.
pub fn keys(partition_by: &[String], schema: &Schema) -> Result<Vec<PartitionKey>> {
    partition_by.iter().map(|text| key(text, schema)).collect()
}

fn key(text: &str, schema: &Schema) -> Result<PartitionKey> {
    let bad = |what: &str| {
        QueryError::user(
            "BadSpec",
            format!(
                "sink.partitionBy: '{text}': {what}; write a column, or year, month, day or hour of one (day(ts)), \
                 bucket(16, id) or truncate(4, name)"
            ),
        )
    };
    let known = |column: &str| match schema.contains(column) {
        true => Ok(column.to_owned()),
        false => {
            let known: Vec<&str> = schema.iter_names().map(|name| name.as_str()).collect();
            Err(QueryError::user(
                "ColumnNotFoundError",
                format!("sink.partitionBy: column '{column}' not found; the result has: {}", known.join(", ")),
            ))
        }
    };
    if schema.contains(text) {
        return Ok(PartitionKey { column: text.to_owned(), transform: Transform::Identity });
    }
    let Some((name, arguments)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) else {
        return Err(known(text).err().unwrap_or_else(|| bad("it is no column")));
    };
    let (number, column) = match arguments.split_once(',') {
        None => (None, arguments.trim()),
        Some((number, column)) => (Some(number.trim().parse::<u32>().ok().filter(|n| *n > 0)), column.trim()),
    };
    let transform = match (name.trim().to_ascii_lowercase().trim_end_matches('s'), number) {
        ("identity", None) => Transform::Identity,
        ("year", None) => Transform::Year,
        ("month", None) => Transform::Month,
        ("day", None) => Transform::Day,
        ("hour", None) => Transform::Hour,
        ("bucket", Some(Some(count))) => Transform::Bucket(count),
        ("truncate", Some(Some(width))) => Transform::Truncate(width),
        ("bucket" | "truncate", _) => return Err(bad("it needs a number above zero and a column")),
        _ => return Err(bad("it is no transform")),
    };
    Ok(PartitionKey { column: known(column)?, transform })
}

/// The values of a key. `of` is the column as it is stored, of type `dtype`.
pub fn value(key: &PartitionKey, of: Expr, dtype: &DataType) -> Result<Expr> {
    let temporal = matches!(dtype, DataType::Date | DataType::Datetime(..));
    let years = || of.clone().dt().year().cast(DataType::Int32) - lit(1970);
    Ok(match key.transform {
        Transform::Identity => of,
        Transform::Year if temporal => years(),
        Transform::Month if temporal => years() * lit(12) + of.clone().dt().month().cast(DataType::Int32) - lit(1),
        Transform::Day if temporal => of.cast(DataType::Date),
        Transform::Hour => match dtype {
            DataType::Datetime(unit, _) => {
                let units = match unit {
                    TimeUnit::Nanoseconds => 3_600_000_000_000i64,
                    TimeUnit::Microseconds => 3_600_000_000,
                    TimeUnit::Milliseconds => 3_600_000,
                };
                of.to_physical().floor_div(lit(units)).cast(DataType::Int32)
            }
            _ => return Err(unfit(key, dtype)),
        },
        Transform::Bucket(count) if hashes(dtype) => bucket(of, count),
        Transform::Truncate(width) => match dtype {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                let width =
                    lit(LiteralValue::from(AnyValue::Int64(i64::from(width)).into_static())).cast(dtype.clone());
                of.clone() - of % width
            }
            DataType::String => of.str().head(lit(i64::from(width))),
            _ => return Err(unfit(key, dtype)),
        },
        _ => return Err(unfit(key, dtype)),
    })
}

fn hashes(dtype: &DataType) -> bool {
    matches!(
        dtype,
        DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Date
            | DataType::Datetime(TimeUnit::Microseconds, _)
            | DataType::Decimal(..)
            | DataType::String
            | DataType::Binary
    )
}

fn unfit(key: &PartitionKey, dtype: &DataType) -> QueryError {
    let name = match key.transform {
        Transform::Identity => "identity",
        Transform::Year => "year",
        Transform::Month => "month",
        Transform::Day => "day",
        Transform::Hour => "hour",
        Transform::Bucket(_) => "bucket",
        Transform::Truncate(_) => "truncate",
    };
    QueryError::user(
        "BadSpec",
        format!("sink.partitionBy: {name} does not take column '{}' of type {dtype}", key.column),
    )
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_a_column_or_a_transform_of_one() {
        let schema: Schema = ["a", "days(a)", "t"].map(|name| (name.into(), DataType::String)).into_iter().collect();
        let read = |text: &str| keys(&[text.to_owned()], &schema).map(|mut keys| keys.remove(0));
        let key = |column: &str, transform| PartitionKey { column: column.into(), transform };
        assert_eq!(read("a").unwrap(), key("a", Transform::Identity));
        assert_eq!(read("days(a)").unwrap(), key("days(a)", Transform::Identity), "a column may be named so");
        assert_eq!(read("days(t)").unwrap(), key("t", Transform::Day));
        assert_eq!(read("Bucket(16, t)").unwrap(), key("t", Transform::Bucket(16)));
        assert_eq!(read("truncate( 4 ,a )").unwrap(), key("a", Transform::Truncate(4)));
        for (text, says) in [
            ("b", "column 'b' not found; the result has: a, days(a), t"),
            ("day(b)", "column 'b' not found"),
            ("bucket(t)", "needs a number above zero"),
            ("bucket(0, t)", "needs a number above zero"),
            ("week(t)", "no transform"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn values_are_those_of_the_specification() {
        let rows = df![
            "us" => [0i64, -1, 1_510_871_468_000_000],
            "n" => [1i64, -1, -15],
            "s" => ["iceberg", "a", "äöüß"],
        ]
        .unwrap()
        .lazy()
        .with_column(col("us").cast(DataType::Datetime(TimeUnit::Microseconds, None)));
        let schema = rows.clone().collect_schema().unwrap();
        let of = |column: &str, transform| {
            let key = PartitionKey { column: column.into(), transform };
            let value = value(&key, col(column), schema.get(column).unwrap()).unwrap();
            rows.clone().select([value.alias("v")]).collect().unwrap().column("v").unwrap().clone()
        };
        let ints = |column: &str, transform| -> Vec<i64> {
            let values = of(column, transform).to_physical_repr().cast(&DataType::Int64).unwrap();
            values.i64().unwrap().into_no_null_iter().collect()
        };
        assert_eq!(ints("us", Transform::Year), [0, -1, 47]);
        assert_eq!(ints("us", Transform::Month), [0, -1, 574]);
        assert_eq!(ints("us", Transform::Day), [0, -1, 17486]);
        assert_eq!(ints("us", Transform::Hour), [0, -1, 419_686]);
        assert_eq!(ints("n", Transform::Truncate(10)), [0, -10, -20]);
        let cut = of("s", Transform::Truncate(3));
        assert_eq!(cut.str().unwrap().iter().flatten().collect::<Vec<_>>(), ["ice", "a", "äöü"]);
        assert!(
            value(&PartitionKey { column: "s".into(), transform: Transform::Day }, col("s"), &DataType::String)
                .is_err()
        );
    }
}
