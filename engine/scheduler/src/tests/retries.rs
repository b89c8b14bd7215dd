//! One test per rule: what is tried again, how often, where, and what the user reads when it is given up; slow and
//! silent attempts.

use super::case::*;
use crate::{Event, Limits, ResolvedInputs};
use floe_wire::error::Category;
use floe_wire::graph::StageId;

/// One stage of `tasks` tasks on workers a, b, … with two slots each.
fn one_stage(tasks: usize, workers: &[&str], limits: Limits) -> Case {
    let mut case = Case::with(&[&[]], &[0], limits);
    for worker in workers {
        case.acts(up(worker, 2));
    }
    case.acts(resolved(0, &vec![""; tasks]));
    case
}

fn wake(actions: &[String]) -> u64 {
    let wake = actions.iter().find_map(|action| action.strip_prefix("wake ")).expect("an alarm");
    wake.parse().expect("a time")
}

#[test]
fn io_failures_pause_longer_each_time_and_then_fail() {
    let mut case = one_stage(1, &["a", "b"], Limits::default());
    let mut worker = "a";
    for (attempt, full) in [200, 400, 800, 1600].into_iter().enumerate() {
        let actions = case.tell(failed(&format!("0.0#{attempt}"), worker, Category::Io));
        assert_eq!(actions.len(), 1, "{actions:?}");
        let pause = wake(&actions) - case.now;
        assert!((full / 2..=full).contains(&pause), "pause {pause} of at most {full}");
        let before = case.now + pause - 1;
        case.at(before).on(Event::Tick, &[]);
        // On another worker, as there is one.
        worker = if worker == "a" { "b" } else { "a" };
        let again = format!("launch 0.0#{} on {worker}", attempt + 1);
        case.at(before + 1).on(Event::Tick, &[again.as_str()]);
    }
    let says = ["TestError: io of 0.0#4 (task 0 of stage 0 (work 0) failed 5 times, last on worker a)"];
    case.fails(failed("0.0#4", "a", Category::Io), "io", &says);
}

