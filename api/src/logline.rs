//! One line of a pod's log: the kubelet's timestamp, and the runner's JSON or whatever else a process wrote. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A pod of the query. The order is that of the variants: the coordinator first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Coordinator { attempt: u32 },
    Worker { attempt: u32, number: u32, replacement: u32 },
    Other,
}

impl Source {
    /// Reads the operator's labels; `None` for a pod that does not belong to a query.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Option<Source> {
        let number = |key: &str| labels.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(match labels.get("floe.dev/role")?.as_str() {
            "coordinator" => Source::Coordinator { attempt: number("floe.dev/attempt") },
            "worker" => Source::Worker {
                attempt: number("floe.dev/attempt"),
                number: number("floe.dev/worker"),
                replacement: number("floe.dev/replacement"),
            },
            _ => Source::Other,
        })
    }

    pub fn worker(self) -> Option<u32> {
        match self {
            Source::Worker { number, .. } => Some(number),
            Source::Coordinator { .. } | Source::Other => None,
        }
    }

    /// A short form: the query's name is known.
    fn shown(self) -> String {
        let (name, attempt) = match self {
            Source::Coordinator { attempt } => ("coordinator".to_owned(), attempt),
            Source::Worker { attempt, number, replacement: 0 } => (format!("worker {number}"), attempt),
            Source::Worker { attempt, number, replacement } => (format!("worker {number}.{replacement}"), attempt),
            Source::Other => ("clean-up".to_owned(), 1),
        };
        if attempt > 1 { format!("{name} ({attempt})") } else { name }
    }
}

#[derive(Clone, Debug)]
pub struct Line {
    /// The kubelet's timestamp in RFC 3339; empty if there is none.
    pub time: String,
    pub stage: Option<u32>,
    /// The query that it tells of, by its id.
    query: Option<String>,
    pod: String,
    source: Source,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Event { level: String, message: String, fields: Vec<(String, String)>, object: Map<String, Value> },
    Text(String),
}

/// Fields of an event that are shown elsewhere in the line, or mean nothing to a person.
const APART: [&str; 8] = ["timestamp", "level", "target", "message", "span", "spans", "threadId", "threadName"];
/// Fields that have the same value in every line of the query.
const ALIKE: [&str; 5] = ["query", "name", "id", "trace_id", "labels"];

impl Line {
    pub fn read(pod: &str, source: Source, line: &str) -> Line {
        let (time, rest) = match line.split_once(' ') {
            Some((time, rest)) if is_time(time) => (time.to_owned(), rest),
            _ => (String::new(), line),
        };
        let object =
            serde_json::from_str::<Map<String, Value>>(rest).ok().filter(|object| object.contains_key("level"));
        let Some(object) = object else {
            let body = Body::Text(rest.to_owned());
            return Line { time, stage: None, query: None, pod: pod.to_owned(), source, body };
        };
        // Fields of the line itself, then those of the spans around it.
        let spans = object.get("spans").and_then(Value::as_array).into_iter().flatten().rev();
        let around: Vec<&Map<String, Value>> = spans.chain(object.get("span")).filter_map(Value::as_object).collect();
        let said = || std::iter::once(&object).chain(around.iter().copied());
        let stage = said().find_map(|map| map.get("stage")?.as_u64());
        let query = said().find_map(|map| map.get("query")).map(shown);
        let mut fields: Vec<(String, String)> = Vec::new();
        let of_line = object.iter().filter(|(key, _)| !APART.contains(&key.as_str()));
        let task = around.iter().find_map(|map| map.get_key_value("task"));
        for (key, value) in of_line.chain(task) {
            if !ALIKE.contains(&key.as_str()) && key != "stage" && !fields.iter().any(|(known, _)| known == key) {
                fields.push((key.clone(), shown(value)));
            }
        }
        let text = |key: &str| object.get(key).map(shown).unwrap_or_default();
        let body = Body::Event { level: text("level"), message: text("message"), fields, object: object.clone() };
        let stage = stage.and_then(|stage| u32::try_from(stage).ok());
        Line { time, stage, query, pod: pod.to_owned(), source, body }
    }

    /// Formats the line for people: time of day, level, source, stage, message.
    pub fn text(&self) -> String {
        let clock = self.time.split_once('T').map_or("", |(_, clock)| clock);
        let clock: String = clock.chars().take("00:00:00.000".len()).collect();
        let stage = self.stage.map(|stage| format!("stage {stage}: ")).unwrap_or_default();
        let who = self.source.shown();
        match &self.body {
            Body::Event { level, message, fields, .. } => {
                let fields: String = fields.iter().map(|(key, value)| format!(" {key}={value}")).collect();
                format!("{clock:<12} {level:<5} {who:<11} | {stage}{message}{fields}")
            }
            Body::Text(text) => format!("{clock:<12} {:<5} {who:<11} | {text}", ""),
        }
    }

