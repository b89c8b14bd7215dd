//! Chooses the strategy of a join. Every strategy is listed with its cost or with the reason why it is not possible;
//! the cheapest is chosen, and the list goes into the plan for `floe explain`. Nothing here touches a plan: `operators`
//! carries the choice out.

mod cost;
mod enumerate;
pub(crate) mod reorder;
#[cfg(test)]
mod reorder_tests;
mod rows;
mod semis;
#[cfg(test)]
mod tests;

pub use cost::{Cost, SideSize};
pub use enumerate::{
    AsofFacts, EquiFacts, Limits, PairFacts, broadcast_pays_bytes, choose_asof, choose_equi, choose_pairs,
};

use floe_wire::facts::{JoinDecision, JoinOption, RefusedOption};

/// A side of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

impl Side {
    pub fn other(self) -> Side {
        match self {
            Side::Left => Side::Right,
            Side::Right => Side::Left,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Side::Left => "left",
            Side::Right => "right",
        }
    }
}

/// A join strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Both scans are cut at the same keys: a co-located join.
    Colocated,
    /// This side is broadcast to every task of the other.
    Broadcast(Side),
    /// Semi-join reduction of a semi or anti join: the left side goes to the tasks of the right one, which send back
    /// the keys that match. Another strategy then joins the left side with those.
    SendKeys,
    /// A hash join. One side may run first, to summarize its keys or measure its size.
    Shuffle(Shuffle),
    /// An as-of join with halo rows: the right side is broadcast to every task of the left, which also reads the last
    /// row of each task before it to detect rows that do not rise in the key.
    Halo,
    /// All rows in one task.
    SingleWorker,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shuffle {
    /// The side that runs first, for which the other waits.
    pub first: Option<Side>,
    /// Unmatched rows of the other side are dropped before they are exchanged.
    pub runtime_filter: bool,
    /// If `first` turns out small it is broadcast, and the other side is not exchanged.
    pub adaptive: bool,
}

impl Strategy {
    pub fn name(self) -> String {
        match self {
            Strategy::Colocated => "co-located join".into(),
            Strategy::Broadcast(side) => format!("broadcast join of the {} side", side.name()),
            Strategy::SendKeys => "semi-join reduction by the left side's keys".into(),
            Strategy::Shuffle(Shuffle { first: Some(side), runtime_filter, adaptive }) => {
                let with = match (runtime_filter, adaptive) {
                    (true, true) => ", with a runtime filter, or a broadcast join if it turns out small",
                    (true, false) => ", with a runtime filter",
                    (false, true) => ", or a broadcast join if it turns out small",
                    (false, false) => "",
                };
                format!("hash join, {} side first{with}", side.name())
            }
            Strategy::Shuffle(Shuffle { first: None, .. }) => "hash join".into(),
            Strategy::Halo => "broadcast join of the right side, with halo rows".into(),
            Strategy::SingleWorker => "single worker".into(),
        }
    }
}

/// A strategy and its verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub strategy: Strategy,
    /// Its cost and its advantage, or why it is not possible.
    pub verdict: Result<(Cost, String), String>,
}

/// The chosen strategy, and the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub strategy: Strategy,
    pub cost: Cost,
    pub reason: String,
    pub runner_up: Option<(Strategy, Cost)>,
    pub refused: Vec<(Strategy, String)>,
}

impl Choice {
    /// Chooses the cheapest strategy, of equal ones the first in the list; `last_resort`, which is always possible, if
    /// there is no other.
    fn of(candidates: Vec<Candidate>, last_resort: (Cost, String)) -> Choice {
        let (mut possible, mut refused) = (Vec::new(), Vec::new());
        for Candidate { strategy, verdict } in candidates {
            match verdict {
                Ok((cost, reason)) => possible.push((strategy, cost, reason)),
                Err(why) => refused.push((strategy, why)),
            }
        }
        // The sort is stable: of equal ones, the first stays first.
        possible.sort_by(|(_, a, _), (_, b, _)| a.compare(b));
        let mut possible = possible.into_iter();
        let Some((strategy, cost, reason)) = possible.next() else {
            let (cost, reason) = last_resort;
            return Choice { strategy: Strategy::SingleWorker, cost, reason, runner_up: None, refused };
        };
        let runner_up = possible.next().map(|(strategy, cost, _)| (strategy, cost));
        Choice { strategy, cost, reason, runner_up, refused }
    }

    /// The choice as `floe explain` shows it.
    pub fn decision(&self, join: &str) -> JoinDecision {
        let option = |strategy: Strategy, cost: &Cost| JoinOption { strategy: strategy.name(), cost: cost.stated() };
        JoinDecision {
            join: join.to_owned(),
            chosen: option(self.strategy, &self.cost),
            reason: self.reason.clone(),
            runner_up: self.runner_up.as_ref().map(|(strategy, cost)| option(*strategy, cost)),
            refused: self
                .refused
                .iter()
                .map(|(strategy, why)| RefusedOption { strategy: strategy.name(), why: why.clone() })
                .collect(),
        }
    }
}
