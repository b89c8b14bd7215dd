//! Interprets a coordinator's reports (`floe_api::report`): the outcome of its attempt, from the status endpoint or the
//! termination message, and whether two reports differ.

use floe_api::StageState;
use floe_api::report::{Category, Event, Outcome, Report, RunError, RunPhase};

/// The outcome of an attempt, as its coordinator reported it.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Done(Box<Outcome>),
    Failed(RunError),
}

impl Verdict {
    /// The outcome in a report, if the coordinator has finished.
    pub fn of(report: &Report) -> Option<Verdict> {
        match report.phase {
            RunPhase::Waiting | RunPhase::Planning | RunPhase::Running | RunPhase::Committing => None,
            RunPhase::Succeeded => Some(Verdict::Done(Box::new(report.outcome.clone().unwrap_or_default()))),
            RunPhase::Failed | RunPhase::Cancelled => {
                Some(Verdict::Failed(report.error.clone().unwrap_or_else(|| {
                    let category =
                        if report.phase == RunPhase::Cancelled { Category::Cancelled } else { Category::Internal };
                    RunError { category, class: String::new(), message: "the coordinator gave no reason".into() }
                })))
            }
        }
    }

    /// The outcome in a termination message; `None` if it is something else, such as the last lines of a log.
    pub fn parse(message: &str) -> Option<Verdict> {
        match serde_json::from_str(message.trim()).ok()? {
            Event::Done { outcome } => Some(Verdict::Done(outcome)),
            Event::Error(error) => Some(Verdict::Failed(error)),
            Event::Planned(_) | Event::Stage(_) | Event::Worker(_) => None,
        }
    }
}

/// Clears times that go on and rounds the bytes in use, so that two reports are equal unless something happened.
pub fn without_times(mut report: Report) -> Report {
    let running = report.stages.iter_mut().filter(|stage| stage.state == StageState::Running);
    running.for_each(|stage| stage.elapsed_ms = 0);
    for worker in report.engine.iter_mut().flat_map(|engine| &mut engine.workers) {
        let step = (worker.memory_limit_bytes / 10).max(1);
        worker.memory_bytes = worker.memory_bytes / step * step;
        // Round to powers of two: enough to tell which worker holds the least, and whether it holds anything.
        if worker.shuffle_bytes > 0 {
            worker.shuffle_bytes = worker.shuffle_bytes.checked_next_power_of_two().unwrap_or(u64::MAX);
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use floe_api::report::{EngineReport, EngineWorker};

    #[test]
    fn termination_messages_are_read_and_logs_are_not() {
        let done = r#"{"type":"done","outcome":{"rows":3,"bytesWritten":9,"durationMs":5,"files":1,"stages":[{"id":0,"label":"scan","tasks":2,"attempts":1,"rows":3,"bytes":9,"elapsedMs":2}],"singleWorker":[],"warnings":[]}}"#;
        let Some(Verdict::Done(outcome)) = Verdict::parse(done) else { panic!() };
        assert_eq!((outcome.rows, outcome.stages[0].tasks), (3, 2));
        let error = r#"{"type":"error","category":"User","class":"ComputeError","message":"m"}"#;
        let Some(Verdict::Failed(error)) = Verdict::parse(error) else { panic!() };
        assert_eq!((error.category, error.class.as_str()), (Category::User, "ComputeError"));
        let cancelled = Report { phase: RunPhase::Cancelled, ..Report::default() };
        let Some(Verdict::Failed(error)) = Verdict::of(&cancelled) else { panic!() };
        assert_eq!(error.category, Category::Cancelled);
        for text in ["", "thread panicked", "{}", "{\"type\":\"other\"}", "{\"type\":\"planned\"}"] {
            assert_eq!(Verdict::parse(text), None, "{text}");
        }
    }

    #[test]
    fn reports_are_equal_when_only_time_passed() {
        let report = |ms: u32| -> Report {
            let text = format!(
                r#"{{"id":"i","name":"n","phase":"Running","stages":[{{"id":0,"state":"running","tasksDone":1,"tasksTotal":2,"rows":1,"bytes":2,"elapsedMs":{ms}}}],"workers":["w"]}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        assert_ne!(report(1), report(2));
        assert_eq!(without_times(report(1)), without_times(report(2)));
        assert_eq!(Verdict::of(&report(1)), None);
        let ended = |ms: u32| {
            let mut report = report(ms);
            report.stages[0].state = StageState::Done;
            without_times(report)
        };
        assert_eq!(ended(2).stages[0].elapsed_ms, 2, "how long a stage took in the end is told");
        let load = |tasks: u32, memory_bytes: u64, shuffle_bytes: u64| {
            let worker = EngineWorker {
                tasks,
                memory_bytes,
                memory_limit_bytes: 1000,
                shuffle_bytes,
                ..EngineWorker::default()
            };
            let engine = EngineReport { workers: vec![worker], ..EngineReport::default() };
            without_times(Report { engine: Some(engine), ..report(1) })
        };
        assert_eq!(load(1, 501, 1025), load(1, 599, 2048), "memory in use changes all the time");
        assert_ne!(load(1, 501, 0), load(1, 501, 1), "it holds something");
        assert_ne!(load(1, 501, 0), load(0, 501, 0));
    }
}