    /// The same from pods that serve many queries.
    pub fn text_with_query(&self) -> String {
        let query = self.query.as_ref().map(|query| format!(" query={query}")).unwrap_or_default();
        self.text() + &query
    }

    /// For programs: what the process wrote, with its pod.
    pub fn json(&self) -> Value {
        let mut line = match &self.body {
            Body::Event { object, .. } => Value::Object(object.clone()),
            Body::Text(text) => json!({"message": text}),
        };
        line["pod"] = self.pod.as_str().into();
        if let Some(stage) = self.stage {
            line["stage"] = stage.into();
        }
        if !self.time.is_empty() {
            line["time"] = self.time.as_str().into();
        }
        line
    }
}

/// Whether a line of pods that serve many queries tells of the query with this UID. What happens inside a query or a task is
/// logged with the query's id, or with that of its run, which begins so; paths and messages may have it, too.
pub fn is_of(line: &str, uid: &str) -> bool {
    !uid.is_empty() && line.contains(uid)
}

fn is_time(text: &str) -> bool {
    text.len() >= "2026-01-01T00:00:00Z".len() && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T')
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: Source = Source::Worker { attempt: 1, number: 0, replacement: 0 };

    #[test]
    fn lines_of_the_runner_say_their_stage_and_what_is_new() {
        let line = r#"2026-01-01T10:20:30.123456789Z {"timestamp":"2026-01-01T10:20:30.1Z","level":"INFO","message":"task failed: no column","category":"user","target":"floe_runner::worker","span":{"stage":2,"task":3,"query":"u","name":"task"},"spans":[{"name":"query","query":"u"},{"stage":2,"task":3,"name":"task"}]}"#;
        let line = Line::read("q-1-w0-0", WORKER, line);
        assert_eq!(line.stage, Some(2));
        assert_eq!(
            line.text(),
            "10:20:30.123 INFO  worker 0    | stage 2: task failed: no column category=user task=3"
        );
        assert!(line.text_with_query().ends_with(" category=user task=3 query=u"));
        let json = line.json();
        assert_eq!((json["pod"].as_str(), json["stage"].as_u64()), (Some("q-1-w0-0"), Some(2)));
        assert_eq!(json["message"], "task failed: no column");
    }

    #[test]
    fn other_lines_are_shown_as_they_are() {
        let line =
            Line::read("q-1-c", Source::Coordinator { attempt: 1 }, "2026-01-01T10:20:30Z thread 'main' panicked");
        assert_eq!(line.text(), "10:20:30Z          coordinator | thread 'main' panicked");
        assert_eq!(
            line.json(),
            json!({"pod": "q-1-c", "message": "thread 'main' panicked", "time": "2026-01-01T10:20:30Z"})
        );
        let bare = Line::read("q-1-c", Source::Other, "no time at all");
        assert!(bare.text().ends_with("| no time at all") && bare.time.is_empty());
        // JSON that is not an event of the runner.
        let odd = Line::read("q-1-c", Source::Other, "2026-01-01T10:20:30Z {\"a\":1}");
        assert!(odd.text().ends_with("| {\"a\":1}"));
    }

    #[test]
    fn lines_of_a_query_are_known_by_its_uid() {
        let uid = "6f3a0e9c-1111-4222-8333-444455556666";
        assert!(is_of(&format!(r#"{{"level":"INFO","span":{{"query":"{uid}-1-first-9","name":"task"}}}}"#), uid));
        assert!(is_of(&format!("shuffle files of s3://b/{uid} stay"), uid));
        assert!(!is_of(r#"{"level":"INFO","message":"worker connected"}"#, uid));
        assert!(!is_of("a query without a UID has no lines", ""));
    }

    #[test]
    fn pods_are_told_apart_by_their_labels() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| (format!("floe.dev/{k}"), (*v).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let worker =
            Source::of_labels(&labels(&[("role", "worker"), ("attempt", "2"), ("worker", "3"), ("replacement", "1")]));
        assert_eq!(worker.map(Source::shown), Some("worker 3.1 (2)".to_owned()));
        let coordinator = Source::of_labels(&labels(&[("role", "coordinator"), ("attempt", "1")])).unwrap();
        assert_eq!(coordinator.shown(), "coordinator");
        assert!(coordinator < worker.unwrap());
        assert_eq!(Source::of_labels(&BTreeMap::new()), None);
    }
}
