//! Scripts of events with the actions they must yield, written as short texts: `launch 1.0#2 on a` is attempt 2 of task
//! 0 of stage 1, `0.1@a` an output kept by worker a.

use bytes::Bytes;

use crate::{Action, Event, Limits, Millis, Outcome, State, decide};
use floe_wire::chunk::*;
use floe_wire::error::{Category, QueryError};
use floe_wire::graph::*;
use floe_wire::task::*;

pub struct Case {
    pub state: State,
    pub now: Millis,
}

pub fn graph(inputs: &[&[u32]], roots: &[u32]) -> StageGraph {
    let stage = |(at, inputs): (usize, &&[u32])| Stage {
        id: StageId(at as u32),
        label: format!("work {at}"),
        fragment: Bytes::new(),
        explain: Vec::new(),
        leaves: match inputs.is_empty() {
            true => vec![Leaf::Source { what: String::new(), per_task: Vec::new() }],
            false => {
                vec![Leaf::Exchange { stages: inputs.iter().map(|input| StageId(*input)).collect(), read: Read::All }]
            }
        },
        output: Exchange::Whole,
        adaptive: None,
        facts: Default::default(),
        nondeterminism: None,
    };
    StageGraph {
        stages: inputs.iter().enumerate().map(stage).collect(),
        roots: roots.iter().map(|root| StageId(*root)).collect(),
        ..StageGraph::default()
    }
}

/// `1.0`
pub fn task(text: &str) -> TaskId {
    let (stage, task) = text.split_once('.').expect("stage.task");
    TaskId { stage: StageId(stage.parse().expect("a stage")), task: task.parse().expect("a task") }
}

/// `1.0#2`
fn run(text: &str) -> (TaskId, u32) {
    let (id, attempt) = text.split_once('#').expect("task#attempt");
    (task(id), attempt.parse().expect("an attempt"))
}

pub fn up(worker: &str, slots: u32) -> Event {
    Event::WorkerUp { worker: worker.to_owned(), slots }
}

pub fn lost(worker: &str) -> Event {
    Event::WorkerLost { worker: worker.to_owned() }
}

pub fn draining(worker: &str) -> Event {
    Event::WorkerDraining { worker: worker.to_owned() }
}

/// Tasks by what they read: `&["0.0 0.1", ""]`.
pub fn resolved(stage: u32, tasks: &[&str]) -> Event {
    let tasks = tasks.iter().map(|reads| reads.split_whitespace().map(task).collect::<Vec<_>>().into()).collect();
    Event::Resolved { stage: StageId(stage), finer: 0, tasks }
}

pub fn left_out(stage: u32) -> Event {
    Event::LeftOut { stage: StageId(stage), finer: 0 }
}

/// The answer to a request to cut a stage again.
pub fn finer(times: u32, answer: Event) -> Event {
    match answer {
        Event::Resolved { stage, tasks, .. } => Event::Resolved { stage, finer: times, tasks },
        other => other,
    }
}

/// With an output of 100 bytes and 10 rows, kept `inline`, in a `store` or by the worker.
pub fn done(what: &str, worker: &str, kept: &str) -> Event {
    let (task, attempt) = run(what);
    let place = match kept {
        "inline" => Place::Inline(Bytes::from_static(b"x")),
        "store" => Place::Store,
        _ => Place::Worker { worker: WorkerId(0), shelf: Shelf::Disk },
    };
    let chunks = Chunks::new(vec![Chunk { partition: 0, rows: 10, offset: 0, len: 100 }]);
    let output = TaskOutput { place, chunks, rows: 10, bytes: 100, ..TaskOutput::default() };
    Event::TaskDone { task, attempt, worker: worker.to_owned(), output }
}

pub fn failed(what: &str, worker: &str, category: Category) -> Event {
    let (task, attempt) = run(what);
    let error = QueryError::new(category, "TestError", format!("{} of {what}", category.as_str()));
    Event::TaskFailed { task, attempt, worker: worker.to_owned(), error }
}

