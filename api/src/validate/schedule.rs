//! Validates a `ScheduledQuery`: its own fields, and the query that it would create.

use jiff::Timestamp;

use super::{FieldError, is_label_key, validate};
use crate::schedule::calendar::{Calendar, zone};
use crate::schedule::cron::Cron;
use crate::schedule::{CatchUp, ConcurrencyPolicy, MAX_NAME_CHARS, ScheduledQuery, render};
use crate::{DistributedQuerySpec, PlanSource};

/// The beginning of 2026, so that messages contain realistic times.
const SAMPLE: i64 = 1_767_225_600;

/// All faults of a schedule, in the order of its fields.
pub fn validate_schedule(schedule: &ScheduledQuery) -> Vec<FieldError> {
    let spec = &schedule.spec;
    let mut errors = name(schedule.metadata.name.as_deref());
    let mut fault = |path: &str, message: String| errors.push(FieldError::new(path, message));
    let cron = Cron::parse(&spec.schedule).map_err(|message| fault("spec.schedule", message)).ok();
    let zone = zone(&spec.time_zone).map_err(|message| fault("spec.timeZone", message)).ok();
    if spec.concurrency_policy == ConcurrencyPolicy::Replace && spec.catch_up == CatchUp::All {
        let message = "All would start missed queries to stop them at once by concurrencyPolicy: Replace: write Latest";
        fault("spec.catchUp", message.to_owned());
    }
    if spec.starting_deadline_seconds == Some(0) {
        fault("spec.startingDeadlineSeconds", "must be at least 1, is 0".to_owned());
    }
    for name in spec.params.keys() {
        let path = format!("spec.params.{name}");
        if name.trim().is_empty() {
            fault("spec.params", "a parameter's name must not be empty".to_owned());
        }
        if spec.query_template.spec.params.contains_key(name) {
            fault(&path, "is in spec.queryTemplate.spec.params as well: leave one of them out".to_owned());
        }
    }
    if spec.query_template.spec.cancel {
        let message = "would stop every query at once: leave it out; spec.suspend stops the schedule";
        fault("spec.queryTemplate.spec.cancel", message.to_owned());
    }
    errors.extend(keys(schedule));
    errors.extend(misplaced(&spec.query_template.spec));
    // Render the query of an arbitrary time.
    let from = Timestamp::from_second(SAMPLE).unwrap_or_default();
    let sample = cron.zip(zone.clone()).and_then(|(cron, zone)| Calendar::new(cron, zone).next(from));
    let zone = zone.unwrap_or(jiff::tz::TimeZone::UTC);
    match render::render(schedule, sample.unwrap_or(from), &zone) {
        Ok(query) => errors.extend(validate(&query.spec).into_iter().map(below_template)),
        Err(faults) => errors.extend(faults),
    }
    errors
}

/// Turns a fault of a query into one of the template that it is made from.
fn below_template(fault: FieldError) -> FieldError {
    FieldError::new(format!("spec.queryTemplate.{}", fault.path), fault.message)
}

fn name(name: Option<&str>) -> Vec<FieldError> {
    let Some(name) = name else { return Vec::new() };
    if name.len() <= MAX_NAME_CHARS && super::validate_name(Some(name)).is_empty() {
        return Vec::new();
    }
    let message = format!(
        "\"{name}\" cannot name queries: write at most {MAX_NAME_CHARS} lower-case letters, digits and -, beginning with a letter"
    );
    vec![FieldError::new("metadata.name", message)]
}

/// Validates labels and annotations of the queries: Floe's own have a meaning for the operator.
fn keys(schedule: &ScheduledQuery) -> Vec<FieldError> {
    let meta = &schedule.spec.query_template.metadata;
    let all = [("labels", &meta.labels), ("annotations", &meta.annotations)];
    let keys = all.into_iter().flat_map(|(field, map)| map.keys().map(move |key| (field, key)));
    keys.filter_map(|(field, key)| {
        let fault = is_label_key(key).err()?;
        Some(FieldError::new(format!("spec.queryTemplate.metadata.{field}"), fault))
    })
    .collect()
}

/// Finds placeholders in places where none is filled in.
fn misplaced(spec: &DistributedQuerySpec) -> Vec<FieldError> {
    let PlanSource { dsl, sql, python } = &spec.plan;
    let code = [
        ("plan.sql".to_owned(), sql.as_ref()),
        ("plan.python.script".to_owned(), python.as_ref().map(|python| &python.script)),
    ];
    let views = spec.views.iter().map(|(name, text)| (format!("views.{name}"), Some(text)));
    let code = code.into_iter().chain(views).map(|(path, text)| {
        (path, text, "templates are not pasted into code: give the value in spec.params, and write $name (SQL) or params[\"name\"] (Python)")
    });
    let tables = spec.tables.iter().map(|(name, table)| (format!("tables.{name}.uri"), Some(&table.uri)));
    let plan = ("plan.dsl.uri".to_owned(), dsl.as_ref().and_then(|dsl| dsl.uri.as_ref()));
    let places = tables.chain([plan]).map(|(path, text)| {
        (path, text, "templates are not filled in here: read all of it and filter by a parameter from spec.params")
    });
    code.chain(places)
        .filter(|(_, text, _)| text.is_some_and(|text| render::has_template(text)))
        .map(|(path, _, message)| FieldError::new(format!("spec.queryTemplate.spec.{path}"), message))
        .collect()
}
