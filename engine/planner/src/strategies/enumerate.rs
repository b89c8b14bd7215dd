//! Lists the strategies for each kind of join, with the rules that allow them.

use polars_ops::frame::{JoinArgs, JoinType};

use super::{Candidate, Choice, Cost, Shuffle, Side, SideSize, Strategy};

/// If the right side could be broadcast, do a semi-join reduction only if the left one has this many times fewer rows.
const KEYS_ADVANTAGE_FACTOR: f64 = 4.0;
/// Below its share of an exchange divided by this, building a table is free.
const CHEAP_TABLE_DIVISOR: f64 = 16.0;
/// Filter a side only if it has at least this many times the rows of the other.
const FILTER_RATIO: f64 = 2.0;
/// Consider an adaptive broadcast only if the other side has at least this many times the bytes.
const ADAPTIVE_RATIO: f64 = 2.0;
/// Wait for a side that is likely this many times smaller, even if the other one is small by the safe estimate.
const WAIT_RATIO: f64 = 4.0;
/// Don't wait for a side that is expected to exceed this many broadcast limits.
const MAX_BROADCAST_LIMITS: f64 = 64.0;

/// The options that decide between strategies.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub workers: u32,
    pub broadcast_limit_bytes: f64,
    pub partition_bytes: f64,
    pub adaptive: bool,
    pub runtime_filters: bool,
}

/// An equi-join.
#[derive(Clone, Copy, Debug)]
pub struct EquiFacts<'a> {
    pub args: &'a JoinArgs,
    pub left: SideSize,
    pub right: SideSize,
    /// The sides whose order is promised, most important first.
    pub order: &'a [Side],
    /// The keys of both sides have the same types.
    pub same_key_types: bool,
    /// The scans of both sides are cut at the same keys.
    pub colocated: bool,
    /// The right side has been cut down by a semi-join reduction.
    pub keys_were_sent: bool,
    /// Partitions of an exchange of both sides.
    pub partitions: u32,
}

/// Whether a side can be broadcast: only if its unmatched rows are not in the result.
pub fn may_broadcast(side: Side, how: &JoinType) -> bool {
    match side {
        Side::Left => matches!(how, JoinType::Inner | JoinType::Right),
        Side::Right => matches!(how, JoinType::Inner | JoinType::Left | JoinType::Semi | JoinType::Anti),
    }
}

/// Whether unmatched rows of this side can be dropped without changing the result or an error.
pub fn may_lose_unmatched(side: Side, args: &JoinArgs) -> bool {
    let loses = match args.how {
        JoinType::Inner | JoinType::Semi => true,
        JoinType::Left | JoinType::Anti => side == Side::Right,
        JoinType::Right => side == Side::Left,
        _ => false,
    };
    loses && !args.validation.needs_checks()
}

pub fn mb(bytes: f64) -> String {
    if bytes < 1e6 { format!("{:.1} kB", bytes / 1e3) } else { format!("{:.1} MB", bytes / 1e6) }
}

