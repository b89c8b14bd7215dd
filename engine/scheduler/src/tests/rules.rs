//! One test per rule: dependencies, placement, lost workers and outputs, how a query ends.

use super::case::*;
use crate::{Event, Limits, ResolvedInputs, StagePhase, State};
use floe_wire::catalog::Catalog;
use floe_wire::error::Category;
use floe_wire::graph::{AdaptiveForm, Exchange, Leaf, Nondeterminism, Read, StageId};

/// Two tasks, two readers, one worker each; all outputs stay where they were made.
fn two_stages() -> Case {
    let mut case = Case::new(&[&[], &[0]], &[1]);
    case.on(up("a", 1), &["resolve 0"]);
    case.on(up("b", 1), &[]);
    case.on(resolved(0, &["", ""]), &["launch 0.0#0 on a", "launch 0.1#0 on b"]);
    case
}

#[test]
fn stages_follow_their_inputs() {
    let mut case = two_stages();
    case.on(done("0.0#0", "a", "a"), &[]);
    case.on(done("0.1#0", "b", "b"), &["resolve 1"]);
    case.on(resolved(1, &["0.0 0.1", "0.0 0.1"]), &["launch 1.0#0 on a", "launch 1.1#0 on b"]);
    case.on(done("1.1#0", "b", "b"), &[]);
    case.on(done("1.0#0", "a", "a"), &["release 0", "succeed [1.0#0 1.1#0]"]);
    case.on(lost("a"), &[]);
    case.on(up("c", 4), &[]);
}

#[test]
fn independent_stages_run_side_by_side_and_earlier_ones_first() {
    let mut case = Case::new(&[&[], &[], &[0, 1]], &[2]);
    case.on(Event::Tick, &["resolve 0", "resolve 1"]);
    case.on(resolved(1, &["", ""]), &[]);
    case.on(resolved(0, &["", ""]), &[]);
    case.on(up("a", 3), &["launch 0.0#0 on a", "launch 0.1#0 on a", "launch 1.0#0 on a"]);
    case.on(done("1.0#0", "a", "a"), &["launch 1.1#0 on a"]);
    case.on(done("0.1#0", "a", "a"), &[]);
    case.on(done("0.0#0", "a", "a"), &[]);
    case.on(done("1.1#0", "a", "a"), &["resolve 2"]);
}

#[test]
fn a_stage_without_tasks_is_done_at_once() {
    let mut case = Case::new(&[&[], &[0], &[1]], &[2]);
    case.on(Event::Tick, &["resolve 0"]);
    case.on(resolved(0, &[]), &["resolve 1"]);
    case.on(left_out(1), &["resolve 2"]);
    case.on(resolved(2, &[]), &["succeed []"]);
}

#[test]
fn a_side_waits_for_the_one_that_may_be_sent_whole() {
    let mut graph = graph(&[&[], &[], &[0, 1]], &[2]);
    let leaves = vec![
        Leaf::Source { what: String::new(), per_task: Vec::new() },
        Leaf::Exchange { stages: vec![StageId(0)], read: Read::All },
    ];
    graph.stages[2].adaptive = Some(Box::new(AdaptiveForm {
        small: vec![StageId(0)],
        bytes: 100,
        replaces: StageId(1),
        label: String::new(),
        fragment: bytes::Bytes::new(),
        explain: Vec::new(),
        leaves,
        facts: Default::default(),
    }));
    for small in [true, false] {
        let mut case = Case { state: State::new(&graph, Limits::default()).unwrap(), now: 0 };
        case.on(up("a", 4), &["resolve 0"]);
        case.on(resolved(0, &[""]), &["launch 0.0#0 on a"]).on(done("0.0#0", "a", "a"), &["resolve 1"]);
        if small {
            case.on(resolved(1, &[]), &["resolve 2"]);
            case.on(resolved(2, &["0.0"]), &["launch 2.0#0 on a"]);
        } else {
            case.on(resolved(1, &[""]), &["launch 1.0#0 on a"]).on(done("1.0#0", "a", "a"), &["resolve 2"]);
            case.on(resolved(2, &["0.0 1.0"]), &["launch 2.0#0 on a"]);
        }
        let released: &[&str] =
            if small { &["release 0", "succeed [2.0#0]"] } else { &["release 0", "release 1", "succeed [2.0#0]"] };
        case.on(done("2.0#0", "a", "a"), released);
    }
}

