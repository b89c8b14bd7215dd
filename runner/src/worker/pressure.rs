//! Decides what a worker does about its memory: nothing, have outputs of other queries give way, stop its tasks, or
//! restart. Pure.
//!
//! The memory of a worker belongs to the query whose task runs. Outputs of other queries use what is left, and a task is
//! blamed for running out only if it does so without them.

use std::time::{Duration, Instant};

/// How long a stopped task may take to free its memory before the process has to restart.
const GRACE: Duration = Duration::from_secs(2);
/// How long to wait for the engine to spill, which it starts at its own, lower budget.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long to wait for outputs of other queries to be moved to disk.
const MOVING_PATIENCE: Duration = Duration::from_secs(5);
/// Above this share of the limit, do not wait for spilling …
const HARD_PERCENT: u64 = 115;
/// … and above this one, do not wait for tasks to stop.
const LAST_PERCENT: u64 = 130;

/// Where a cgroup enforces the limit, the kernel kills the process before that: stop tasks at this share of it, …
const ENFORCED_PERCENT: u64 = 90;
/// … if this share is allocated. The rest may be freed memory that the allocator has not given back yet.
const ALLOCATED_PERCENT: u64 = 75;
/// From this share of the limit on, outputs of other queries move to disk.
const GIVE_WAY_PERCENT: u64 = 75;

/// Above this share of an enforced limit, the allocator is asked for freed memory, …
const TRIM_PERCENT: u64 = 60;
/// … if it keeps at least this share of the limit.
const KEPT_PERCENT: u64 = 10;

/// What is known of the process now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub limit: u64,
    /// Allocated, with outputs in memory.
    pub used: u64,
    /// What the kernel counts, if it enforces the limit.
    pub resident: Option<u64>,
    /// Of those, outputs of queries that run nothing here.
    pub others: u64,
    /// Whether any task runs.
    pub runs: bool,
    /// Whether a task that was given up still holds memory: its query has ended, or has it run again elsewhere.
    pub given_up: bool,
    /// Whether outputs are being moved to disk.
    pub moving: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// Move this many bytes of other queries' outputs to disk.
    MakeWay(u64),
    /// Stop the tasks that run.
    Stop(Blame),
    /// Restart the process.
    GiveUp(Blame),
}

/// Whose memory it is that a task has to stop for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    Task,
    OtherQuery,
}

/// What was decided before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pressure {
    over_since: Option<Instant>,
    stopped: Option<(Instant, Blame)>,
}

impl Pressure {
    pub fn step(&mut self, seen: &Seen, now: Instant) -> Step {
        let over = |used: u64, percent: u64| used / 100 > seen.limit / 100 * percent / 100;
        let way = if seen.runs && seen.others > 0 && !seen.moving && over(seen.used, GIVE_WAY_PERCENT) {
            let most = seen.limit / 100 * GIVE_WAY_PERCENT;
            Step::MakeWay(seen.others.min(seen.used.saturating_sub(most)))
        } else {
            Step::Nothing
        };
        if !seen.runs || !is_short(seen, 0) {
            (self.over_since, self.stopped) = (None, None);
            return way;
        }
        let over_for = now.duration_since(*self.over_since.get_or_insert(now));
        if let Some((since, blame)) = self.stopped {
            let at_once = over(seen.used, LAST_PERCENT);
            return if at_once || now.duration_since(since) > GRACE { Step::GiveUp(blame) } else { way };
        }
        let near_a_kill = near_a_kill(seen, 0);
        if !near_a_kill && !over(seen.used, HARD_PERCENT) {
            let others_move = seen.others > 0 && (way != Step::Nothing || seen.moving);
            let patience = if others_move { MOVING_PATIENCE } else { PATIENCE };
            if over_for < patience {
                return way;
            }
        }
        let is_its_own = !seen.given_up && is_short(seen, seen.others);
        let blame = if is_its_own { Blame::Task } else { Blame::OtherQuery };
        self.stopped = Some((now, blame));
        // What a task holds that was given up cannot be had back otherwise.
        if seen.given_up || over(seen.used, LAST_PERCENT) { Step::GiveUp(blame) } else { Step::Stop(blame) }
    }
}

/// Whether the allocator keeps much freed memory of which the kernel will run short.
pub fn keeps_freed(seen: &Seen) -> bool {
    let percent = |percent: u64| seen.limit / 100 * percent;
    let short = seen.resident.filter(|resident| *resident > percent(TRIM_PERCENT));
    short.is_some_and(|resident| resident > seen.used + percent(KEPT_PERCENT))
}

/// Whether memory would be short without these bytes.
fn is_short(seen: &Seen, without: u64) -> bool {
    seen.used.saturating_sub(without) > seen.limit || near_a_kill(seen, without)
}

