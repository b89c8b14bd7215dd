//! Makes the query of one time: the query template with its placeholders filled in.
//!
//! They are filled in only where a plain value is expected (a parameter, a label, an annotation, the sink's URI):
//! whatever is pasted into the text of a query or a script would be read as code.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, Zoned};
use serde_json::Value;

use super::{LABEL_SCHEDULE, ParamSpec, ParamType, SCHEDULED_AT, ScheduledQuery, ScheduledQuerySpec};
use crate::DistributedQuery;
use crate::validate::FieldError;

const NAMES: [&str; 5] = ["scheduledAt", "scheduledDate", "scheduledStamp", "scheduledUnix", "name"];

/// The values to fill in.
#[derive(Clone, Debug)]
pub struct Moment<'a> {
    pub schedule: &'a str,
    pub at: Zoned,
}

/// The name of the query of one time: always the same, whoever creates it.
pub fn query_name(schedule: &str, at: Timestamp) -> String {
    format!("{schedule}-{}", at.as_second().div_euclid(60))
}

/// Formats a time as RFC 3339, with the zone's offset.
pub fn rfc3339(at: &Zoned) -> String {
    match at.offset().seconds() {
        0 => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        _ => at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    }
}

/// Makes the query of one time, without an owner; or returns each fault with its field.
pub fn render(schedule: &ScheduledQuery, at: Timestamp, zone: &TimeZone) -> Result<DistributedQuery, Vec<FieldError>> {
    let name = schedule.metadata.name.as_deref().unwrap_or_default();
    let moment = Moment { schedule: name, at: at.to_zoned(zone.clone()) };
    let mut filler = Filler { moment: &moment, errors: Vec::new() };
    let mut query = filler.query(&schedule.spec);
    if !filler.errors.is_empty() {
        return Err(filler.errors);
    }
    query.metadata.name = Some(query_name(name, at));
    query.metadata.namespace.clone_from(&schedule.metadata.namespace);
    let label = (LABEL_SCHEDULE.to_owned(), name.to_owned());
    query.metadata.labels.get_or_insert_default().extend([label]);
    let annotation = (SCHEDULED_AT.to_owned(), rfc3339(&moment.at));
    query.metadata.annotations.get_or_insert_default().extend([annotation]);
    Ok(query)
}

struct Filler<'a> {
    moment: &'a Moment<'a>,
    errors: Vec<FieldError>,
}

