//! Progress on a terminal: a bar for each running stage, a line for each finished one, and a bar for the whole query.

use std::collections::BTreeMap;
use std::time::Duration;

use floe_api::StageState;
use floe_api::report::{PlanReport, StageProgress, WorkerEvent, WorkerState};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Render;
use crate::human;

pub(super) const LABEL_WIDTH: usize = 44;

pub struct Live {
    bars: MultiProgress,
    total: Option<ProgressBar>,
    running: BTreeMap<u32, ProgressBar>,
    labels: BTreeMap<u32, String>,
    done: BTreeMap<u32, bool>,
    workers: BTreeMap<String, bool>,
    name: String,
    wanted: u32,
}

impl Live {
    pub fn new() -> Self {
        Self {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(15)),
            total: None,
            running: BTreeMap::new(),
            labels: BTreeMap::new(),
            done: BTreeMap::new(),
            workers: BTreeMap::new(),
            name: String::new(),
            wanted: 0,
        }
    }

    fn describe(&self) {
        let Some(total) = &self.total else { return };
        let ready = self.workers.values().filter(|ready| **ready).count();
        let stages = match self.labels.len() {
            0 => "planning".to_owned(),
            all => format!("{}/{all} stages", self.done.values().filter(|done| **done).count()),
        };
        total.set_message(format!("{}: {stages}, {ready}/{} workers", self.name, self.wanted));
    }

    fn label(&self, id: u32) -> String {
        cut(self.labels.get(&id).map_or("", String::as_str))
    }
}

pub(super) fn style(template: &str) -> ProgressStyle {
    // The templates are constants; if one were invalid, a default bar is better than a failure.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

/// Cuts a label to fit its column.
pub(super) fn cut(label: &str) -> String {
    let mut cut: String = label.chars().take(LABEL_WIDTH).collect();
    if label.chars().count() > LABEL_WIDTH {
        cut.pop();
        cut.push('…');
    }
    cut
}

fn figures(stage: &StageProgress) -> String {
    let time = human::duration(Duration::from_millis(stage.elapsed_ms));
    format!("{:>6} rows {:>7}  {time}", human::short_count(stage.rows), human::bytes(stage.bytes))
}

impl Render for Live {
    fn start(&mut self, name: &str, workers: u32) {
        self.name = name.to_owned();
        self.wanted = workers;
        let total = self.bars.add(ProgressBar::new_spinner());
        total.set_style(style("{spinner:.cyan} {msg}  {elapsed}"));
        total.enable_steady_tick(Duration::from_millis(100));
        self.total = Some(total);
        self.describe();
    }

    fn planned(&mut self, planned: &PlanReport) {
        self.labels.extend(planned.stages.iter().map(|stage| (stage.id, stage.label.clone())));
        self.describe();
    }

    fn stage(&mut self, stage: &StageProgress) {
        self.labels.entry(stage.id).or_default();
        let label = self.label(stage.id);
        match stage.state {
            StageState::Waiting => {}
            StageState::Running => {
                self.done.insert(stage.id, false);
                let bar = self.running.entry(stage.id).or_insert_with(|| {
                    let bar = ProgressBar::new(stage.tasks_total.into());
                    bar.set_style(style("  {prefix:.bold} {bar:16.cyan/dim} {pos:>3}/{len:<3} {msg}"));
                    match &self.total {
                        Some(total) => self.bars.insert_before(total, bar),
                        None => self.bars.add(bar),
                    }
                });
                bar.set_length(stage.tasks_total.into());
                bar.set_position(stage.tasks_done.into());
                bar.set_prefix(format!("{:>3} {label:<LABEL_WIDTH$}", stage.id));
                bar.set_message(figures(stage));
            }
            StageState::Done | StageState::Failed => {
                if let Some(bar) = self.running.remove(&stage.id) {
                    bar.finish_and_clear();
                    self.bars.remove(&bar);
                }
                let was_done = self.done.insert(stage.id, true) == Some(true);
                if !was_done {
                    let mark = if stage.state == StageState::Done { "✔" } else { "✘" };
                    let tasks = human::plural(stage.tasks_done, "task");
                    self.log(&format!("{mark} {:>3} {label:<LABEL_WIDTH$} {tasks:>10} {}", stage.id, figures(stage)));
                }
            }
        }
        self.describe();
    }

    fn worker(&mut self, worker: &WorkerEvent) {
        let is_lost = worker.state == WorkerState::Lost;
        if is_lost {
            self.log(&format!("worker {} lost", worker.id));
        }
        self.workers.insert(worker.id.clone(), !is_lost);
        self.describe();
    }

    fn log(&mut self, message: &str) {
        let _ = self.bars.println(message);
    }

    fn finish(&mut self) {
        for bar in std::mem::take(&mut self.running).into_values() {
            bar.finish_and_clear();
        }
        if let Some(total) = self.total.take() {
            total.finish_and_clear();
        }
    }
}