#[test]
fn nothing_to_do_is_done() {
    Case::new(&[], &[]).on(Event::Tick, &["succeed "]);
}

#[test]
fn a_stage_that_no_result_depends_on_never_runs() {
    let mut case = Case::new(&[&[], &[]], &[1]);
    case.on(up("a", 4), &["resolve 1"]);
    case.on(resolved(0, &[""]), &[]);
    case.on(resolved(1, &[""]), &["launch 1.0#0 on a"]);
    assert_eq!(case.state.progress().stages[0].phase, StagePhase::Unused);
}

#[test]
fn sinks_are_results_too() {
    let mut graph = graph(&[&[], &[]], &[1]);
    graph.stages[0].output = Exchange::Sink { sink: 0 };
    let mut case = Case { state: State::new(&graph, Limits::default()).unwrap(), now: 0 };
    case.on(up("a", 4), &["resolve 0", "resolve 1"]);
    case.on(resolved(0, &[""]), &["launch 0.0#0 on a"]);
    case.on(resolved(1, &[""]), &["launch 1.0#0 on a"]);
    case.on(done("1.0#0", "a", "a"), &[]);
    case.on(done("0.0#0", "a", "inline"), &["succeed [1.0#0] [0.0#0]"]);
}

#[test]
fn bad_graphs_are_refused() {
    let mut late = graph(&[&[], &[]], &[1]);
    late.stages[0].leaves = vec![Leaf::Exchange { stages: vec![StageId(1)], read: Read::All }];
    let mut misplaced = graph(&[&[], &[]], &[1]);
    misplaced.stages.swap(0, 1);
    for (graph, says) in [
        (late, "reads stage 1, which is not before it"),
        (misplaced, "stage 1 stands at place 0"),
        (graph(&[&[]], &[3]), "stage 3, which does not exist"),
    ] {
        let error = State::new(&graph, Limits::default()).map(|_| ()).unwrap_err();
        assert!(error.message.contains(says), "{error}");
    }
}

#[test]
fn bad_answers_of_the_planner_end_the_query() {
    let mut case = two_stages();
    case.on(done("0.0#0", "a", "a"), &[]).on(done("0.1#0", "b", "b"), &["resolve 1"]);
    case.fails(resolved(1, &["0.7"]), "internal", &["stage 1 was resolved to read task 7 of stage 0"]);

    let mut case = two_stages();
    let error = floe_wire::error::QueryError::user("ComputeError", "too wide");
    case.on(Event::ResolveFailed { stage: StageId(1), error: error.clone() }, &[]);
    case.on(done("0.0#0", "a", "a"), &[]).on(done("0.1#0", "b", "b"), &["resolve 1"]);
    case.fails(Event::ResolveFailed { stage: StageId(1), error }, "user", &["ComputeError: too wide"]);
}

#[test]
fn tasks_go_where_most_of_their_input_is() {
    let mut case = Case::new(&[&[], &[0]], &[1]);
    case.on(up("a", 2), &["resolve 0"]).on(up("b", 2), &[]);
    case.on(resolved(0, &["", ""]), &["launch 0.0#0 on a", "launch 0.1#0 on b"]);
    case.on(done("0.0#0", "a", "a"), &[]).on(done("0.1#0", "b", "b"), &["resolve 1"]);
    // Each goes to the other's worker; where both hold the same, the spread is even.
    let launched = ["launch 1.0#0 on b", "launch 1.1#0 on a", "launch 1.2#0 on a", "launch 1.3#0 on b"];
    case.on(resolved(1, &["0.1", "0.0", "0.0 0.1", "0.0 0.1"]), &launched);
}