#[test]
fn pauses_are_bounded_and_the_same_in_every_run() {
    let limits = Limits { io_per_task: 40, io_backoff_max_ms: 1_000, ..Limits::default() };
    let run = |seed: u64| {
        let mut case = one_stage(1, &["a"], Limits { seed, ..limits });
        let mut pauses = Vec::new();
        for attempt in 0..39 {
            let until = wake(&case.tell(failed(&format!("0.0#{attempt}"), "a", Category::Io)));
            pauses.push(until - case.now);
            case.at(until).acts(Event::Tick);
        }
        pauses
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert!(run(1).iter().all(|pause| *pause <= 1_000));
}

#[test]
fn io_failures_have_one_budget_for_the_query() {
    let mut case = one_stage(4, &["a", "b"], Limits { io_per_query: 2, ..Limits::default() });
    case.on(failed("0.0#0", "a", Category::Io), &[]).on(failed("0.1#0", "b", Category::Io), &[]);
    case.fails(failed("0.2#0", "a", Category::Io), "io", &["task 2 of stage 0", "used up its 2 retries"]);
}

#[test]
fn a_task_that_ends_its_workers_ends_the_query() {
    let mut case = one_stage(1, &["a"], Limits::default());
    case.on(lost("a"), &[]);
    case.on(up("b", 2), &["launch 0.0#1 on b"]).on(lost("b"), &[]);
    // Two losses make it suspect: it runs alone from now on.
    case.on(up("c", 2), &["launch 0.0#2 on c alone"]).on(lost("c"), &[]);
    case.on(up("a", 2), &["launch 0.0#3 on a alone"]);
    let says = ["task 0 of stage 0 (work 0) was lost with its worker 4 times (workers a, b, c)", "spec.compute.memory"];
    case.fails(lost("a"), "lost-worker", &says);
}

#[test]
fn lost_workers_have_a_budget_of_their_own() {
    let mut case = one_stage(3, &["a"], Limits { lost_per_query: 2, ..Limits::default() });
    // Two attempts on one worker count as one loss of it; a worker without work or outputs as none.
    case.on(lost("a"), &[]).on(up("z", 0), &[]).on(lost("z"), &[]);
    case.on(up("b", 1), &["launch 0.0#1 on b"]);
    case.on(done("0.0#1", "b", "b"), &["launch 0.1#1 on b"]);
    case.on(done("0.1#1", "b", "store"), &["launch 0.2#0 on b"]);
    case.on(failed("0.2#0", "b", Category::LostWorker), &["launch 0.2#1 on b"]);
    case.on(draining("b"), &[]);
    case.fails(lost("b"), "lost-worker", &["were lost more than 2 times while the query ran"]);
}

#[test]
fn a_cancellation_from_elsewhere_counts_as_a_lost_worker() {
    let mut case = one_stage(1, &["a"], Limits::default());
    case.on(failed("0.0#0", "a", Category::Cancelled), &["launch 0.0#1 on a"]);
}

#[test]
fn inputs_that_never_can_be_fetched_end_the_query() {
    let mut case = Case::with(&[&[], &[0]], &[1], Limits { fetch_per_task: 2, ..Limits::default() });
    case.on(up("a", 1), &["resolve 0"]).on(resolved(0, &[""]), &["launch 0.0#0 on a"]);
    case.on(done("0.0#0", "a", "a"), &["resolve 1"]).on(resolved(1, &["0.0"]), &["launch 1.0#0 on a"]);
    case.on(inputs_lost("1.0#0", "a", &["0.0#0"]), &["launch 0.0#1 on a"]);
    case.on(done("0.0#1", "a", "a"), &["launch 1.0#1 on a"]);
    let says = ["InputsLost", "task 0 of stage 1 (work 1) could not read outputs of earlier tasks 2 times"];
    case.fails(inputs_lost("1.0#1", "a", &["0.0#1"]), "lost-worker", &says);
}

#[test]
fn out_of_memory_is_retried_alone_and_then_in_smaller_parts() {
    let mut case = one_stage(6, &["a", "b"], Limits::default());
    // a and b run two each. The worker with the least to do gets nothing new until it is idle.
    case.on(failed("0.0#0", "a", Category::OutOfMemory), &[]);
    case.on(done("0.1#0", "b", "inline"), &["launch 0.4#0 on b"]);
    case.on(done("0.2#0", "a", "inline"), &["launch 0.0#1 on a alone"]);
    case.on(done("0.3#0", "b", "inline"), &["launch 0.5#0 on b"]);
    case.on(done("0.4#0", "b", "inline"), &[]);
    // What was made so far is dropped, and attempt numbers go on.
    let again = ["cancel 0.5#0 on b", "release 0", "resolve 0 finer 1"];
    case.on(failed("0.0#1", "a", Category::OutOfMemory), &again);
    case.on(done("0.5#0", "b", "inline"), &[]).on(resolved(0, &[""; 12]), &[]);
    let actions = case.acts(finer(1, resolved(0, &[""; 12])));
    assert_eq!(actions.len(), 4, "{actions:?}");
    assert!(actions.iter().all(|action| action.starts_with("launch") && action.contains("#2 on")), "{actions:?}");
}

#[test]
fn a_stage_that_cannot_be_cut_finer_fails_and_says_what_to_change() {
    let says = ["out-of-memory of 0.0#0", "had a worker for itself and ran out of memory", "compute.memory"];
    // With one slot it ran alone from the start: the same again would not help.
    let mut case = Case::with(&[&[]], &[0], Limits::default());
    case.acts(up("a", 1));
    case.on(resolved(0, &[""]), &["launch 0.0#0 on a"]);
    case.on(failed("0.0#0", "a", Category::OutOfMemory), &["release 0", "resolve 0 finer 1"]);
    case.fails(finer(1, resolved(0, &[""])), "out-of-memory", &says);
    // Nor is it cut again without end.
    let mut case = Case::with(&[&[]], &[0], Limits { finer_per_stage: 2, ..Limits::default() });
    case.acts(up("a", 1));
    case.on(resolved(0, &[""]), &["launch 0.0#0 on a"]);
    case.on(failed("0.0#0", "a", Category::OutOfMemory), &["release 0", "resolve 0 finer 1"]);
    case.on(finer(1, resolved(0, &[""; 4])), &["launch 0.0#1 on a"]);
    case.on(failed("0.0#1", "a", Category::OutOfMemory), &["release 0", "resolve 0 finer 2"]);
    case.on(finer(2, resolved(0, &[""; 16])), &["launch 0.0#2 on a"]);
    let says = ["out-of-memory of 0.0#2", "and so it did in smaller parts 2 times", "compute.memory"];
    case.fails(failed("0.0#2", "a", Category::OutOfMemory), "out-of-memory", &says);
}

#[test]
fn a_stage_that_others_were_cut_by_stays_as_it_is() {
    let mut case = Case::with(&[&[], &[0]], &[1], Limits::default());
    case.acts(up("a", 1));
    case.on(resolved(0, &[""]), &["launch 0.0#0 on a"]).on(done("0.0#0", "a", "a"), &["resolve 1"]);
    case.on(resolved(1, &["0.0"]), &["launch 1.0#0 on a"]).on(lost("a"), &[]);
    case.on(up("b", 1), &["launch 0.0#1 on b"]);
    case.fails(failed("0.0#1", "b", Category::OutOfMemory), "out-of-memory", &["compute.memory"]);
}

#[test]
fn an_adaptive_broadcast_that_does_not_fit_is_undone() {
    let mut case = Case::with(&[&[], &[0], &[0, 1]], &[2], Limits::default());
    // Stage 2 may read all of 0 in place of what 1 would make.
    case.state.stages[2].replaces = Some(1);
    case.acts(up("a", 1));
    case.on(resolved(0, &[""]), &["launch 0.0#0 on a"]);
    case.on(done("0.0#0", "a", "a"), &["resolve 1"]);
    case.on(left_out(1), &["resolve 2"]).on(resolved(2, &["0.0"]), &["launch 2.0#0 on a"]);
    let again = ["release 2", "resolve 1 finer 1"];
    case.on(failed("2.0#0", "a", Category::OutOfMemory), &again);
    case.on(finer(1, resolved(1, &[""])), &["launch 1.0#0 on a"]);
    case.on(done("1.0#0", "a", "a"), &["resolve 2 finer 1"]);
    case.on(finer(1, resolved(2, &["0.0 1.0"])), &["launch 2.0#1 on a"]);
    case.on(done("2.0#1", "a", "a"), &["release 0", "release 1", "succeed [2.0#1]"]);
}

#[test]
fn a_stage_without_tasks_is_not_one_that_was_left_out() {
    let mut case = Case::with(&[&[], &[0], &[0, 1]], &[2], Limits::default());
    case.state.stages[2].replaces = Some(1);
    case.acts(up("a", 1));
    case.on(resolved(0, &[""]), &["launch 0.0#0 on a"]);
    case.on(done("0.0#0", "a", "a"), &["resolve 1"]);
    case.on(resolved(1, &[]), &["resolve 2"]).on(resolved(2, &["0.0"]), &["launch 2.0#0 on a"]);
    // It ran as planned: only its own tasks can get smaller.
    case.on(failed("2.0#0", "a", Category::OutOfMemory), &["release 2", "resolve 2 finer 1"]);
}

#[test]
fn after_running_alone_a_worker_is_shared_again() {
    let mut case = one_stage(3, &["a"], Limits::default());
    case.on(failed("0.0#0", "a", Category::OutOfMemory), &[]);
    case.on(done("0.1#0", "a", "inline"), &["launch 0.0#1 on a alone"]);
    case.on(done("0.0#1", "a", "inline"), &["launch 0.2#0 on a"]);
}

#[test]
fn internal_errors_are_retried_once() {
    let mut case = one_stage(1, &["a"], Limits::default());
    case.on(failed("0.0#0", "a", Category::Internal), &["launch 0.0#1 on a"]);
    case.fails(failed("0.0#1", "a", Category::Internal), "internal", &["internal of 0.0#1", "failed 2 times"]);
}

#[test]
fn user_errors_are_never_retried_and_stay_as_they_are() {
    let mut case = one_stage(2, &["a"], Limits::default());
    let ended = ["cancel 0.1#0 on a", "fail user TestError: user of 0.0#0"];
    case.on(failed("0.0#0", "a", Category::User), &ended);
}

#[test]
fn the_user_error_of_the_first_task_is_reported() {
    let mut case = one_stage(4, &["a", "b"], Limits::default());
    assert_eq!(case.tell(failed("0.2#0", "a", Category::User)), ["cancel 0.3#0 on b", "wake 100"]);
    case.at(50).on(failed("0.1#0", "b", Category::User), &[]);
    // What else happens meanwhile starts nothing.
    case.on(up("c", 2), &[]).on(failed("0.2#0", "a", Category::User), &[]);
    case.on(done("0.0#0", "a", "a"), &["fail user TestError: user of 0.1#0"]);

    let mut case = one_stage(4, &["a", "b"], Limits::default());
    case.on(failed("0.2#0", "a", Category::User), &["cancel 0.3#0 on b"]);
    let ended = ["cancel 0.0#0 on a", "cancel 0.1#0 on b", "fail user TestError: user of 0.2#0"];
    case.at(99).on(Event::Tick, &[]).at(100).on(Event::Tick, &ended);

    // Neither a lost worker nor a cancellation hides it.
    let mut case = one_stage(4, &["a", "b"], Limits::default());
    case.on(failed("0.3#0", "b", Category::User), &[]).on(lost("b"), &[]);
    case.on(Event::Cancel, &["cancel 0.0#0 on a", "cancel 0.2#0 on a", "fail user TestError: user of 0.3#0"]);
}

#[test]
fn a_deadline_seen_by_a_task_ends_the_query() {
    let mut case = one_stage(1, &["a"], Limits::default());
    case.fails(failed("0.0#0", "a", Category::Deadline), "deadline", &["TestError"]);
}

/// Three of four tasks done in a second each, 0.3 still running since 0.
fn one_slow(workers: &[&str], limits: Limits) -> Case {
    let mut case = one_stage(4, workers, limits);
    for (task, worker) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
        case.acts(started(&format!("0.{task}#0"), workers.get(worker).expect("two workers")));
    }
    case.at(1_000);
    for (task, worker) in [(0, 0), (1, 1), (2, 0)] {
        let worker = workers.get(worker).expect("two workers");
        case.acts(done(&format!("0.{task}#0"), worker, worker));
    }
    case
}

