//! Checks whether a simulated query may end as it did.

use super::scenario::{Kind, id, value_of};
use super::watch::Watch;
use crate::{Outcome, StagePhase, State};
use floe_wire::error::Category;

impl Watch<'_> {
    pub(super) fn check_end(&self, state: &State, result: &Outcome) {
        let kind = self.scenario.kind;
        let right = self.scenario.right_values(|task| self.version.get(&task).copied().unwrap_or(0));
        let stable = !self.scenario.unstable.contains(&true);
        match result {
            Outcome::Succeeded { outputs } => {
                let never = [Kind::Broken];
                assert!(!never.contains(&kind) || self.scenario.broken.is_none(), "{kind:?} cannot succeed");
                assert!(self.scenario.poison.is_none() && self.scenario.too_big.is_none(), "{kind:?} cannot succeed");
                assert!(self.scenario.user_errors.is_empty(), "succeeded with a user error");
                assert_eq!(outputs.len(), self.scenario.graph.roots.len());
                for (root, won) in self.scenario.graph.roots.iter().zip(outputs) {
                    let at = root.0 as usize;
                    assert_eq!(won.len(), right[at].len(), "each task of a result counts once");
                    for (task, won) in won.iter().enumerate() {
                        assert_eq!(won.task, id(at, task));
                        assert_eq!(Some(won.attempt), self.there.get(&won.task).map(|there| there.attempt));
                        assert_eq!(value_of(&won.output), right[at][task], "wrong result of {:?}", won.task);
                    }
                }
                for stage in state.progress().stages {
                    let at = stage.id.0 as usize;
                    assert!(stage.phase == StagePhase::Done || !self.scenario.useful[at], "{stage:?}");
                    let rows: u64 = right[at].iter().map(|value| value % 10).sum();
                    assert!(
                        stage.rows == rows || !self.scenario.useful[at] || !stable,
                        "rows of {stage:?} are not {rows}"
                    );
                }
            }
            Outcome::Failed(error) => {
                assert!(!error.message.contains("standstill"), "{error}");
                let (category, part) = match kind {
                    Kind::Calm | Kind::Slow | Kind::Recoverable | Kind::Cancelled | Kind::BigTasks | Kind::Split => {
                        panic!("{kind:?} failed: {error:?}")
                    }
                    Kind::Harsh => (error.category, String::new()),
                    Kind::UserErrors => {
                        let first = self.user_errors.first().expect("an error was told");
                        (Category::User, format!("{} {}", first.stage.0, first.task))
                    }
                    Kind::Deadline => (Category::Deadline, "the deadline passed".to_owned()),
                    Kind::Deserted => (Category::LostWorker, "no worker".to_owned()),
                    Kind::Poison => {
                        let task = self.scenario.poison.expect("a poison task");
                        let name = format!("task {} of stage {} ", task.task, task.stage.0);
                        (Category::LostWorker, name)
                    }
                    Kind::TooBig => (Category::OutOfMemory, "spec.compute.memory".to_owned()),
                    Kind::Broken => (Category::Internal, "failed 2 times".to_owned()),
                };
                assert_eq!(error.category, category, "{error:?}");
                assert!(error.message.contains(&part), "{error:?} does not say {part:?}");
                match error.category {
                    Category::Io | Category::LostWorker | Category::Internal => {
                        assert!(kind != Kind::Harsh || !error.message.is_empty());
                    }
                    Category::User | Category::OutOfMemory | Category::Deadline | Category::Cancelled => {
                        assert!(kind != Kind::Harsh, "{error:?} in {kind:?}");
                    }
                }
            }
            Outcome::Cancelled => assert_eq!(kind, Kind::Cancelled),
        }
        if kind == Kind::Calm {
            let useful = (0..right.len()).filter(|at| self.scenario.useful[*at]);
            let tasks: usize = useful.map(|at| right[at].len()).sum();
            assert_eq!(self.seen.launches, tasks as u64, "nothing went wrong, so each task runs once");
        }
    }
}