#[test]
fn bytes_read_of_an_input_count_if_they_are_known() {
    let mut case = Case::new(&[&[], &[0]], &[1]);
    case.on(up("a", 2), &["resolve 0"]).on(up("b", 2), &[]);
    case.on(resolved(0, &["", ""]), &["launch 0.0#0 on a", "launch 0.1#0 on b"]);
    case.on(done("0.0#0", "a", "a"), &[]).on(done("0.1#0", "b", "b"), &["resolve 1"]);
    let reads = ResolvedInputs { inputs: [task("0.0"), task("0.1")].into(), bytes: vec![1, 50] };
    case.on(Event::Resolved { stage: StageId(1), finer: 0, tasks: vec![reads] }, &["launch 1.0#0 on b"]);
}

#[test]
fn a_task_does_not_wait_for_a_busy_home() {
    let mut case = Case::new(&[&[], &[0]], &[1]);
    case.on(up("a", 1), &["resolve 0"]);
    case.on(resolved(0, &[""]), &["launch 0.0#0 on a"]);
    case.on(done("0.0#0", "a", "a"), &["resolve 1"]).on(up("b", 1), &[]);
    case.on(resolved(1, &["0.0", "0.0", "0.0"]), &["launch 1.0#0 on a", "launch 1.1#0 on b"]);
}

#[test]
fn a_free_worker_first_gets_the_tasks_whose_input_it_holds() {
    let mut case = Case::new(&[&[], &[0]], &[1]);
    case.on(up("a", 1), &["resolve 0"]).on(up("b", 1), &[]);
    case.on(resolved(0, &["", ""]), &["launch 0.0#0 on a", "launch 0.1#0 on b"]);
    case.on(done("0.0#0", "a", "a"), &[]).on(done("0.1#0", "b", "b"), &["resolve 1"]);
    let launched = ["launch 1.0#0 on b", "launch 1.2#0 on a"];
    case.on(resolved(1, &["0.1", "0.1", "0.0", "0.0"]), &launched);
    case.on(done("1.2#0", "a", "a"), &["launch 1.3#0 on a"]);
    case.on(done("1.3#0", "a", "a"), &["launch 1.1#0 on a"]);
}

#[test]
fn tasks_without_a_home_spread_evenly() {
    let mut case = Case::new(&[&[]], &[0]);
    case.on(up("a", 4), &["resolve 0"]).on(up("b", 2), &[]).on(up("c", 2), &[]);
    let launched = case.acts(resolved(0, &["", "", "", ""]));
    let expected = ["launch 0.0#0 on a", "launch 0.1#0 on b", "launch 0.2#0 on c", "launch 0.3#0 on a"];
    assert_eq!(launched, expected);
    case.on(done("0.1#0", "b", "inline"), &[]).on(done("0.0#0", "a", "inline"), &[]);
}

#[test]
fn a_draining_worker_finishes_and_gets_nothing_new() {
    let mut case = two_stages();
    case.on(draining("a"), &[]);
    case.on(done("0.0#0", "a", "a"), &[]);
    case.on(done("0.1#0", "b", "b"), &["resolve 1"]);
    case.on(resolved(1, &["0.0", "0.0"]), &["launch 1.0#0 on b"]);
    case.on(up("a", 1), &["launch 1.1#0 on a"]);
}

#[test]
fn running_tasks_of_a_lost_worker_are_launched_elsewhere() {
    let mut case = two_stages();
    case.on(lost("a"), &[]);
    case.on(lost("a"), &[]);
    case.on(up("c", 1), &["launch 0.0#1 on c"]);
    // What the old attempt still says does not count.
    case.on(done("0.0#0", "a", "a"), &[]);
    case.on(failed("0.0#0", "a", Category::User), &[]);
    case.on(done("0.0#1", "b", "b"), &[]);
    case.on(done("0.0#1", "c", "c"), &[]);
    case.on(done("0.0#1", "c", "c"), &[]);
    assert_eq!(case.state.progress().stages[0].done, 1);
    assert_eq!(case.state.progress().stages[0].rows, 10);
}