#[test]
fn a_slow_task_gets_a_second_attempt_elsewhere_and_the_first_to_finish_wins() {
    for (winner, loser) in [(("0.3#0", "b"), ("0.3#1", "a")), (("0.3#1", "a"), ("0.3#0", "b"))] {
        let mut case = one_slow(&["a", "b"], Limits::default());
        case.at(5_000).on(Event::Tick, &[]);
        case.at(5_001).on(Event::Tick, &["launch 0.3#1 on a"]);
        case.at(60_000).on(Event::Tick, &[]);
        let (cancelled, won) = (format!("cancel {} on {}", loser.0, loser.1), format!("0.2#0 {}", winner.0));
        let actions = case.acts(done(winner.0, winner.1, winner.1));
        assert_eq!(actions, [cancelled, format!("succeed [0.0#0 0.1#0 {won}]")]);
        case.on(done(loser.0, loser.1, loser.1), &[]);
        assert_eq!(case.state.progress().stages[0].rows, 40);
        assert_eq!(case.state.progress().counters.speculative, 1);
        assert_eq!(case.state.progress().counters.speculative_won, u64::from(winner.0 == "0.3#1"));
    }
}

#[test]
fn slow_means_longer_than_others_took() {
    let limits = Limits { slow_min_ms: 10, ..Limits::default() };
    let mut case = one_slow(&["a", "b"], limits);
    case.at(2_000).on(Event::Tick, &[]).at(2_001).on(Event::Tick, &["launch 0.3#1 on a"]);
    let mut case = one_slow(&["a", "b"], Limits { slow_after_done: 4, ..limits });
    case.at(90_000).on(Event::Tick, &[]);
    let mut case = one_slow(&["a", "b"], Limits { speculation: false, ..limits });
    case.at(90_000).on(Event::Tick, &[]);
}

