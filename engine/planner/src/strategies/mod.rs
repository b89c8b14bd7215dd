//! Which way a join is done. For every join all ways are listed, each with its cost or with the reason why it is not
//! possible; the cheapest is taken, and the list goes into the plan for `floe explain`. Nothing here touches a plan:
//! `operators` carries the choice out.

mod cost;
mod join;
#[cfg(test)]
mod tests;

pub use cost::{Cost, SideSize};
pub use join::{AsofFacts, EquiFacts, Limits, PairFacts, broadcast_pays_bytes, choose_asof, choose_equi, choose_pairs};

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

/// A way to do a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Both scans are cut at the same keys: rows meet where they are read.
    Colocated,
    /// This side goes whole to every task of the other.
    Broadcast(Side),
    /// The left side goes to the tasks of the right one, which give back the keys that they have: a semi-join reduction
    /// for a semi or anti join, of which the other ways then join what is left.
    SendKeys,
    /// Both sides are exchanged by the hashes of their keys. The tasks of one side may come first and tell of theirs.
    Shuffle(Shuffle),
    /// As-of: the right side goes whole to every task of the left, which also reads the last row of each task before its
    /// own, so that rows that are not sorted are noticed.
    Halo,
    /// All rows in one task.
    SingleWorker,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shuffle {
    /// The side that the other waits for.
    pub first: Option<Side>,
    /// Rows of the other side without a match are dropped before they are exchanged.
    pub runtime_filter: bool,
    /// If it turns out small it is broadcast, and the other side is not exchanged.
    pub adaptive: bool,
}

impl Strategy {
    pub fn name(self) -> String {
        match self {
            Strategy::Colocated => "co-located join".into(),
            Strategy::Broadcast(side) => format!("broadcast of the {} side", side.name()),
            Strategy::SendKeys => "semi-join reduction by the left side's keys".into(),
            Strategy::Shuffle(Shuffle { first: Some(side), runtime_filter, adaptive }) => {
                let with = match (runtime_filter, adaptive) {
                    (true, true) => ", with a runtime filter, or a broadcast if it turns out small",
                    (true, false) => ", with a runtime filter",
                    (false, true) => ", or a broadcast if it turns out small",
                    (false, false) => "",
                };
                format!("shuffle, {} side first{with}", side.name())
            }
            Strategy::Shuffle(Shuffle { first: None, .. }) => "shuffle of both sides".into(),
            Strategy::Halo => "broadcast of the right side, with halo rows".into(),
            Strategy::SingleWorker => "single worker".into(),
        }
    }
}

/// A way and what is thought of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub strategy: Strategy,
    /// What it costs and why it is good, or why it is not possible.
    pub verdict: Result<(Cost, String), String>,
}

/// The way that is taken, and the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub strategy: Strategy,
    pub cost: Cost,
    pub reason: String,
    pub runner_up: Option<(Strategy, Cost)>,
    pub refused: Vec<(Strategy, String)>,
}

impl Choice {
    /// The cheapest way; of equal ones that which is listed first. `last_resort`, which is always possible, is taken when no
    /// other is.
    fn of(candidates: Vec<Candidate>, last_resort: (Cost, String)) -> Choice {
        let (mut possible, mut refused) = (Vec::new(), Vec::new());
        for Candidate { strategy, verdict } in candidates {
            match verdict {
                Ok((cost, reason)) => possible.push((strategy, cost, reason)),
                Err(why) => refused.push((strategy, why)),
            }
        }
        // A stable sort.
        possible.sort_by(|(_, a, _), (_, b, _)| a.compare(b));
        let mut possible = possible.into_iter();
        let Some((strategy, cost, reason)) = possible.next() else {
            let (cost, reason) = last_resort;
            return Choice { strategy: Strategy::SingleWorker, cost, reason, runner_up: None, refused };
        };
        let runner_up = possible.next().map(|(strategy, cost, _)| (strategy, cost));
        Choice { strategy, cost, reason, runner_up, refused }
    }

    /// For those who read the plan.
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