#[test]
fn only_outputs_that_are_gone_and_needed_are_made_again() {
    let mut case = two_stages();
    case.on(done("0.0#0", "a", "a"), &[]);
    case.on(done("0.1#0", "b", "b"), &["resolve 1"]);
    case.on(resolved(1, &["0.0", "0.1"]), &["launch 1.0#0 on a", "launch 1.1#0 on b"]);
    case.on(done("1.0#0", "a", "inline"), &[]);
    // 0.0 is gone, but its only reader is done.
    case.on(lost("a"), &[]);
    assert_eq!(case.state.progress().stages[0].done, 2);
    // 0.1 is gone and 1.1 with it.
    case.on(lost("b"), &[]);
    case.on(up("c", 2), &["launch 0.1#1 on c"]);
    case.on(done("0.1#1", "c", "c"), &["launch 1.1#1 on c"]);
    case.on(done("1.1#1", "c", "c"), &["release 0", "succeed [1.0#0 1.1#1]"]);
}

#[test]
fn inline_and_stored_outputs_outlive_their_worker() {
    for kept in ["inline", "store"] {
        let mut case = two_stages();
        case.on(done("0.0#0", "a", kept), &[]);
        case.on(lost("a"), &[]);
        case.on(done("0.1#0", "b", "b"), &["resolve 1"]);
    }
}

#[test]
fn released_inputs_are_made_again_as_far_back_as_need_be() {
    let mut case = Case::new(&[&[], &[0], &[1]], &[2]);
    case.on(up("a", 4), &["resolve 0"]);
    case.on(resolved(0, &["", ""]), &["launch 0.0#0 on a", "launch 0.1#0 on a"]);
    case.on(done("0.0#0", "a", "store"), &[]).on(done("0.1#0", "a", "store"), &["resolve 1"]);
    case.on(resolved(1, &["0.0", "0.1"]), &["launch 1.0#0 on a", "launch 1.1#0 on a"]);
    case.on(done("1.0#0", "a", "a"), &[]);
    case.on(done("1.1#0", "a", "store"), &["release 0", "resolve 2"]);
    case.on(resolved(2, &["1.0", "1.1"]), &["launch 2.0#0 on a", "launch 2.1#0 on a"]);
    case.on(lost("a"), &[]);
    // 2.1 reads only what is in the store; 2.0 needs 1.0 and that 0.0 again, but not 0.1.
    case.on(up("b", 4), &["launch 0.0#1 on b", "launch 2.1#1 on b"]);
    case.on(done("0.0#1", "b", "b"), &["launch 1.0#1 on b"]);
    case.on(done("1.0#1", "b", "b"), &["release 0", "launch 2.0#1 on b"]);
    case.on(done("2.1#1", "b", "b"), &[]);
    case.on(done("2.0#1", "b", "b"), &["release 1", "succeed [2.0#1 2.1#1]"]);
}

#[test]
fn a_result_lost_before_the_end_is_made_again() {
    let mut case = Case::new(&[&[], &[]], &[0, 1]);
    case.on(up("a", 1), &["resolve 0", "resolve 1"]).on(up("b", 1), &[]);
    case.on(resolved(0, &[""]), &["launch 0.0#0 on a"]).on(resolved(1, &[""]), &["launch 1.0#0 on b"]);
    case.on(done("0.0#0", "a", "a"), &[]);
    case.on(lost("a"), &[]);
    case.on(done("1.0#0", "b", "inline"), &["launch 0.0#1 on b"]);
    case.on(done("0.0#1", "b", "b"), &["succeed [0.0#1] [1.0#0]"]);
}

#[test]
fn a_rerun_that_is_no_longer_needed_is_stopped() {
    let mut case = Case::new(&[&[], &[0], &[1]], &[2]);
    case.on(up("a", 1), &["resolve 0"]).on(up("b", 2), &[]);
    case.on(resolved(0, &[""]), &["launch 0.0#0 on a"]);
    case.on(done("0.0#0", "a", "a"), &["resolve 1"]).on(draining("a"), &[]);
    case.on(resolved(1, &["0.0"]), &["launch 1.0#0 on b"]);
    case.on(lost("a"), &["launch 0.0#1 on b"]);
    // It had read all of it before.
    case.on(done("1.0#0", "b", "b"), &["cancel 0.0#1 on b", "resolve 2"]);
}

