//! One line on a terminal for a statement that takes longer than a moment: stages, tasks and time; removed at its end.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use floe_api::StageState;
use floe_api::report::{PlanReport, StageProgress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Show nothing for queries shorter than this.
const MOMENT: Duration = Duration::from_millis(400);

pub struct Progress {
    bar: Option<ProgressBar>,
    stages: BTreeMap<u32, StageProgress>,
}

impl Progress {
    pub fn new(live: bool) -> Self {
        let bar = (live && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
            let style = ProgressStyle::with_template("{spinner:.cyan} {msg}  {elapsed}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            show_after_a_moment(bar.clone());
            bar
        });
        Progress { bar, stages: BTreeMap::new() }
    }

    pub fn planned(&mut self, planned: &PlanReport) {
        let waiting = |id| (id, StageProgress { id, ..StageProgress::default() });
        self.stages = planned.stages.iter().map(|stage| waiting(stage.id)).collect();
        self.draw();
    }

    pub fn stage(&mut self, stage: &StageProgress) {
        self.stages.insert(stage.id, stage.clone());
        self.draw();
    }

    fn draw(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message(text(&self.stages));
        }
    }
}

/// Shows the bar by the clock and not at the next event: a long stage may report nothing for minutes.
fn show_after_a_moment(bar: ProgressBar) {
    std::thread::spawn(move || {
        std::thread::sleep(MOMENT);
        if !bar.is_finished() {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            bar.enable_steady_tick(Duration::from_millis(100));
        }
    });
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn text(stages: &BTreeMap<u32, StageProgress>) -> String {
    let done = stages.values().filter(|stage| stage.state == StageState::Done).count();
    let tasks: (u32, u32) =
        stages.values().fold((0, 0), |sum, stage| (sum.0 + stage.tasks_done, sum.1 + stage.tasks_total));
    format!("{done}/{} stages, {}/{} tasks", stages.len(), tasks.0, tasks.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_and_tasks_are_counted() {
        let mut progress = Progress::new(false);
        let planned: PlanReport = serde_json::from_str(r#"{"stages":[{"id":0},{"id":1}]}"#).unwrap();
        progress.planned(&planned);
        let stage =
            StageProgress { state: StageState::Done, tasks_done: 3, tasks_total: 3, ..StageProgress::default() };
        progress.stage(&stage);
        assert_eq!(text(&progress.stages), "1/2 stages, 3/3 tasks");
    }
}