/// The outputs as `0.0#1`.
pub fn inputs_lost(what: &str, worker: &str, lost: &[&str]) -> Event {
    let (id, attempt) = run(what);
    let lost = lost.iter().map(|lost| run(lost)).map(|(task, attempt)| OutputId { task, attempt }).collect();
    Event::InputsLost { task: id, attempt, worker: worker.to_owned(), lost }
}

pub fn progress(what: &str, worker: &str, rows: u64) -> Event {
    let (task, attempt) = run(what);
    Event::Progress { task, attempt, worker: worker.to_owned(), rows, bytes: rows * 10 }
}

pub fn started(what: &str, worker: &str) -> Event {
    let (task, attempt) = run(what);
    Event::Started { task, attempt, worker: worker.to_owned() }
}

fn text(action: &Action) -> String {
    let name = |id: &TaskId, attempt: &u32| format!("{}.{}#{attempt}", id.stage.0, id.task);
    match action {
        Action::Resolve { stage, finer: 0 } => format!("resolve {}", stage.0),
        Action::Resolve { stage, finer } => format!("resolve {} finer {finer}", stage.0),
        Action::Launch { task, attempt, worker, alone } => {
            let alone = if *alone { " alone" } else { "" };
            format!("launch {} on {worker}{alone}", name(task, attempt))
        }
        Action::Cancel { task, attempt, worker } => format!("cancel {} on {worker}", name(task, attempt)),
        Action::Release { stage } => format!("release {}", stage.0),
        Action::WakeAt(time) => format!("wake {time}"),
        Action::Finish { result: Outcome::Succeeded { outputs } } => {
            let won = outputs.iter().map(|stage| {
                let tasks: Vec<String> = stage.iter().map(|won| name(&won.task, &won.attempt)).collect();
                format!("[{}]", tasks.join(" "))
            });
            format!("succeed {}", won.collect::<Vec<_>>().join(" "))
        }
        Action::Finish { result: Outcome::Failed(error) } => {
            format!("fail {} {}: {}", error.category.as_str(), error.class, error.message)
        }
        Action::Finish { result: Outcome::Cancelled } => "cancelled".to_owned(),
    }
}

impl Case {
    pub fn new(inputs: &[&[u32]], roots: &[u32]) -> Self {
        Self::with(inputs, roots, Limits::default())
    }

    pub fn with(inputs: &[&[u32]], roots: &[u32], limits: Limits) -> Self {
        Self { state: State::new(&graph(inputs, roots), limits).expect("a good graph"), now: 0 }
    }

    pub fn tell(&mut self, event: Event) -> Vec<String> {
        decide(&mut self.state, event, self.now).iter().map(text).collect()
    }

    /// What an event yields, alarms aside.
    pub fn acts(&mut self, event: Event) -> Vec<String> {
        let mut actions = self.tell(event);
        actions.retain(|action| !action.starts_with("wake"));
        actions
    }

    /// An event must yield exactly these actions, alarms aside.
    #[track_caller]
    pub fn on(&mut self, event: Event, expected: &[&str]) -> &mut Self {
        let what = format!("{event:?}");
        assert_eq!(self.acts(event), expected, "after {what}");
        self
    }

    /// An event must end the query with an error of this category that says these things.
    #[track_caller]
    pub fn fails(&mut self, event: Event, category: &str, says: &[&str]) {
        let actions = self.acts(event);
        let last = actions.last().cloned().unwrap_or_default();
        assert!(last.starts_with(&format!("fail {category} ")), "{actions:?}");
        for part in says {
            assert!(last.contains(part), "{last:?} does not say {part:?}");
        }
        assert!(self.state.is_over());
        assert!(self.tell(Event::Cancel).is_empty());
    }

    pub fn at(&mut self, now: Millis) -> &mut Self {
        self.now = now;
        self
    }
}
