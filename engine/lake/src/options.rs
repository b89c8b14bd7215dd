//! Which snapshot of a table the options of a query ask for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::table::At;
use floe_wire::error::{QueryError, Result};

/// Options of Delta tables: `version` (a number, or a time as Polars' `scan_delta` takes it) or `timestamp`.
pub fn of_delta(options: &BTreeMap<String, Value>) -> Result<At> {
    let mut at = At::default();
    for (name, value) in options {
        match (name.as_str(), value) {
            ("version", Value::Number(number)) => at.version = Some(whole(name, number)?),
            ("version" | "timestamp", Value::String(text)) => at.timestamp_ms = Some(milliseconds(name, text)?),
            ("version", Value::Null) | ("timestamp", Value::Null) => {}
            _ => return Err(unknown(name, value, "version (a number) and timestamp")),
        }
    }
    one(at)
}

/// Options of Iceberg tables: `snapshot_id`, `branch` or `tag`, `timestamp`.
pub fn of_iceberg(options: &BTreeMap<String, Value>) -> Result<At> {
    let mut at = At::default();
    for (name, value) in options {
        match (name.as_str(), value) {
            ("snapshot_id", Value::Number(number)) => at.snapshot = Some(whole(name, number)?),
            ("branch" | "tag", Value::String(text)) if at.reference.is_none() => at.reference = Some(text.clone()),
            ("timestamp", Value::String(text)) => at.timestamp_ms = Some(milliseconds(name, text)?),
            ("snapshot_id" | "branch" | "tag" | "timestamp", Value::Null) => {}
            _ => return Err(unknown(name, value, "snapshot_id, branch or tag, and timestamp")),
        }
    }
    one(at)
}

fn one(at: At) -> Result<At> {
    let given = [at.version.is_some(), at.snapshot.is_some(), at.reference.is_some(), at.timestamp_ms.is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err(QueryError::user("BadSpec", "options: several of them name a snapshot; keep one"));
    }
    Ok(at)
}

fn whole(name: &str, number: &serde_json::Number) -> Result<i64> {
    number.as_i64().ok_or_else(|| QueryError::user("BadSpec", format!("options.{name}: {number} is no whole number")))
}

fn unknown(name: &str, value: &Value, known: &str) -> QueryError {
    QueryError::user("BadSpec", format!("options.{name}: {value} is not an option of such a table; there are {known}"))
}

/// A time with its zone or, without one, in UTC; a date is its first moment.
fn milliseconds(name: &str, text: &str) -> Result<i64> {
    let in_utc = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp());
    text.parse::<Timestamp>().ok().or_else(in_utc).map(Timestamp::as_millisecond).ok_or_else(|| {
        QueryError::user("BadSpec", format!("options.{name}: \"{text}\" is no time: write 2026-01-31T12:00:00Z"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(value: Value) -> BTreeMap<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_snapshot_is_named_by_one_option() {
        let at = of_delta(&options(json!({"version": 3}))).unwrap();
        assert_eq!(at, At { version: Some(3), ..At::default() });
        let of = |text: &str| of_delta(&options(json!({"timestamp": text}))).map(|at| at.timestamp_ms);
        assert_eq!(of("2026-01-31").unwrap(), Some(1_769_817_600_000));
        assert_eq!(of("2026-01-31T01:00:00+01:00").unwrap(), Some(1_769_817_600_000));
        assert!(of("yesterday").unwrap_err().message.contains("\"yesterday\" is no time"));
        let at = of_iceberg(&options(json!({"branch": "audit"}))).unwrap();
        assert_eq!(at.reference.as_deref(), Some("audit"));
        assert!(of_iceberg(&options(json!({"version": 1}))).unwrap_err().message.contains("snapshot_id, branch"));
        let two = of_delta(&options(json!({"version": 1, "timestamp": "2026-01-31"})));
        assert!(two.unwrap_err().message.contains("keep one"));
        assert!(of_delta(&options(json!({"version": 1.5}))).unwrap_err().message.contains("1.5 is no whole number"));
    }
}