fn near_a_kill(seen: &Seen, without: u64) -> bool {
    let over = |used: u64, percent: u64| used.saturating_sub(without) / 100 > seen.limit / 100 * percent / 100;
    seen.resident.is_some_and(|resident| over(seen.used, ALLOCATED_PERCENT) && over(resident, ENFORCED_PERCENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn freed_memory_is_asked_for_where_the_kernel_counts_it() {
        let of = |used: u64, resident: Option<u64>| {
            keeps_freed(&Seen {
                limit: 100 * MIB,
                used: used * MIB,
                resident: resident.map(|mib| mib * MIB),
                ..Seen::default()
            })
        };
        assert!(of(40, Some(61)));
        assert!(!of(40, Some(59)), "there is room");
        assert!(!of(60, Some(65)), "it is used");
        assert!(!of(40, None), "nobody counts it");
    }

    fn seen(used: u64, others: u64) -> Seen {
        Seen { limit: 1000 * MIB, used: used * MIB, others: others * MIB, runs: true, ..Seen::default() }
    }

    /// The step after the same has been seen for so long.
    fn after(seen: &Seen, ms: u64) -> Step {
        let (mut pressure, began) = (Pressure::default(), Instant::now());
        pressure.step(seen, began);
        pressure.step(seen, began + Duration::from_millis(ms))
    }

    #[test]
    fn a_task_that_takes_too_much_by_itself_is_stopped_and_then_given_up() {
        let (mut pressure, began) = (Pressure::default(), Instant::now());
        let at = |ms| began + Duration::from_millis(ms);
        assert_eq!(pressure.step(&seen(1000, 0), at(0)), Step::Nothing);
        assert_eq!(pressure.step(&seen(1050, 0), at(20)), Step::Nothing, "the engine may spill");
        assert_eq!(pressure.step(&seen(1050, 0), at(400)), Step::Stop(Blame::Task));
        assert_eq!(pressure.step(&seen(1050, 0), at(1000)), Step::Nothing, "it may take a while to stop");
        assert_eq!(pressure.step(&seen(1050, 0), at(2500)), Step::GiveUp(Blame::Task));
        assert_eq!(pressure.step(&seen(900, 0), at(2600)), Step::Nothing);
        assert_eq!(pressure.step(&seen(1050, 0), at(2620)), Step::Nothing, "the next task has its own time");
    }

    #[test]
    fn far_beyond_the_limit_nothing_is_waited_for() {
        assert_eq!(Pressure::default().step(&seen(1200, 0), Instant::now()), Step::Stop(Blame::Task));
        assert_eq!(Pressure::default().step(&seen(1400, 0), Instant::now()), Step::GiveUp(Blame::Task));
        let idle = Seen { runs: false, ..seen(1400, 100) };
        assert_eq!(Pressure::default().step(&idle, Instant::now()), Step::Nothing);
    }

    #[test]
    fn outputs_of_other_queries_make_way_before_memory_is_short() {
        assert_eq!(after(&seen(700, 200), 0), Step::Nothing);
        assert_eq!(after(&seen(800, 200), 0), Step::MakeWay(50 * MIB));
        assert_eq!(after(&seen(900, 100), 0), Step::MakeWay(100 * MIB), "no more than they have");
        assert_eq!(after(&seen(900, 0), 0), Step::Nothing);
        let moving = Seen { moving: true, ..seen(800, 200) };
        assert_eq!(after(&moving, 0), Step::Nothing);
    }

    #[test]
    fn tasks_wait_for_outputs_that_make_way() {
        let moving = Seen { moving: true, ..seen(1100, 200) };
        assert_eq!(after(&moving, 1000), Step::Nothing);
        assert_eq!(after(&seen(1100, 200), 1000), Step::MakeWay(200 * MIB));
        assert_eq!(after(&moving, 6000), Step::Stop(Blame::OtherQuery), "not for ever");
        // There is no time for it.
        assert_eq!(after(&Seen { moving: true, ..seen(1200, 250) }, 20), Step::Nothing, "it was stopped before");
        let (mut pressure, now) = (Pressure::default(), Instant::now());
        assert_eq!(pressure.step(&Seen { moving: true, ..seen(1200, 250) }, now), Step::Stop(Blame::OtherQuery));
        let mut pressure = Pressure::default();
        assert_eq!(pressure.step(&Seen { moving: true, ..seen(1200, 100) }, now), Step::Stop(Blame::Task));
    }

    #[test]
    fn a_task_is_not_blamed_for_one_that_was_given_up() {
        let beside = Seen { given_up: true, ..seen(1050, 0) };
        assert_eq!(after(&beside, 0), Step::Nothing);
        assert_eq!(after(&beside, 400), Step::GiveUp(Blame::OtherQuery));
    }

    #[test]
    fn a_cgroup_leaves_less_room() {
        let inside = |used, resident: u64, others| Seen { resident: Some(resident * MIB), ..seen(used, others) };
        let first = |seen: Seen| Pressure::default().step(&seen, Instant::now());
        assert_eq!(first(inside(800, 950, 0)), Step::Stop(Blame::Task));
        assert_eq!(first(inside(700, 950, 0)), Step::Nothing, "the allocator has what the task has freed");
        assert_eq!(first(inside(800, 850, 0)), Step::Nothing);
        assert_eq!(first(inside(900, 950, 200)), Step::Stop(Blame::OtherQuery));
        assert_eq!(first(inside(800, 850, 200)), Step::MakeWay(50 * MIB));
    }
}