impl EquiFacts<'_> {
    fn side(&self, side: Side) -> &SideSize {
        match side {
            Side::Left => &self.left,
            Side::Right => &self.right,
        }
    }

    fn validates(&self) -> bool {
        self.args.validation.needs_checks()
    }

    /// The size up to which reading `sent` in every task of the other side is cheaper than exchanging both.
    fn broadcast_pays_bytes(&self, sent: Side, limits: &Limits) -> f64 {
        broadcast_pays_bytes(self.side(sent.other()), limits)
    }

    /// Whether `small` may turn out small enough to be broadcast, so that waiting for it pays.
    fn adaptive_pays(&self, small: Side, limits: &Limits) -> bool {
        let (few, many) = (self.side(small), self.side(small.other()));
        let limit = limits.broadcast_limit_bytes.min(self.broadcast_pays_bytes(small, limits));
        let likely = |few: f64, many: f64| few * ADAPTIVE_RATIO <= many && few <= limit * MAX_BROADCAST_LIMITS;
        limits.adaptive
            && limit > 0.0
            && !many.is_one
            && few.likely_bytes().zip(many.likely_bytes()).is_some_and(|(few, many)| likely(few, many))
    }

    /// Whether `few` is likely to be so much smaller than the other side that it pays to wait for its size.
    fn worth_the_wait(&self, few: Side, limits: &Limits) -> bool {
        let (one, other) = (self.side(few), self.side(few.other()));
        self.order.is_empty()
            && !self.validates()
            && may_broadcast(few, &self.args.how)
            && one.likely < 1.0
            && one.likely_bytes().zip(other.likely_bytes()).is_some_and(|(a, b)| a * WAIT_RATIO <= b)
            && self.adaptive_pays(few, limits)
    }

    fn broadcast(&self, side: Side, limits: &Limits) -> Result<(Cost, String), String> {
        let (sent, kept) = (self.side(side), self.side(side.other()));
        let (name, other) = (side.name(), side.other().name());
        let how = &self.args.how;
        if !may_broadcast(side, how) {
            let how = how.to_string().to_lowercase();
            return Err(format!(
                "rows of the {name} side without a match would appear once per task in the result of the {how} join"
            ));
        }
        if self.validates() {
            return Err("validating its keys needs all rows of a key in one task".into());
        }
        let limit = limits.broadcast_limit_bytes;
        let bytes = match sent.bytes {
            None => return Err(format!("the size of the {name} side is unknown")),
            Some(bytes) if bytes > limit => {
                return Err(format!("{} exceed the broadcast limit of {}", mb(bytes), mb(limit)));
            }
            Some(bytes) => bytes,
        };
        let pays = self.broadcast_pays_bytes(side, limits);
        if bytes > pays {
            let copies = kept.tasks.max(limits.workers);
            return Err(format!(
                "{} in each of {copies} tasks would be more than an exchange of both sides",
                mb(bytes)
            ));
        }
        let ordered = self.order.iter().all(|one| *one == side.other()) || *self.order == [side.other(), side];
        if !ordered {
            return Err(format!("the order of the {name} side is promised"));
        }
        if kept.is_one {
            return Err(format!("the {other} side is in one task"));
        }
        if self.worth_the_wait(side.other(), limits) {
            return Err(format!("the {other} side is likely much smaller: its measured size decides"));
        }
        let reason = format!("the {name} side has about {}: rows of the {other} side are not exchanged", mb(bytes));
        Ok((Cost::broadcast(sent, kept, limits.workers), reason))
    }

    fn send_keys(&self, limits: &Limits) -> Result<(Cost, String), String> {
        let (left, right) = (&self.left, &self.right);
        let small = |side: &SideSize| side.bytes.is_some_and(|bytes| bytes <= limits.broadcast_limit_bytes);
        let fewer = left.rows.zip(right.rows).is_some_and(|(l, r)| l * KEYS_ADVANTAGE_FACTOR <= r);
        let much_smaller =
            fewer && right.bytes.is_some_and(|bytes| bytes > limits.partition_bytes / CHEAP_TABLE_DIVISOR);
        if !matches!(self.args.how, JoinType::Semi | JoinType::Anti) {
            return Err("only semi and anti joins need no columns but the keys".into());
        }
        if self.keys_were_sent {
            return Err("the right side is reduced by the left side's keys already".into());
        }
        if !limits.runtime_filters {
            return Err("runtime filters are turned off".into());
        }
        if self.validates() {
            return Err("validating its keys needs all rows of a key in one task".into());
        }
        if !small(left) {
            return Err("the left side is not known to be within the broadcast limit".into());
        }
        if right.is_one {
            return Err("the right side is in one task".into());
        }
        if small(right) && !much_smaller {
            return Err("the right side is small enough to be broadcast".into());
        }
        let reason = "looking many keys up among few is cheaper than a table of the many in every task".into();
        Ok((Cost::send_keys(left, right, limits.workers), reason))
    }

    /// A shuffle in which the other side waits for key summaries, or the measured size, of `first`.
    fn shuffle_after(&self, first: Side, limits: &Limits) -> (Shuffle, Result<(Cost, String), String>) {
        let (few, many) = (self.side(first), self.side(first.other()));
        let filter = limits.runtime_filters
            && may_lose_unmatched(first.other(), self.args)
            && few.likely_rows().zip(many.likely_rows()).is_some_and(|(few, many)| few * FILTER_RATIO <= many)
            && many.bytes.is_some_and(|bytes| bytes > limits.broadcast_limit_bytes);
        let adaptive = self.order.is_empty()
            && !self.validates()
            && may_broadcast(first, &self.args.how)
            && self.adaptive_pays(first, limits);
        let shuffle = Shuffle { first: Some(first), runtime_filter: filter, adaptive };
        let name = first.name();
        if !filter && !adaptive {
            return (
                shuffle,
                Err(format!("the {name} side is not expected to be small or selective enough to wait for")),
            );
        }
        let cost = Cost::shuffle_after(few, many, self.partitions, limits.workers, (filter, adaptive));
        let reason = match (filter, adaptive) {
            (true, true) => format!(
                "the {name} side is expected to be much smaller: it may turn out small enough for a broadcast, and its keys drop rows of the other side"
            ),
            (true, false) => {
                format!("the {name} side is expected to have far fewer rows: its keys drop rows of the other side")
            }
            (false, _) => {
                format!("the {name} side is expected to be much smaller: it may turn out small enough for a broadcast")
            }
        };
        (shuffle, Ok((cost, reason)))
    }
}