#[test]
fn outputs_that_cannot_be_fetched_are_made_again_and_no_others() {
    let mut case = Case::new(&[&[], &[0]], &[1]);
    case.on(up("a", 2), &["resolve 0"]).on(up("b", 1), &[]);
    let launched = ["launch 0.0#0 on a", "launch 0.1#0 on b", "launch 0.2#0 on a"];
    case.on(resolved(0, &["", "", ""]), &launched);
    case.on(done("0.0#0", "a", "a"), &[]).on(done("0.1#0", "b", "b"), &[]);
    case.on(done("0.2#0", "a", "inline"), &["resolve 1"]);
    case.on(resolved(1, &["0.0 0.1 0.2"]), &["launch 1.0#0 on b"]);
    case.on(inputs_lost("1.0#7", "b", &["0.0#0"]), &[]);
    // An inline output cannot be lost, and 0.9 does not exist; the rerun avoids the worker that lost the output.
    case.on(inputs_lost("1.0#0", "b", &["0.0#0", "0.2#0", "0.9#0"]), &["launch 0.0#1 on b"]);
    case.on(done("0.0#1", "b", "b"), &["launch 1.0#1 on b"]);
}

#[test]
fn a_report_about_an_output_that_was_replaced_does_not_lose_the_new_one() {
    let mut case = Case::new(&[&[], &[0]], &[1]);
    case.on(up("a", 1), &["resolve 0"]).on(up("b", 2), &[]);
    case.on(resolved(0, &[""]), &["launch 0.0#0 on a"]);
    case.on(done("0.0#0", "a", "a"), &["resolve 1"]).on(draining("a"), &[]);
    case.on(resolved(1, &["0.0"]), &["launch 1.0#0 on b"]);
    case.on(lost("a"), &["launch 0.0#1 on b"]);
    case.on(done("0.0#1", "b", "b"), &[]);
    case.on(inputs_lost("1.0#0", "b", &["0.0#0"]), &["launch 1.0#1 on b"]);
}

#[test]
fn an_input_lost_while_its_reader_is_resolved_holds_that_reader_back() {
    let mut case = two_stages();
    case.on(done("0.0#0", "a", "a"), &[]);
    case.on(done("0.1#0", "b", "b"), &["resolve 1"]);
    case.on(lost("a"), &["launch 0.0#1 on b"]).on(up("c", 2), &[]);
    assert!(case.state.output(task("0.0")).is_none());
    case.on(resolved(1, &["0.0", "0.1"]), &["launch 1.1#0 on c"]);
    case.on(resolved(1, &["0.0", "0.1"]), &[]);
    case.on(done("0.0#1", "b", "b"), &["launch 1.0#0 on b"]);
}

#[test]
fn a_resolution_can_show_that_a_rerun_is_not_needed() {
    let mut case = two_stages();
    case.on(done("0.0#0", "a", "a"), &[]);
    case.on(done("0.1#0", "b", "b"), &["resolve 1"]);
    case.on(lost("a"), &["launch 0.0#1 on b"]);
    case.on(resolved(1, &["0.1"]), &["cancel 0.0#1 on b", "launch 1.0#0 on b"]);
}

