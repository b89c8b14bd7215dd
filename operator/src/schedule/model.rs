//! Whether a schedule can create queries, and when. Pure.

use floe_api::schedule::calendar::{Calendar, zone};
use floe_api::schedule::cron::Cron;
use floe_api::schedule::render::render;
use floe_api::{FieldError, Reason, ScheduledQuery, validate_schedule};
use jiff::Timestamp;

use crate::query::facts::Trouble;
use crate::query::policy::Policy;
use crate::query::validate::validate;

/// When queries are due, or what is wrong with the schedule or with the query that it would create.
pub fn calendar(schedule: &ScheduledQuery, policy: &Policy, now: Timestamp) -> Result<Calendar, Trouble> {
    // Validate again: not everything that the API server accepts is valid.
    let faults = validate_schedule(schedule);
    if let Some(first) = faults.first() {
        let reason = match first.path.as_str() {
            "spec.schedule" => Reason::UnparseableSchedule,
            "spec.timeZone" => Reason::UnknownTimeZone,
            _ => Reason::BadSpec,
        };
        return Err(told(reason, &faults));
    }
    let fault = |path: &str, message: String| vec![FieldError::new(path, message)];
    let cron = Cron::parse(&schedule.spec.schedule)
        .map_err(|message| told(Reason::UnparseableSchedule, &fault("spec.schedule", message)))?;
    let zone = zone(&schedule.spec.time_zone)
        .map_err(|message| told(Reason::UnknownTimeZone, &fault("spec.timeZone", message)))?;
    let query = render(schedule, now, &zone).map_err(|faults| told(Reason::BadSpec, &faults))?;
    validate(&query, policy).map_err(|invalid| {
        let message = format!("spec.queryTemplate: {}", invalid.message);
        Trouble { reason: invalid.reason, message, fatal: true }
    })?;
    Ok(Calendar::new(cron, zone))
}

fn told(reason: Reason, faults: &[FieldError]) -> Trouble {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Trouble { reason, message: lines.join("; "), fatal: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::policy;
    use crate::schedule::world::{at, nightly};

    #[test]
    fn what_cannot_be_run_is_told_by_its_reason() {
        let now = at("2026-11-29T20:00:00Z");
        let open = Policy::default();
        assert!(calendar(&nightly(""), &open, now).is_ok());
        type Break = fn(&mut ScheduledQuery);
        let cases: [(Break, Reason, &str); 5] = [
            (|s| s.spec.schedule = "* * * *".into(), Reason::UnparseableSchedule, "spec.schedule: "),
            (|s| s.spec.time_zone = "Mars/Base".into(), Reason::UnknownTimeZone, "\"Mars/Base\" is no time zone"),
            (|s| s.metadata.name = Some("q".repeat(42)), Reason::BadSpec, "metadata.name"),
            (
                |s| s.spec.query_template.spec.compute.workers = Some(0),
                Reason::BadSpec,
                "spec.queryTemplate.spec.compute.workers",
            ),
            (
                |s| s.spec.query_template.spec.sink.as_mut().unwrap().uri = "/out/{{ .scheduledDate }}/".into(),
                Reason::BadSpec,
                "spec.sink.uri: \"/out/2026-11-29/\" is a path of each pod's own",
            ),
        ];
        for (break_it, reason, words) in cases {
            let mut schedule = nightly("");
            break_it(&mut schedule);
            let trouble = calendar(&schedule, &open, now).unwrap_err();
            assert_eq!(trouble.reason, reason, "{}", trouble.message);
            assert!(trouble.message.contains(words), "{}", trouble.message);
        }
        let strict = policy::read(r#"{"plans": ["dsl"]}"#).unwrap();
        let trouble = calendar(&nightly(""), &strict, now).unwrap_err();
        assert_eq!(trouble.reason, Reason::NotAllowed);
        assert!(trouble.message.contains("spec.plan.sql: is not allowed"), "{}", trouble.message);
    }
}