/// The size up to which a broadcast to the tasks of `kept` pays, each of which builds its own table: a broadcast costs
/// its bytes in every task, a shuffle three times those of both sides.
pub fn broadcast_pays_bytes(kept: &SideSize, limits: &Limits) -> f64 {
    let tasks = f64::from(kept.tasks.max(limits.workers));
    match kept.bytes {
        Some(bytes) if tasks > 3.0 => 3.0 * bytes / (tasks - 3.0),
        _ => f64::INFINITY,
    }
}

pub fn choose_equi(facts: &EquiFacts<'_>, limits: &Limits) -> Choice {
    let gather = Cost::gather(&facts.left, &facts.right);
    if !facts.same_key_types {
        return Choice::of(Vec::new(), (gather, "join keys of different types".into()));
    }
    let mut candidates = Vec::new();
    let mut add = |strategy, verdict| candidates.push(Candidate { strategy, verdict });
    let colocated = match (facts.colocated, facts.order) {
        (true, _) => Ok((
            Cost::colocated(&facts.left, &facts.right),
            "both sides are read in order of the key: their scans are cut at the same keys".to_owned(),
        )),
        (false, []) => Err("the two sides are not both clustered by the key".to_owned()),
        (false, _) => Err("a row order is promised".to_owned()),
    };
    add(Strategy::Colocated, colocated);
    let send_keys = facts.send_keys(limits);
    let (mut right, mut left) = (facts.broadcast(Side::Right, limits), facts.broadcast(Side::Left, limits));
    // If both may be broadcast, broadcast the smaller one: the other has the tasks that share the work.
    if right.is_ok() && left.is_ok() {
        let smaller_left = facts.left.bytes.zip(facts.right.bytes).is_some_and(|(l, r)| l < r);
        let larger = if smaller_left { &mut right } else { &mut left };
        *larger = Err("the other side is smaller".into());
    }
    let broadcast = right.is_ok() || left.is_ok();
    add(Strategy::Broadcast(Side::Right), right);
    add(Strategy::Broadcast(Side::Left), left);
    add(Strategy::SendKeys, send_keys);
    for first in [Side::Right, Side::Left] {
        let (shuffle, verdict) = facts.shuffle_after(first, limits);
        let verdict = match verdict {
            Ok(_) if broadcast => Err("a side is small enough without waiting".into()),
            other => other,
        };
        add(Strategy::Shuffle(shuffle), verdict);
    }
    let shuffle = Cost::shuffle(&facts.left, &facts.right, facts.partitions);
    add(Strategy::Shuffle(Shuffle::default()), Ok((shuffle, "no cheaper way is possible".into())));
    Choice::of(candidates, (gather, "no other way is possible".into()))
}

/// A cross or inequality join: every row is compared with every row of the other side, so one side is broadcast.
#[derive(Clone, Copy, Debug)]
pub struct PairFacts<'a> {
    pub left: SideSize,
    pub right: SideSize,
    pub order: &'a [Side],
}