impl Filler<'_> {
    fn query(&mut self, spec: &ScheduledQuerySpec) -> DistributedQuery {
        let template = &spec.query_template;
        let mut query = DistributedQuery { spec: template.spec.clone(), ..DistributedQuery::default() };
        let meta = "spec.queryTemplate.metadata";
        let mut labels = template.metadata.labels.clone();
        self.texts(&format!("{meta}.labels"), &mut labels);
        let mut annotations = template.metadata.annotations.clone();
        self.texts(&format!("{meta}.annotations"), &mut annotations);
        (query.metadata.labels, query.metadata.annotations) = (Some(labels), Some(annotations));
        let path = "spec.queryTemplate.spec";
        self.texts(&format!("{path}.labels"), &mut query.spec.labels);
        if let Some(sink) = &mut query.spec.sink {
            self.text(&format!("{path}.sink.uri"), &mut sink.uri);
        }
        for (name, value) in &mut query.spec.params {
            self.value(&format!("{path}.params.{name}"), value);
        }
        for (name, param) in &spec.params {
            let path = format!("spec.params.{name}");
            let mut value = param.value.clone();
            self.value(&path, &mut value);
            match typed(param, value) {
                Ok(value) => {
                    query.spec.params.insert(name.clone(), value);
                }
                Err(message) => self.errors.push(FieldError::new(path, message)),
            }
        }
        query
    }

    fn texts(&mut self, path: &str, texts: &mut BTreeMap<String, String>) {
        for (key, text) in texts {
            self.text(&format!("{path}.{key}"), text);
        }
    }

    fn text(&mut self, path: &str, text: &mut String) {
        match fill(text, self.moment) {
            Ok(filled) => *text = filled,
            Err(message) => self.errors.push(FieldError::new(path, message)),
        }
    }

    /// Fills in the texts of a value at any depth.
    fn value(&mut self, path: &str, value: &mut Value) {
        match value {
            Value::String(text) => self.text(path, text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(path, item)),
            Value::Object(map) => map.values_mut().for_each(|item| self.value(path, item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Whether a text contains one of our placeholders.
pub fn has_template(text: &str) -> bool {
    text.split("{{").skip(1).any(|rest| {
        let word = rest.trim_start().trim_start_matches('.');
        rest.contains("}}") && rest.trim_start().starts_with('.') && NAMES.iter().any(|name| word.starts_with(name))
    })
}

/// Fills in the placeholders of a text.
pub fn fill(text: &str, moment: &Moment<'_>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inner, behind) = after.split_once("}}").ok_or_else(|| format!("\"{text}\" has a {{{{ without a }}}}"))?;
        filled.push_str(before);
        filled.push_str(&one(inner.trim(), moment)?);
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn one(inner: &str, moment: &Moment<'_>) -> Result<String, String> {
    let known = || format!("write one of .{}", NAMES.join(", ."));
    let Some(inner) = inner.strip_prefix('.') else {
        return Err(format!("the template {{{{ {inner} }}}} is not known: {}", known()));
    };
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
    let (name, offset) = inner.split_at(end);
    let at = match offset.trim() {
        "" => moment.at.clone(),
        _ if name == "name" => return Err("the template .name takes no offset".to_owned()),
        offset => shifted(&moment.at, offset)?,
    };
    match name {
        "scheduledAt" => Ok(rfc3339(&at)),
        "scheduledDate" => Ok(at.date().to_string()),
        "scheduledStamp" => Ok(at.timestamp().strftime("%Y%m%dT%H%M%SZ").to_string()),
        "scheduledUnix" => Ok(at.timestamp().as_second().to_string()),
        "name" => Ok(moment.schedule.to_owned()),
        other => Err(format!("the template .{other} is not known: {}", known())),
    }
}

/// Applies an offset such as `- 1d`: days and weeks follow the clock, hours and minutes elapsed time.
fn shifted(at: &Zoned, offset: &str) -> Result<Zoned, String> {
    let fault =
        || format!("the offset \"{offset}\" cannot be read: write - or +, a number, and m, h, d or w, such as - 1d");
    let sign = match offset.chars().next() {
        Some('-') => -1,
        Some('+') => 1,
        _ => return Err(fault()),
    };
    let text = offset.get(1..).unwrap_or_default().trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number = sign * i64::from(number.parse::<u16>().map_err(|_| fault())?);
    let shifted = match unit {
        "m" => at.checked_add(SignedDuration::from_mins(number)),
        "h" => at.checked_add(SignedDuration::from_hours(number)),
        "d" => Span::new().try_days(number).and_then(|days| at.checked_add(days)),
        "w" => Span::new().try_weeks(number).and_then(|weeks| at.checked_add(weeks)),
        _ => return Err(fault()),
    };
    shifted.map_err(|_| format!("the offset \"{offset}\" leads out of the calendar"))
}

/// Converts the value of a parameter to its type.
fn typed(param: &ParamSpec, value: Value) -> Result<Value, String> {
    let text = match &value {
        Value::String(text) => text.trim().to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            return Err("value must be one text, number or truth value".into());
        }
    };
    let kind = param.kind;
    let (made, want) = match kind {
        ParamType::String => (Some(Value::String(value.as_str().map_or(text.clone(), str::to_owned))), "a text"),
        ParamType::Int => (text.parse::<i64>().ok().map(Value::from), "a whole number"),
        ParamType::Float => (text.parse::<f64>().ok().filter(|float| float.is_finite()).map(Value::from), "a number"),
        ParamType::Bool => (text.parse::<bool>().ok().map(Value::from), "true or false"),
        ParamType::Date => (
            text.parse::<Date>().ok().filter(|_| text.len() == 10).map(|date| date.to_string().into()),
            "a date such as 2026-03-01",
        ),
        ParamType::Datetime => {
            (text.parse::<Timestamp>().ok().map(|_| text.clone().into()), "a time such as 2026-03-01T02:30:00Z")
        }
    };
    made.ok_or_else(|| format!("\"{text}\" is not {want}"))
}

#[cfg(test)]
mod tests {
    use super::super::calendar;
    use super::*;

    fn moment(at: &str, zone: &str) -> Moment<'static> {
        let at: Timestamp = at.parse().unwrap();
        Moment { schedule: "nightly", at: at.to_zoned(calendar::zone(zone).unwrap()) }
    }

    #[test]
    fn templates_are_filled_in() {
        let moment = moment("2026-03-29T01:30:00Z", "Europe/Berlin");
        for (text, filled) in [
            ("no template", "no template"),
            ("{{ .scheduledAt }}", "2026-03-29T03:30:00+02:00"),
            ("a/{{.scheduledDate}}/{{ .name }}/", "a/2026-03-29/nightly/"),
            ("{{ .scheduledStamp }}", "20260329T013000Z"),
            ("{{ .scheduledUnix }}", "1774747800"),
            ("{{ .scheduledDate - 1d }}", "2026-03-28"),
            ("{{ .scheduledDate -1w }}..{{ .scheduledDate+30d }}", "2026-03-22..2026-04-28"),
            // One day before is the same clock time, 24 hours before is not.
            ("{{ .scheduledAt - 1d }}", "2026-03-28T03:30:00+01:00"),
            ("{{ .scheduledAt - 24h }}", "2026-03-28T02:30:00+01:00"),
            ("{{ .scheduledAt - 90m }}", "2026-03-29T01:00:00+01:00"),
        ] {
            assert_eq!(fill(text, &moment).as_deref(), Ok(filled), "{text}");
        }
        for (text, words) in [
            ("{{ .scheduleDate }}", ".scheduleDate is not known: write one of .scheduledAt, .scheduledDate"),
            ("{{ scheduledAt }}", "write one of .scheduledAt"),
            ("{{ .x }}", ".x is not known: write one of"),
            ("{{ .scheduledAt", "without a }}"),
            ("{{ .scheduledAt - 1y }}", "cannot be read"),
            ("{{ .scheduledAt | upper }}", "cannot be read"),
            ("{{ .scheduledAt - 99999999d }}", "cannot be read"),
            ("{{ .name - 1d }}", "takes no offset"),
        ] {
            let error = fill(text, &moment).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert_eq!(rfc3339(&self::moment("2026-03-29T01:30:00Z", "Etc/UTC").at), "2026-03-29T01:30:00Z");
    }

    #[test]
    fn templates_are_seen_in_texts_that_have_none_filled_in() {
        assert!(has_template("select '{{ .scheduledDate }}'") && has_template("{{.name}}"));
        assert!(!has_template("f'{{x}}'") && !has_template("{{ .") && !has_template("{{ .scheduledAt"));
    }

    #[test]
    fn parameters_have_their_types() {
        use serde_json::json;
        for (kind, value, want) in [
            (ParamType::String, json!("a "), Some(json!("a "))),
            (ParamType::String, json!(3), Some(json!("3"))),
            (ParamType::Int, json!("42"), Some(json!(42))),
            (ParamType::Int, json!(1.5), None),
            (ParamType::Float, json!(1), Some(json!(1.0))),
            (ParamType::Float, json!("inf"), None),
            (ParamType::Bool, json!("true"), Some(json!(true))),
            (ParamType::Bool, json!("yes"), None),
            (ParamType::Date, json!("2026-03-01"), Some(json!("2026-03-01"))),
            (ParamType::Date, json!("2026-02-30"), None),
            (ParamType::Date, json!("2026-03-01T00:00:00Z"), None),
            (ParamType::Datetime, json!("2026-03-01T00:00:00+01:00"), Some(json!("2026-03-01T00:00:00+01:00"))),
            (ParamType::Datetime, json!("2026-03-01"), None),
            (ParamType::String, json!([1]), None),
        ] {
            let made = typed(&ParamSpec { kind, value: value.clone() }, value.clone());
            assert_eq!(made.clone().ok(), want, "{kind:?} {value}: {made:?}");
        }
    }

    #[test]
    fn a_query_is_named_after_its_minute() {
        let at: Timestamp = "2026-11-29T21:05:00Z".parse().unwrap();
        assert_eq!(query_name("nightly", at), format!("nightly-{}", at.as_second() / 60));
        let late: Timestamp = "9999-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(query_name("q", late).len(), "q-".len() + 10);
        assert_eq!(query_name(&"q".repeat(41), at).len(), 50);
    }
}
