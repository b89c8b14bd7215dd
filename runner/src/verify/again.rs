//! Further runs of single-node Polars on one plan, made only when the first comparison fails: with its other engine,
//! the same way once more, and on perturbed plans. Where they disagree, nothing is promised.

use std::time::Duration;

use polars::prelude::DataFrame;
use polars_plan::dsl::DslPlan;

use super::compare::{Order, Verdict};
use super::judge::safely;
use super::oracle::{self, Outcome, With, same_error};
use super::perturb::{Move, perturb};
use floe_wire::error::{Category, QueryError};

/// The further runs and their outcomes.
pub(super) struct Again {
    pub runs: Vec<(&'static str, Outcome)>,
    here: Option<QueryError>,
}

impl Again {
    pub fn ask(plan: &DslPlan, here: &Outcome, ask_in_memory: bool, limit: Duration) -> Again {
        let mut runs = vec![("a second run", oracle::run(plan.clone(), With::Streaming, limit).0)];
        if ask_in_memory {
            runs.push(("in-memory engine", oracle::run(plan.clone(), With::InMemory, limit).0));
        }
        // The optimizer drops orders that it takes for unobserved; if that shows, the order was not promised.
        runs.push(("orders kept", oracle::run(plan.clone(), With::StreamingOrdered, limit).0));
        for (name, how) in [("unordered rows reversed", Move::Reverse), ("unordered rows shuffled", Move::Shuffle(7))] {
            let (moved, touched) = perturb(plan.clone(), how);
            if touched > 0 {
                let outcome = oracle::run(moved, With::StreamingOrdered, limit).0;
                // A perturbed plan that fails by itself (a node refuses the move) proves nothing.
                if outcome.is_ok() || here.is_err() {
                    runs.push((name, outcome));
                }
            }
        }
        Again { runs, here: here.as_ref().err().cloned() }
    }

    /// Makes more runs, different ones with each call.
    pub fn ask_more(&mut self, plan: &DslPlan, limit: Duration) {
        for seed in 0..5 {
            let (moved, touched) = perturb(plan.clone(), Move::Shuffle(11 + self.runs.len() as u64 + seed));
            if touched == 0 {
                break;
            }
            let outcome = oracle::run(moved, With::StreamingOrdered, limit).0;
            self.runs.extend(outcome.is_ok().then_some(("unordered rows shuffled", outcome)));
        }
        for _ in 0..3 {
            self.runs.push(("a further run", oracle::run(plan.clone(), With::Streaming, limit).0));
        }
    }

    /// Whether another run of single-node Polars gives exactly what the other side gave; says which.
    pub fn excuses(&self, order: &Order, there: &Outcome) -> Option<String> {
        self.runs.iter().find_map(|(name, run)| {
            let same = match (run, there) {
                (Ok(l), Ok(r)) => safely(l, r, order).is_equal(),
                (Err(l), Err(r)) => same_error(l, r),
                _ => false,
            };
            same.then(|| format!("as single-node Polars gives it otherwise: {name}"))
        })
    }

    /// A run whose rows come in another order than these, if `order` can tell (if it has other rows, their order is all
    /// the more free).
    pub fn moves_order(&self, here: &[DataFrame], order: &Order) -> Option<&'static str> {
        self.runs.iter().find_map(|(name, run)| {
            let run = run.as_ref().ok()?;
            (!safely(here, run, order).is_equal()).then_some(*name)
        })
    }

    /// A run whose values differ from these.
    pub fn unstable(&self, here: &[DataFrame]) -> Option<&'static str> {
        self.runs.iter().find_map(|(name, run)| match run {
            Ok(run) => matches!(safely(here, run, &Order::Any), Verdict::Differs(_)).then_some(*name),
            Err(_) => None,
        })
    }

    /// Whether another run fails with the same class but another message.
    pub fn other_message(&self, here: &QueryError) -> bool {
        self.runs
            .iter()
            .any(|(_, run)| run.as_ref().err().is_some_and(|e| e.class == here.class && !same_error(e, here)))
    }

    /// A run that disagrees with the first on whether and how the plan fails.
    pub fn disagreeing(&self) -> Option<&'static str> {
        let disagrees = |run: &Outcome| match (run, &self.here) {
            (Ok(_), Some(_)) | (Err(_), None) => true,
            (Err(e), Some(here)) => !same_error(e, here),
            (Ok(_), None) => false,
        };
        self.runs.iter().find(|(_, run)| disagrees(run)).map(|(name, _)| *name)
    }

    /// Whether the first run timed out, panicked, or failed because parts of Polars do not fit together: then there is
    /// nothing to compare with.
    pub fn no_verdict(&self) -> bool {
        let unfit = |e: &QueryError| e.message.starts_with("returned aggregation is of different length");
        self.here.as_ref().is_some_and(|e| e.class == "PanicException" || e.category == Category::Deadline || unfit(e))
    }
}