pub fn choose_pairs(facts: &PairFacts<'_>, limits: &Limits) -> Choice {
    let (left, right) = (&facts.left, &facts.right);
    let broadcast = |side: Side| {
        let (sent, kept) = if side == Side::Left { (left, right) } else { (right, left) };
        match facts.order {
            [first, ..] if *first == side => return Err(format!("the order of the {} side is promised", side.name())),
            _ => {}
        }
        if facts.order.is_empty() && kept.is_one {
            return Err(format!("the {} side is in one task", side.other().name()));
        }
        // The work is the same either way; what is held in memory decides.
        let cost =
            Cost { handled_bytes: sent.bytes, likely_bytes: sent.bytes, ..Cost::broadcast(sent, kept, limits.workers) };
        Ok((
            cost,
            format!(
                "every row is paired with every other: the {} side is the smaller one to hold in memory",
                side.name()
            ),
        ))
    };
    let gather = Cost::gather(left, right);
    if left.is_one && right.is_one {
        return Choice::of(Vec::new(), (gather, "both sides are in one task already".into()));
    }
    let candidates = [Side::Right, Side::Left]
        .map(|side| Candidate { strategy: Strategy::Broadcast(side), verdict: broadcast(side) });
    Choice::of(candidates.into(), (gather, "no other way is possible".into()))
}

/// An as-of join.
#[derive(Clone, Copy, Debug)]
pub struct AsofFacts {
    pub left: SideSize,
    pub right: SideSize,
    /// It has `by` keys.
    pub by_keys: bool,
    /// Unsorted rows are detected in parts as in the whole, or the plan disables the check.
    pub parts_tell_unsorted: bool,
    /// Its sides are declared sorted by the `by` keys, which Polars checks over all rows.
    pub declared: bool,
    pub partitions: u32,
}

pub fn choose_asof(facts: &AsofFacts, limits: &Limits) -> Choice {
    let (left, right) = (&facts.left, &facts.right);
    let small = match right.bytes {
        _ if left.is_one => Err("its input is in one task already".to_owned()),
        None => Err("the size of the right side is unknown".to_owned()),
        Some(bytes) if bytes > limits.broadcast_limit_bytes => {
            Err(format!("{} exceed the broadcast limit of {}", mb(bytes), mb(limits.broadcast_limit_bytes)))
        }
        Some(bytes) => Ok(bytes),
    };
    let told = facts.parts_tell_unsorted;
    let cost = Cost::broadcast(right, left, limits.workers);
    let lookup = small.clone().and_then(|bytes| match told {
        true => {
            Ok((cost, format!("the right side has about {}: every row looks up its match independently", mb(bytes))))
        }
        false => {
            Err("Polars must raise if the rows are unsorted, and a part of them may be sorted by chance".to_owned())
        }
    });
    let halo = match (&small, &lookup) {
        (Err(why), _) => Err(why.clone()),
        (_, Ok(_)) => Err("no rows of other tasks are needed".to_owned()),
        _ => Ok((
            Cost { rounds: 2, ..cost },
            "each task also sees the last row of the tasks before it, by which unsorted rows are noticed".to_owned(),
        )),
    };
    let shuffle = match (facts.by_keys, left.is_one, facts.declared) {
        _ if small.is_ok() => Err("the right side is small enough to be broadcast".to_owned()),
        (_, true, _) => Err("its input is in one task already".to_owned()),
        (_, _, true) => Err("its input is declared sorted".to_owned()),
        (false, ..) => Err("it has no `by` keys".to_owned()),
        (true, ..) => {
            Ok((Cost::shuffle(left, right, facts.partitions), "rows of one `by` key are in one task".to_owned()))
        }
    };
    // The reason if nothing else is possible.
    let why = if left.is_one {
        "its input is in one task already"
    } else if facts.declared {
        "its input is declared sorted"
    } else {
        "an as-of join without `by` keys, of a side too large to be sent whole"
    };
    let candidates = vec![
        Candidate { strategy: Strategy::Broadcast(Side::Right), verdict: lookup },
        Candidate { strategy: Strategy::Halo, verdict: halo },
        Candidate { strategy: Strategy::Shuffle(Shuffle::default()), verdict: shuffle },
    ];
    Choice::of(candidates, (Cost::gather(left, right), why.to_owned()))
}