#[test]
fn a_task_that_waits_on_its_worker_is_not_slow() {
    let mut case = one_stage(5, &["a", "b"], Limits { slow_min_ms: 10, slow_after_done: 2, ..Limits::default() });
    // 0.1 and 0.3 are launched on b, which is busy with something else and starts neither.
    case.acts(started("0.0#0", "a"));
    case.at(1_000).on(done("0.0#0", "a", "a"), &["launch 0.4#0 on a"]);
    case.acts(started("0.2#0", "a"));
    case.at(2_000).on(done("0.2#0", "a", "a"), &[]);
    // 0.4 waited for 80 seconds, and took one.
    case.at(81_000).on(started("0.4#0", "a"), &[]).at(82_000).on(done("0.4#0", "a", "a"), &[]);
    case.at(90_000).on(Event::Tick, &[]);
    case.acts(started("0.1#0", "b"));
    case.at(92_000).on(Event::Tick, &[]).at(92_001).on(Event::Tick, &["launch 0.1#1 on a"]);
}

#[test]
fn a_task_with_more_to_read_may_take_longer() {
    let mut case = Case::with(&[&[], &[0]], &[1], Limits { slow_min_ms: 10, ..Limits::default() });
    case.acts(up("a", 2));
    case.acts(up("b", 2));
    case.acts(resolved(0, &[""]));
    case.acts(done("0.0#0", "a", "inline"));
    let tasks = [100, 100, 100, 500];
    let tasks = tasks.map(|bytes| ResolvedInputs { inputs: [task("0.0")].into(), bytes: vec![bytes] });
    case.acts(Event::Resolved { stage: StageId(1), finer: 0, tasks: tasks.to_vec() });
    for (what, worker) in [("1.0#0", "b"), ("1.1#0", "a"), ("1.2#0", "b"), ("1.3#0", "a")] {
        case.acts(started(what, worker));
    }
    case.at(1_000);
    for (what, worker) in [("1.0#0", "b"), ("1.1#0", "a"), ("1.2#0", "b")] {
        case.acts(done(what, worker, "inline"));
    }
    // Two and a half times the average to read, so two and a half times the time.
    case.at(5_000).on(Event::Tick, &[]).at(5_001).on(Event::Tick, &["launch 1.3#1 on b"]);
}

