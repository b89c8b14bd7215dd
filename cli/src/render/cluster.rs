//! The progress of a query on a cluster, rendered from its status: bars in a terminal, else a line for each change.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use floe_api::{DistributedQuery, DistributedQueryStatus, Phase, StageState, StageStatus};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

use super::live::{LABEL_WIDTH, cut, style};
use crate::human;

pub trait Progress {
    fn tell(&mut self, query: &DistributedQuery);
    /// Removes what is shown only while the query runs.
    fn finish(&mut self);
}

/// The renderer for standard error.
pub fn for_stderr() -> Box<dyn Progress> {
    match std::io::stderr().is_terminal() {
        true => Box::new(Bars::new(ProgressDrawTarget::stderr_with_hz(15))),
        false => Box::new(Lines::default()),
    }
}

/// Prints one line for each visible change.
#[derive(Default)]
struct Lines {
    last: String,
}

impl Progress for Lines {
    fn tell(&mut self, query: &DistributedQuery) {
        let now = line(&query.status.clone().unwrap_or_default());
        if now != self.last {
            crate::print::err(&now);
            self.last = now;
        }
    }

    fn finish(&mut self) {}
}

/// Formats a status on one line.
pub fn line(status: &DistributedQueryStatus) -> String {
    let mut words = vec![status.phase.map_or("Pending", Phase::as_str).to_owned()];
    words.extend(status.progress.clone());
    words.extend(status.workers.as_ref().and_then(|workers| workers.summary.as_ref()).map(|w| format!("workers {w}")));
    words.extend(status.stages_summary.as_ref().map(|stages| format!("stages {stages}")));
    let ended = status.phase.is_some_and(Phase::is_terminal);
    if ended {
        words.extend(status.rows.map(|rows| human::plural(rows, "row")));
        words.extend(status.duration.as_ref().map(|took| format!("in {took}")));
    }
    let mut line = words.join(", ");
    if let Some(why) = why(status) {
        line.push_str(&format!(" ({why})"));
    }
    line
}

/// Why the query is in its state, unless all went well.
pub fn why(status: &DistributedQueryStatus) -> Option<String> {
    let reason = status.reason.as_ref().filter(|_| status.phase != Some(Phase::Succeeded))?;
    Some(match &status.message {
        Some(message) => format!("{reason}: {message}"),
        None => reason.clone(),
    })
}

struct Bars {
    bars: MultiProgress,
    total: Option<ProgressBar>,
    /// What holds the query up, shown below the bars.
    held: Option<ProgressBar>,
    running: BTreeMap<u32, (ProgressBar, Instant)>,
    done: BTreeMap<u32, StageState>,
    attempt: Option<u32>,
}

impl Bars {
    fn new(target: ProgressDrawTarget) -> Bars {
        Bars {
            bars: MultiProgress::with_draw_target(target),
            total: None,
            held: None,
            running: BTreeMap::new(),
            done: BTreeMap::new(),
            attempt: None,
        }
    }

    fn stage(&mut self, stage: &StageStatus) {
        let label = cut(&stage.label);
        match stage.state {
            // A stage starts over if its outputs are lost.
            StageState::Waiting => self.remove(stage.id),
            StageState::Running => {
                self.done.remove(&stage.id);
                let (bar, since) = self.running.entry(stage.id).or_insert_with(|| {
                    let bar = ProgressBar::new(stage.tasks_total.into());
                    bar.set_style(style("  {prefix:.bold} {bar:16.cyan/dim} {pos:>3}/{len:<3} {msg}"));
                    let bar = match &self.total {
                        Some(total) => self.bars.insert_before(total, bar),
                        None => self.bars.add(bar),
                    };
                    (bar, Instant::now())
                });
                bar.set_length(stage.tasks_total.into());
                bar.set_position(stage.tasks_done.into());
                bar.set_prefix(format!("{:>3} {label:<LABEL_WIDTH$}", stage.id));
                bar.set_message(figures(stage, since.elapsed()));
            }
            StageState::Done | StageState::Failed => {
                self.remove(stage.id);
                if self.done.insert(stage.id, stage.state) != Some(stage.state) {
                    let mark = if stage.state == StageState::Done { "✔" } else { "✘" };
                    let tasks = human::plural(stage.tasks_done, "task");
                    let rows = human::short_count(stage.rows);
                    let text = format!(
                        "{mark} {:>3} {label:<LABEL_WIDTH$} {tasks:>10} {rows:>6} rows {:>7}",
                        stage.id,
                        human::bytes(stage.bytes)
                    );
                    let _ = self.bars.println(text);
                }
            }
        }
    }

    fn remove(&mut self, stage: u32) {
        if let Some((bar, _)) = self.running.remove(&stage) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn hold(&mut self, why: Option<String>) {
        match why {
            Some(why) => {
                let held = self.held.get_or_insert_with(|| {
                    let bar = self.bars.add(ProgressBar::new_spinner());
                    bar.set_style(style("  {wide_msg:.yellow}"));
                    bar
                });
                held.set_message(why);
            }
            None => {
                if let Some(held) = self.held.take() {
                    held.finish_and_clear();
                    self.bars.remove(&held);
                }
            }
        }
    }
}

impl Progress for Bars {
    fn tell(&mut self, query: &DistributedQuery) {
        let name = query.metadata.name.as_deref().unwrap_or_default();
        let status = query.status.clone().unwrap_or_default();
        if self.attempt.is_some_and(|before| status.attempt.is_some_and(|now| now != before)) {
            let _ = self.bars.println(format!("{name}: attempt {}", status.attempt.unwrap_or_default()));
            let running: Vec<u32> = self.running.keys().copied().collect();
            running.into_iter().for_each(|stage| self.remove(stage));
            self.done.clear();
        }
        self.attempt = status.attempt.or(self.attempt);
        let total = self.total.get_or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new_spinner());
            bar.set_style(style("{spinner:.cyan} {msg}  {elapsed}"));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        // The reason has its own line.
        let plain = DistributedQueryStatus { reason: None, ..status.clone() };
        total.set_message(format!("{name}: {}", line(&plain)));
        status.stages.iter().for_each(|stage| self.stage(stage));
        self.hold(why(&status).filter(|_| status.phase.is_none_or(|phase| !phase.is_terminal())));
    }

    fn finish(&mut self) {
        let running: Vec<u32> = self.running.keys().copied().collect();
        running.into_iter().for_each(|stage| self.remove(stage));
        self.hold(None);
        if let Some(total) = self.total.take() {
            total.finish_and_clear();
        }
    }
}

fn figures(stage: &StageStatus, shown_for: Duration) -> String {
    // The status contains no times; the time since the stage appeared shows whether something moves.
    let time = human::duration(Duration::from_secs(shown_for.as_secs()));
    format!("{:>6} rows {:>7}  {time}", human::short_count(stage.rows), human::bytes(stage.bytes))
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
