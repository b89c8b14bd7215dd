//! Progress as lines, for logs and CI: one when a stage starts, one when it ends, and none in between.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use floe_api::StageState;
use floe_api::report::{PlanReport, StageProgress, WorkerEvent, WorkerState};

use super::Render;
use crate::human;

pub struct Plain<W> {
    out: W,
    labels: BTreeMap<u32, String>,
    states: BTreeMap<u32, StageState>,
}

impl<W: Write> Plain<W> {
    pub fn new(out: W) -> Self {
        Self { out, labels: BTreeMap::new(), states: BTreeMap::new() }
    }

    /// Failing to write progress is no reason to fail.
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }
}

impl<W: Write> Render for Plain<W> {
    fn start(&mut self, name: &str, workers: u32) {
        self.line(&format!("{name}: starting with {}", human::plural(u64::from(workers), "worker")));
    }

    fn planned(&mut self, planned: &PlanReport) {
        if self.labels.is_empty() {
            self.line(&format!("planned {}", human::plural(planned.stages.len() as u64, "stage")));
        }
        self.labels.extend(planned.stages.iter().map(|stage| (stage.id, stage.label.clone())));
    }

    fn stage(&mut self, stage: &StageProgress) {
        let before = self.states.insert(stage.id, stage.state).unwrap_or_default();
        if before == stage.state {
            return;
        }
        let label = self.labels.get(&stage.id).cloned().unwrap_or_default();
        match stage.state {
            StageState::Waiting => {}
            StageState::Running => self.line(&format!(
                "stage {} running: {label} ({})",
                stage.id,
                human::plural(stage.tasks_total, "task")
            )),
            StageState::Done => self.line(&format!(
                "stage {} done: {label} ({}, {}, {}, {})",
                stage.id,
                human::plural(stage.tasks_done, "task"),
                human::plural(stage.rows, "row"),
                human::bytes(stage.bytes),
                human::duration(Duration::from_millis(stage.elapsed_ms)),
            )),
            StageState::Failed => self.line(&format!("stage {} failed: {label}", stage.id)),
        }
    }

    fn worker(&mut self, worker: &WorkerEvent) {
        if worker.state == WorkerState::Lost {
            self.line(&format!("worker {} lost", worker.id));
        }
    }

    fn log(&mut self, message: &str) {
        self.line(message);
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use floe_api::report::Event;

    use super::*;

    #[test]
    fn each_change_of_a_stage_is_one_line() {
        let mut out = Vec::new();
        let mut plain = Plain::new(&mut out);
        plain.start("q3", 4);
        for line in [
            r#"{"type":"planned","stages":[{"id":0,"label":"scan lineitem","tasks":8}]}"#,
            r#"{"type":"stage","id":0,"state":"running","tasksDone":0,"tasksTotal":8}"#,
            r#"{"type":"stage","id":0,"state":"running","tasksDone":4,"tasksTotal":8}"#,
            r#"{"type":"stage","id":0,"state":"done","tasksDone":8,"tasksTotal":8,"rows":1000,"bytes":2000,"elapsedMs":1500}"#,
        ] {
            match serde_json::from_str(line).unwrap() {
                Event::Planned(planned) => plain.planned(&planned),
                Event::Stage(stage) => plain.stage(&stage),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "q3: starting with 4 workers\nplanned 1 stage\nstage 0 running: scan lineitem (8 tasks)\nstage 0 done: scan lineitem (8 tasks, 1,000 rows, 2.0 kB, 1.50 s)\n"
        );
    }
}