#[test]
fn a_second_attempt_needs_another_worker_with_room() {
    let mut case = one_slow(&["a", "b"], Limits::default());
    case.on(draining("a"), &[]).at(20_000).on(Event::Tick, &[]);
    case.on(up("c", 0), &[]).on(up("c", 1), &["launch 0.3#1 on c"]);
    // One of two fails or is lost: the other goes on, and nothing else is started.
    case.on(failed("0.3#1", "c", Category::Io), &[]).on(draining("c"), &[]);
    case.on(done("0.3#0", "b", "b"), &["succeed [0.0#0 0.1#0 0.2#0 0.3#0]"]);
}

#[test]
fn second_attempts_do_not_hide_that_a_task_fails() {
    let mut case = one_slow(&["a", "b"], Limits::default());
    case.at(5_001).on(Event::Tick, &["launch 0.3#1 on a"]);
    case.on(failed("0.3#1", "a", Category::Internal), &["launch 0.3#2 on a"]);
    // No retry is left: the first attempt is the last.
    case.on(failed("0.3#2", "a", Category::Internal), &[]).at(90_000).on(Event::Tick, &[]);
    case.fails(failed("0.3#0", "b", Category::Io), "internal", &["internal of 0.3#2", "failed 2 times"]);
}

#[test]
fn a_silent_attempt_is_replaced() {
    let mut case = one_stage(1, &["a", "b"], Limits { silent_ms: 1_000, ..Limits::default() });
    // An attempt that never sent progress may be unable to.
    case.at(50_000).on(Event::Tick, &[]);
    assert_eq!(case.tell(progress("0.0#0", "a", 1)), ["wake 51000"]);
    case.at(50_500).on(progress("0.0#0", "a", 1), &[]);
    assert_eq!(case.at(51_000).tell(Event::Tick), ["wake 51500"]);
    case.at(51_500).on(Event::Tick, &["cancel 0.0#0 on a", "launch 0.0#1 on b"]);
    case.on(done("0.0#0", "a", "a"), &[]);
}
