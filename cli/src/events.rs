//! What the coordinator tells, one JSON object a line. Read leniently: a newer runner may say more.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event {
    Planned(Planned),
    Stage(StageEvent),
    Worker(WorkerEvent),
    Log(LogEvent),
    Done {
        outcome: Box<Outcome>,
    },
    Error(ErrorEvent),
    #[serde(other)]
    Unknown,
}

/// The stages, once the plan is made or changed by what a stage showed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Planned {
    pub stages: Vec<PlannedStage>,
    pub single_worker: Vec<SingleWorker>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlannedStage {
    pub id: u32,
    pub label: String,
    pub tasks: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SingleWorker {
    pub stage: serde_json::Value,
    pub node: String,
    pub reason: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StageEvent {
    pub id: u32,
    pub state: StageState,
    pub tasks_done: u64,
    pub tasks_total: u64,
    pub rows: u64,
    pub bytes: u64,
    pub elapsed_ms: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageState {
    Running,
    Done,
    Failed,
    #[default]
    #[serde(other)]
    Waiting,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkerEvent {
    pub id: serde_json::Value,
    pub state: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogEvent {
    pub level: String,
    pub message: String,
}

/// What became of the query.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Outcome {
    pub rows: Option<u64>,
    pub bytes_written: u64,
    pub bytes_shuffled: u64,
    pub duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink_uri: Option<String>,
    /// A number of files, or their list.
    pub files: serde_json::Value,
    pub stages: Vec<serde_json::Value>,
    pub single_worker: Vec<SingleWorker>,
    pub warnings: Vec<String>,
    /// The first rows, rendered, when there is no sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Why the query ran as one task, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fell_back: Option<String>,
    /// Whatever else a newer runner tells.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ErrorEvent {
    pub category: String,
    pub class: String,
    pub message: String,
}

impl Event {
    /// A line that is no event is a log line: something printed where it should not have.
    pub fn parse(line: &str) -> Event {
        serde_json::from_str(line)
            .unwrap_or_else(|_| Event::Log(LogEvent { level: "info".to_owned(), message: line.to_owned() }))
    }
}

impl ErrorEvent {
    /// The category under its public name, however the runner spells it (`LostWorker`, `lost-worker`).
    pub fn category(&self) -> &'static str {
        let plain: String =
            self.category.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect();
        match plain.as_str() {
            "user" => "user",
            "io" => "io",
            "lostworker" => "lost-worker",
            "outofmemory" => "out-of-memory",
            "deadline" => "deadline",
            "cancelled" => "cancelled",
            _ => "internal",
        }
    }

    /// The same exit code as the coordinator's own.
    pub fn exit_code(&self) -> u8 {
        match self.category() {
            "user" => 2,
            "io" => 3,
            "lost-worker" => 4,
            "out-of-memory" => 5,
            "deadline" => 6,
            "cancelled" => 130,
            _ => 70,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_strangers_do_no_harm() {
        let stage = r#"{"type":"stage","id":2,"state":"running","tasksDone":3,"tasksTotal":8,"rows":10,"bytes":20,"elapsedMs":30,"extra":1}"#;
        assert!(
            matches!(Event::parse(stage), Event::Stage(s) if s.id == 2 && s.state == StageState::Running && s.tasks_total == 8)
        );
        assert!(matches!(Event::parse(r#"{"type":"lineage","x":1}"#), Event::Unknown));
        assert!(matches!(Event::parse("thread panicked"), Event::Log(l) if l.message == "thread panicked"));
        let done =
            r#"{"type":"done","outcome":{"rows":5,"bytesShuffled":7,"files":["a"],"stages":[{"id":0}],"new":true}}"#;
        assert!(
            matches!(Event::parse(done), Event::Done { outcome } if outcome.rows == Some(5) && outcome.more["new"] == true)
        );
        let error = r#"{"type":"error","category":"user","class":"ColumnNotFoundError","message":"x"}"#;
        assert!(matches!(Event::parse(error), Event::Error(e) if e.exit_code() == 2));
        for (spelled, code) in [("User", 2), ("LostWorker", 4), ("out_of_memory", 5), ("Cancelled", 130), ("new", 70)] {
            let error = ErrorEvent { category: spelled.into(), ..ErrorEvent::default() };
            assert_eq!(error.exit_code(), code, "{spelled}");
        }
    }
}