#[test]
fn readers_of_an_unstable_output_are_made_again_with_it() {
    for unstable in [false, true] {
        let mut graph = graph(&[&[], &[0], &[1]], &[2]);
        graph.stages[0].nondeterminism = unstable.then_some(Nondeterminism::AnyOfEqualRows);
        let mut case = Case { state: State::new(&graph, Limits::default()).unwrap(), now: 0 };
        case.on(up("a", 1), &["resolve 0"]).on(up("b", 2), &[]);
        case.on(resolved(0, &[""]), &["launch 0.0#0 on a"]).on(done("0.0#0", "a", "a"), &["resolve 1"]);
        case.on(resolved(1, &["0.0", "0.0", "0.0"]), &["launch 1.0#0 on a", "launch 1.1#0 on b", "launch 1.2#0 on b"]);
        case.on(done("1.1#0", "b", "store"), &[]);
        // 1.0 and what it read are lost. 1.1 is done and 1.2 has begun, with rows that 1.0 will not see again.
        if unstable {
            case.on(lost("a"), &["cancel 1.2#0 on b", "launch 0.0#1 on b"]);
            let again = ["launch 1.0#1 on b", "launch 1.1#1 on b"];
            case.on(done("0.0#1", "b", "b"), &again);
        } else {
            case.on(lost("a"), &["launch 0.0#1 on b"]);
            case.on(done("0.0#1", "b", "b"), &["launch 1.0#1 on b"]);
        }
    }
}

#[test]
fn the_user_ends_it() {
    let mut case = two_stages();
    case.on(Event::Cancel, &["cancel 0.0#0 on a", "cancel 0.1#0 on b", "cancelled"]);
    case.on(done("0.0#0", "a", "a"), &[]).on(Event::Cancel, &[]).on(Event::DeadlineReached, &[]);
}

#[test]
fn the_deadline_ends_it_and_says_how_far_it_came() {
    let mut case = two_stages();
    case.on(done("0.0#0", "a", "a"), &[]);
    let says = ["the deadline passed with 0 of 2 stages done", "stage 0 (work 0) had 1 of 2 tasks done"];
    case.fails(Event::DeadlineReached, "deadline", &says);
}

#[test]
fn without_workers_it_waits_and_then_fails() {
    let mut case = Case::new(&[&[]], &[0]);
    case.on(Event::Tick, &["resolve 0"]);
    assert_eq!(case.at(1_000).tell(resolved(0, &[""])), ["wake 601000"]);
    case.at(601_000).fails(Event::Tick, "lost-worker", &["NoWorkers", "no worker came within 600 s"]);

    let mut case = two_stages();
    case.on(done("0.0#0", "a", "inline"), &[]);
    case.at(5_000).on(draining("a"), &[]).on(lost("b"), &[]);
    // One that comes and goes starts the wait anew.
    case.at(500_000).on(up("c", 1), &["launch 0.1#1 on c"]).on(lost("c"), &[]);
    case.at(1_099_999).on(Event::Tick, &[]);
    case.at(1_100_000).fails(Event::Tick, "lost-worker", &["all are gone or leaving (3 had worked)"]);
}

#[test]
fn progress_counts_each_task_once() {
    let mut case = two_stages();
    case.on(started("0.0#0", "a"), &[]).on(progress("0.0#0", "a", 7), &[]).on(progress("0.0#0", "a", 3), &[]);
    case.on(done("0.1#0", "b", "b"), &[]);
    let snapshot = case.state.progress();
    assert_eq!((snapshot.workers, snapshot.slots), (2, 2));
    let stage = &snapshot.stages[0];
    assert_eq!((stage.tasks, stage.done, stage.running, stage.rows, stage.bytes), (2, 1, 1, 17, 170));
    assert_eq!((stage.phase, snapshot.stages[1].phase), (StagePhase::Running, StagePhase::Waiting));
    case.on(lost("b"), &[]);
    let stage = &case.state.progress().stages[0];
    assert_eq!((stage.done, stage.rows), (0, 17));
    case.on(done("0.0#0", "a", "a"), &["launch 0.1#1 on a"]);
    case.on(progress("0.1#1", "a", 5), &[]);
    case.on(done("0.1#1", "a", "a"), &["resolve 1"]);
    let snapshot = case.state.progress();
    assert_eq!((snapshot.stages[0].done, snapshot.stages[0].rows, snapshot.stages[0].bytes), (2, 20, 200));
    assert_eq!(snapshot.stages[1].phase, StagePhase::Resolving);
    assert_eq!((snapshot.counters.made_again, snapshot.counters.lost_outputs), (1, 1));
    assert_eq!(case.state.attempts(StageId(0)), 3);
}
