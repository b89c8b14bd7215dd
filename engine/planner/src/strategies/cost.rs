//! The cost of each join strategy, from estimates that may be unknown.

use std::cmp::Ordering;

use floe_wire::facts::JoinCost;

/// The known size of one side of a join.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SideSize {
    /// The safe estimate: filters are assumed to pass half of the rows.
    pub bytes: Option<f64>,
    pub rows: Option<f64>,
    /// The share of these that is likely to be left, judged by the filters.
    pub likely: f64,
    pub tasks: u32,
    /// All rows are in one task already.
    pub is_one: bool,
}

impl SideSize {
    pub fn likely_bytes(&self) -> Option<f64> {
        self.bytes.map(|bytes| bytes * self.likely)
    }

    pub fn likely_rows(&self) -> Option<f64> {
        self.rows.map(|rows| rows * self.likely)
    }
}

/// A shuffled byte costs this many times a broadcast byte: a shuffled row is hashed, gathered by partition, written and
/// read, while a broadcast is read as it is by each of its readers.
const SHUFFLE_COST_FACTOR: f64 = 3.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Bytes that move between workers.
    pub network_bytes: Option<f64>,
    /// Bytes that tasks handle on the way, by which strategies are compared; none counts as more than any number.
    pub handled_bytes: Option<f64>,
    /// The same by the likely estimate; breaks ties.
    pub likely_bytes: Option<f64>,
    /// Bytes that one task of the join holds.
    pub held_bytes: Option<f64>,
    /// Stages that wait for one another.
    pub rounds: u32,
}

impl Cost {
    /// Co-located: matching rows are read by the same task, which holds the smaller side.
    pub fn colocated(left: &SideSize, right: &SideSize) -> Cost {
        let smaller = left.bytes.zip(right.bytes).map(|(l, r)| l.min(r));
        Cost {
            network_bytes: Some(0.0),
            handled_bytes: Some(0.0),
            likely_bytes: Some(0.0),
            held_bytes: smaller.map(|bytes| bytes / f64::from(left.tasks.max(1))),
            rounds: 0,
        }
    }

    /// Broadcast: every task of `kept` reads the whole of `sent`.
    pub fn broadcast(sent: &SideSize, kept: &SideSize, workers: u32) -> Cost {
        let copies = f64::from(kept.tasks.max(workers));
        let all = sent.bytes.map(|bytes| bytes * copies);
        Cost {
            network_bytes: all,
            handled_bytes: all,
            likely_bytes: sent.likely_bytes().map(|bytes| bytes * copies),
            held_bytes: sent.bytes,
            rounds: 1,
        }
    }

    /// Shuffle: both sides are exchanged once.
    pub fn shuffle(left: &SideSize, right: &SideSize, partitions: u32) -> Cost {
        let both = left.bytes.zip(right.bytes).map(|(l, r)| l + r);
        Cost {
            network_bytes: both,
            handled_bytes: both.map(|bytes| bytes * SHUFFLE_COST_FACTOR),
            likely_bytes: both.map(|bytes| bytes * SHUFFLE_COST_FACTOR),
            held_bytes: both.map(|bytes| bytes / f64::from(partitions.max(1))),
            rounds: 1,
        }
    }

    /// A shuffle in which the tasks of `second` wait for the key summaries or the measured size of `first`.
    pub fn shuffle_after(
        first: &SideSize,
        second: &SideSize,
        partitions: u32,
        workers: u32,
        (filter, adaptive): (bool, bool),
    ) -> Cost {
        let whole = Cost::shuffle(first, second, partitions);
        let mut likely = whole.likely_bytes;
        let mut better = |bytes: Option<f64>| {
            if bytes.is_some_and(|bytes| likely.is_none_or(|likely| bytes < likely)) {
                likely = bytes;
            }
        };
        if let (true, Some((few, many))) = (filter, first.bytes.zip(second.bytes)) {
            let part = first.likely_rows().zip(second.likely_rows()).map_or(1.0, |(few, many)| few / many.max(1.0));
            better(Some(SHUFFLE_COST_FACTOR * (few + many * part.min(1.0))));
        }
        if adaptive {
            better(first.likely_bytes().map(|few| few * (SHUFFLE_COST_FACTOR + f64::from(second.tasks.max(workers)))));
        }
        Cost { likely_bytes: likely, rounds: 2, ..whole }
    }

    /// Semi-join reduction: the left side goes to the tasks of the right one, and at most the bytes of the smaller side
    /// come back.
    pub fn send_keys(left: &SideSize, right: &SideSize, workers: u32) -> Cost {
        let copies = |side: &SideSize| f64::from(side.tasks.max(workers));
        let found = left.bytes.map(|l| right.bytes.map_or(l, |r| l.min(r)));
        let all = left.bytes.zip(found).map(|(l, found)| l * copies(right) + found * copies(left));
        Cost { network_bytes: all, handled_bytes: all, likely_bytes: all, held_bytes: left.bytes, rounds: 2 }
    }

    /// Everything goes to one worker.
    pub fn gather(left: &SideSize, right: &SideSize) -> Cost {
        let both = left.bytes.zip(right.bytes).map(|(l, r)| l + r);
        Cost { network_bytes: both, handled_bytes: both, likely_bytes: both, held_bytes: both, rounds: 1 }
    }

    pub fn compare(&self, other: &Cost) -> Ordering {
        let known = |bytes: Option<f64>| bytes.unwrap_or(f64::INFINITY);
        let by = |a: Option<f64>, b: Option<f64>| known(a).total_cmp(&known(b));
        by(self.handled_bytes, other.handled_bytes).then(by(self.likely_bytes, other.likely_bytes))
    }

    pub fn stated(&self) -> JoinCost {
        let whole = |bytes: Option<f64>| bytes.map(|bytes| bytes as u64);
        JoinCost {
            handled_bytes: whole(self.handled_bytes),
            likely_bytes: whole(self.likely_bytes),
            network_bytes: whole(self.network_bytes),
            held_bytes: whole(self.held_bytes),
            rounds: self.rounds,
        }
    }
}
