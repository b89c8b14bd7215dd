//! What a coordinator says, as its status endpoint and its termination message carry it. Types and parsing only;
//! what is made of it is decided in `query`.

use serde::Deserialize;

/// The answer of the status endpoint. Fields that change without news (times) are not read, so that two answers are
/// equal when nothing happened.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    pub phase: ReportPhase,
    pub stages: Vec<StageProgress>,
    pub plan: Option<PlanView>,
    /// Ids of the workers that are connected: their pods' names.
    pub workers: Vec<String>,
    pub outcome: Option<Outcome>,
    pub error: Option<RunError>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ReportPhase {
    #[default]
    Planning,
    Running,
    Committing,
    Succeeded,
    Failed,
    Cancelled,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StageProgress {
    pub id: u32,
    pub state: floe_api::StageState,
    pub tasks_done: u32,
    pub tasks_total: u32,
    pub rows: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanView {
    pub stages: Vec<StageView>,
    pub single_worker: Vec<SingleWorker>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StageView {
    pub id: u32,
    pub label: String,
    pub tasks: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SingleWorker {
    pub stage: u32,
    pub node: String,
    pub reason: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Outcome {
    pub rows: u64,
    pub bytes_written: u64,
    pub bytes_shuffled: u64,
    pub duration_ms: u64,
    pub sink_uri: Option<String>,
    pub stages: Vec<StageSummary>,
    pub single_worker: Vec<SingleWorker>,
    pub warnings: Vec<String>,
    pub fell_back: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StageSummary {
    pub id: u32,
    pub label: String,
    pub tasks: u32,
    pub rows: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RunError {
    pub category: Category,
    #[serde(default)]
    pub class: String,
    #[serde(default)]
    pub message: String,
}

/// The runner's categories of failure. A word that is not known is a fault of Floe's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Category {
    User,
    Io,
    LostWorker,
    OutOfMemory,
    Deadline,
    Cancelled,
    #[serde(other)]
    Internal,
}

/// The coordinator's last word on its attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Done(Box<Outcome>),
    Failed(RunError),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Termination {
    Done {
        #[serde(default)]
        outcome: Box<Outcome>,
    },
    Error {
        #[serde(flatten)]
        error: RunError,
    },
}

impl Report {
    /// What the coordinator ended with, once it has.
    pub fn verdict(&self) -> Option<Verdict> {
        match self.phase {
            ReportPhase::Planning | ReportPhase::Running | ReportPhase::Committing => None,
            ReportPhase::Succeeded => Some(Verdict::Done(Box::new(self.outcome.clone().unwrap_or_default()))),
            ReportPhase::Failed | ReportPhase::Cancelled => {
                Some(Verdict::Failed(self.error.clone().unwrap_or_else(|| {
                    let category =
                        if self.phase == ReportPhase::Cancelled { Category::Cancelled } else { Category::Internal };
                    RunError { category, class: String::new(), message: "the coordinator gave no reason".into() }
                })))
            }
        }
    }
}

impl Verdict {
    /// A termination message; `None` for anything that is not one (the last lines of a log).
    pub fn parse(message: &str) -> Option<Verdict> {
        match serde_json::from_str(message.trim()).ok()? {
            Termination::Done { outcome } => Some(Verdict::Done(outcome)),
            Termination::Error { error } => Some(Verdict::Failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn termination_messages_are_read_and_logs_are_not() {
        let done = r#"{"type":"done","outcome":{"rows":3,"bytesWritten":9,"durationMs":5,"files":1,"stages":[{"id":0,"label":"scan","tasks":2,"attempts":1,"rows":3,"bytes":9,"elapsedMs":2}],"singleWorker":[],"warnings":[]}}"#;
        let Some(Verdict::Done(outcome)) = Verdict::parse(done) else { panic!() };
        assert_eq!((outcome.rows, outcome.stages[0].tasks), (3, 2));
        let error = r#"{"type":"error","category":"User","class":"ComputeError","message":"m"}"#;
        let Some(Verdict::Failed(error)) = Verdict::parse(error) else { panic!() };
        assert_eq!((error.category, error.class.as_str()), (Category::User, "ComputeError"));
        let odd = r#"{"type":"error","category":"Novel","message":"m"}"#;
        let Some(Verdict::Failed(error)) = Verdict::parse(odd) else { panic!() };
        assert_eq!(error.category, Category::Internal);
        for text in ["", "thread panicked", "{}", "{\"type\":\"other\"}"] {
            assert_eq!(Verdict::parse(text), None, "{text}");
        }
    }

    #[test]
    fn reports_are_equal_when_only_time_passed() {
        let report = |ms: u32| -> Report {
            serde_json::from_str(&format!(
                r#"{{"id":"i","name":"n","phase":"Running","stages":[{{"id":0,"state":"running","tasksDone":1,"tasksTotal":2,"rows":1,"bytes":2,"elapsedMs":{ms}}}],"workers":["w"]}}"#
            ))
            .unwrap()
        };
        assert_eq!(report(1), report(2));
        assert_eq!(report(1).verdict(), None);
    }
}
