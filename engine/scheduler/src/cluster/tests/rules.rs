//! One test per rule.

use super::script::{Script, anywhere, running};
use crate::cluster::{Action, Claim, Demand, Event, Group, Limits, Request, Running, decide};

fn arrives(query: &str, claim: Claim) -> Event {
    Event::Arrived { query: query.to_owned(), claim }
}

fn left(query: &str) -> Event {
    Event::Left { query: query.to_owned() }
}

fn priority(priority: i32) -> Claim {
    Claim { priority, ..Claim::default() }
}

fn weight(weight: u32) -> Claim {
    Claim { weight, ..Claim::default() }
}

#[test]
fn one_query_gets_what_it_can_use_and_gives_back_what_it_cannot() {
    let mut script = Script::new(&[2, 2]);
    script.queries(&["a"]);
    script.wants("a", &[], 3, &["a: 2 on w0", "a: 1 on w1"]);
    script.wants("a", &[("w0", 2), ("w1", 1)], 0, &[]);
    // A task ends, and no other follows it.
    script.wants("a", &[("w0", 1), ("w1", 1)], 0, &["a: 1 on w0"]);
    script.wants("a", &[], 0, &["a: 0 on w0", "a: 0 on w1"]);
    assert_eq!(script.state.counts().slots_used, 0);
}

#[test]
fn a_granted_slot_stays_taken_until_its_query_gives_it_back() {
    let mut script = Script::new(&[2]);
    script.queries(&["a", "b"]);
    script.wants("a", &[], 1, &["a: 1 on w0"]);
    script.wants("b", &[], 2, &["b: 1 on w0"]);
    // It did not use the slot, so the other query does.
    script.wants("a", &[], 0, &["a: 0 on w0", "call b"]);
    script.wants("b", &[("w0", 1)], 1, &["b: 2 on w0"]);
}

#[test]
fn idle_slots_are_lent_and_come_back_as_tasks_end() {
    let mut script = Script::new(&[4]);
    script.queries(&["a", "b"]);
    script.wants("a", &[], 10, &["a: 4 on w0"]);
    script.wants("a", &[("w0", 4)], 6, &[]);
    // Nothing that runs is stopped: it goes on with fewer slots.
    script.wants("b", &[], 10, &["call a"]);
    script.wants("a", &[("w0", 4)], 6, &["a: 2 on w0"]);
    script.wants("a", &[("w0", 3)], 6, &["call b"]);
    script.wants("b", &[], 10, &["b: 1 on w0"]);
    script.wants("b", &[("w0", 1)], 9, &[]);
    script.wants("a", &[("w0", 2)], 6, &["call b"]);
    script.wants("b", &[("w0", 1)], 9, &["b: 2 on w0"]);
    script.wants("b", &[("w0", 2)], 8, &[]);
    // Both have their share: each goes on by itself.
    script.wants("a", &[("w0", 2)], 5, &[]);
    script.wants("b", &[("w0", 2)], 0, &[]);
    script.wants("b", &[("w0", 1)], 0, &["b: 1 on w0", "call a"]);
    script.wants("a", &[("w0", 2)], 5, &["a: 3 on w0"]);
}

#[test]
fn slots_are_shared_by_weight() {
    let mut script = Script::new(&[3, 3]);
    script.query("a", weight(2)).query("b", weight(1));
    script.wants("a", &[], 10, &["a: 3 on w0", "a: 3 on w1"]);
    script.wants("a", &[("w0", 3), ("w1", 3)], 4, &[]);
    script.wants("b", &[], 10, &["call a"]);
    script.wants("a", &[("w0", 3), ("w1", 3)], 4, &["a: 1 on w0", "a: 1 on w1"]);
    script.wants("a", &[("w0", 2), ("w1", 2)], 4, &["a: 2 on w0", "a: 2 on w1", "call b"]);
    script.wants("b", &[], 10, &["b: 1 on w0", "b: 1 on w1"]);
}

#[test]
fn a_left_over_slot_goes_to_each_query_in_turn() {
    let mut script = Script::new(&[1]);
    script.queries(&["a", "b", "c"]);
    script.wants("a", &[], 5, &["a: 1 on w0"]);
    script.wants("b", &[], 5, &[]);
    script.wants("c", &[], 5, &[]);
    let mut turns = Vec::new();
    let mut has = "a".to_owned();
    for _ in 0..9 {
        turns.push(has.clone());
        script.wants(&has, &[("w0", 1)], 4, if turns.len() == 1 { &["a: 0 on w0"] } else { &[] });
        script.now += 100;
        let demand = Demand { requests: anywhere(4), ..Demand::default() };
        let actions = script.tell(Event::Demand { query: has.clone(), demand });
        let [called] = actions.as_slice() else { panic!("{actions:?}") };
        has = called.strip_prefix("call ").expect("a call").to_owned();
        let demand = Demand { requests: anywhere(5), ..Demand::default() };
        let granted = script.tell(Event::Demand { query: has.clone(), demand: demand.clone() });
        assert_eq!(granted, [format!("{has}: 1 on w0")]);
        // It launches a task, and must not launch another when that one ends.
        let demand = Demand { running: running(&[("w0", 1)]), requests: anywhere(4), ..Demand::default() };
        assert_eq!(script.tell(Event::Demand { query: has.clone(), demand }), [format!("{has}: 0 on w0")]);
    }
    assert_eq!(turns.concat(), "abcabcabc");
}

#[test]
fn priority_comes_before_weight_and_nobody_starves() {
    let mut script = Script::new(&[2]);
    script.query("low", Claim { weight: 100, ..priority(-1) }).query("high", priority(1));
    script.wants("low", &[], 9, &["low: 2 on w0"]);
    script.wants("low", &[("w0", 2)], 9, &[]);
    script.wants("high", &[], 9, &["call low"]);
    script.wants("low", &[("w0", 2)], 9, &["low: 0 on w0"]);
    script.wants("low", &[], 9, &["call high"]);
    script.wants("high", &[], 9, &["high: 2 on w0"]);
    script.at(9_999).wants("high", &[("w0", 2)], 9, &[]);
    // It has waited long enough for a slot.
    script.at(10_000).wants("high", &[("w0", 2)], 9, &["high: 1 on w0"]);
    script.wants("high", &[("w0", 1)], 9, &["call low"]);
    script.wants("low", &[], 9, &["low: 1 on w0"]);
}

#[test]
fn one_query_may_run_and_others_wait_by_priority_then_arrival() {
    let limits = Limits { max_running: 1, max_waiting: 3, ..Limits::default() };
    let mut script = Script::with(&[1], limits);
    script.query("a", Claim::default());
    script.on(arrives("b", priority(0)), &[]).on(arrives("c", priority(5)), &[]).on(arrives("d", priority(5)), &[]);
    assert_eq!(
        [script.state.ahead("c"), script.state.ahead("d"), script.state.ahead("b")],
        [Some(0), Some(1), Some(2)]
    );
    assert_eq!(script.state.ahead("a"), None);
    script.on(arrives("e", priority(9)), &["refuse e TooManyQueries"]);
    script.on(left("a"), &["admit c"]);
    script.on(left("d"), &[]);
    script.on(left("c"), &["admit b"]);
    assert_eq!(script.state.counts().refused, 1);
    assert_eq!(script.state.counts().admitted, 3);
}

fn of(id: u64, weight: u32) -> Claim {
    Claim { group: Some(Group { id, weight }), ..Claim::default() }
}

#[test]
fn groups_start_queries_in_turn_however_many_they_send() {
    let mut script = Script::with(&[1], Limits { max_running: 2, ..Limits::default() });
    script.query("a0", of(1, 1)).query("a1", of(1, 1));
    for query in ["a2", "a3", "a4"] {
        script.on(arrives(query, of(1, 1)), &[]);
    }
    for query in ["b0", "b1"] {
        script.on(arrives(query, of(2, 1)), &[]);
    }
    script.on(arrives("c0", of(3, 1)), &[]).on(arrives("first", Claim { priority: 1, ..of(1, 1) }), &[]);
    script.on(left("a0"), &["admit first"]);
    // Those of whom nothing runs come before it, and each in turn.
    script.on(left("a1"), &["admit b0"]);
    script.on(left("first"), &["admit c0"]);
    script.on(left("b0"), &["admit a2"]);
    script.on(left("c0"), &["admit b1"]);
    script.on(left("b1"), &["admit a3"]);
    assert_eq!(script.state.turns.len(), 1, "groups without a query are forgotten");
}

#[test]
fn a_group_of_weight_two_runs_twice_as_many() {
    let mut script = Script::with(&[1], Limits { max_running: 3, ..Limits::default() });
    script.query("hold", of(9, 1)).query("b0", of(2, 1)).query("a0", of(1, 2));
    for (query, group, weight) in [("a1", 1, 2), ("b1", 2, 1), ("b2", 2, 1)] {
        script.on(arrives(query, of(group, weight)), &[]);
    }
    script.on(left("hold"), &["admit a1"]);
    script.on(left("a0"), &["admit b1"]);
}

#[test]
fn slots_are_shared_among_groups_and_in_them_among_queries() {
    let mut script = Script::new(&[4]);
    script.query("a", of(1, 1)).query("b", of(1, 1)).query("c", of(2, 1));
    script.wants("a", &[], 9, &["a: 4 on w0"]);
    script.wants("a", &[("w0", 4)], 5, &[]);
    script.wants("b", &[], 9, &["call a"]);
    script.wants("c", &[], 9, &[]);
    script.wants("a", &[("w0", 4)], 5, &["a: 1 on w0"]);
    assert_eq!([1, 2].map(|group| share(&script, group)), [2_000, 2_000]);
    script.on(left("b"), &[]);
    script.wants("a", &[("w0", 4)], 5, &["a: 2 on w0"]);
    assert_eq!([1, 2].map(|group| share(&script, group)), [2_000, 2_000]);
}

/// Thousandths of slots that a group is due.
fn share(script: &Script, group: u64) -> u64 {
    let queries = script.state.queries.values();
    queries.filter(|query| query.claim.group.is_some_and(|of| of.id == group)).map(|query| query.share).sum()
}

#[test]
fn jobs_that_wait_are_bounded_in_bytes() {
    let limits = Limits { max_running: 1, max_waiting_bytes: 100, ..Limits::default() };
    let mut script = Script::with(&[1], limits);
    let job = |job_bytes| Claim { job_bytes, ..Claim::default() };
    // The job of a query that runs does not count against the limit.
    script.query("a", job(1_000));
    script.on(arrives("b", job(60)), &[]).on(arrives("c", job(60)), &["refuse c TooManyQueries"]);
    script.on(arrives("d", job(40)), &[]);
    script.on(left("b"), &[]).on(arrives("c", job(60)), &[]);
}

#[test]
fn a_refusal_says_how_many_there_are() {
    let mut script = Script::with(&[1], Limits { max_running: 1, max_waiting: 0, ..Limits::default() });
    script.query("a", Claim::default());
    let actions = decide(&mut script.state, arrives("b", Claim::default()), 0);
    let [Action::Refuse { error, .. }] = actions.as_slice() else { panic!("{actions:?}") };
    assert!(error.message.contains("1 query runs and 0 wait"), "{error}");
}

#[test]
fn tasks_go_to_their_data_and_away_from_where_they_failed() {
    let mut script = Script::new(&[2, 2, 2]);
    script.queries(&["a"]);
    let requests = vec![
        Request { tasks: 1, ..Request::default() },
        Request { near: Some("w1".into()), tasks: 3, ..Request::default() },
        Request { avoid: Some("w0".into()), tasks: 1, ..Request::default() },
    ];
    let demand = Demand { requests, ..Demand::default() };
    script.demands("a", demand, &["a: 1 on w0", "a: 2 on w1", "a: 2 on w2"]);
}

#[test]
fn a_task_that_must_run_alone_gets_a_worker_kept_free_for_it() {
    let mut script = Script::new(&[2, 2]);
    script.queries(&["a", "b"]);
    script.wants("a", &[], 3, &["a: 2 on w0", "a: 1 on w1"]);
    script.wants("a", &[("w0", 2), ("w1", 1)], 5, &["a: 2 on w1"]);
    script.wants("a", &[("w0", 2), ("w1", 2)], 5, &[]);
    let alone = || Demand { alone: 1, ..Demand::default() };
    script.demands("b", alone(), &["call a"]);
    // One of the two workers must become idle.
    script.wants("a", &[("w0", 2), ("w1", 2)], 5, &["a: 0 on w0"]);
    script.wants("a", &[("w0", 1), ("w1", 2)], 5, &[]);
    script.wants("a", &[("w1", 2)], 5, &["call b"]);
    script.demands("b", alone(), &["b: 1 on w0 alone"]);
    let runs = Demand { running: vec![Running { worker: "w0".into(), tasks: 1, alone: true }], ..Demand::default() };
    script.demands("b", runs, &[]);
    script.wants("a", &[("w1", 1)], 5, &["a: 2 on w1"]);
    script.demands("b", Demand::default(), &["b: 0 on w0", "call a"]);
}

#[test]
fn a_task_that_needs_more_memory_than_a_slot_stands_for_takes_several() {
    let mut script = Script::new(&[]);
    script.up("w0", 4, 4_000);
    let large = Claim { task_memory_bytes: 2_000, ..Claim::default() };
    script.query("a", large).queries(&["b"]);
    script.wants("a", &[], 9, &["a: 2 on w0"]);
    script.wants("a", &[("w0", 2)], 7, &[]);
    script.wants("b", &[], 9, &["call a"]);
    script.wants("a", &[("w0", 2)], 7, &["a: 1 on w0"]);
    script.wants("a", &[("w0", 1)], 7, &["call b"]);
    script.wants("b", &[], 9, &["b: 2 on w0"]);
    script.wants("b", &[("w0", 2)], 7, &[]);
    // Small tasks that end do not make room for a large one by themselves: the worker is kept for it.
    script.wants("a", &[], 7, &["a: 1 on w0"]);
}

#[test]
fn more_memory_than_there_is_takes_the_whole_worker_and_estimates_are_rounded() {
    let mut script = Script::new(&[]);
    script.up("w0", 2, 1_000);
    let needs = |task_memory_bytes| Claim { task_memory_bytes, ..Claim::default() };
    script.query("a", needs(9_000)).query("b", needs(600));
    script.wants("b", &[], 9, &["b: 2 on w0"]);
    script.on(left("b"), &[]);
    script.wants("a", &[], 9, &["a: 1 on w0"]);
}

#[test]
fn a_query_with_all_slots_of_a_worker_has_it_for_itself() {
    let mut script = Script::new(&[1, 2]);
    script.queries(&["a"]);
    let demand = Demand { requests: anywhere(2), ..Demand::default() };
    let actions = decide(&mut script.state, Event::Demand { query: "a".into(), demand }, 0);
    let whole = actions.iter().map(|action| match action {
        Action::Grant { worker, slots, whole, .. } => (worker.as_str(), *slots, *whole),
        other => panic!("{other:?}"),
    });
    assert_eq!(whole.collect::<Vec<_>>(), [("w0", 1, true), ("w1", 1, false)]);
}

#[test]
fn slow_tasks_get_what_is_left_over() {
    let mut script = Script::new(&[1, 2]);
    script.queries(&["a", "b"]);
    script.wants("a", &[], 1, &["a: 1 on w0"]);
    let slow = || Demand { running: running(&[("w0", 1)]), slow: vec!["w0".into()], ..Demand::default() };
    script.wants("b", &[], 2, &["b: 2 on w1"]);
    script.demands("a", slow(), &[]);
    script.wants("b", &[("w1", 1)], 1, &["b: 2 on w1"]);
    script.wants("b", &[("w1", 1)], 0, &["b: 1 on w1", "call a"]);
    script.demands("a", slow(), &["a: 1 on w1"]);
}

#[test]
fn workers_come_drain_and_go() {
    let mut script = Script::new(&[1, 1]);
    script.queries(&["a"]);
    script.wants("a", &[], 9, &["a: 1 on w0", "a: 1 on w1"]);
    script.wants("a", &[("w0", 1), ("w1", 1)], 7, &[]);
    script.on(Event::WorkerDraining { worker: "w0".into() }, &["call a"]);
    script.wants("a", &[("w0", 1), ("w1", 1)], 7, &["a: 0 on w0"]);
    script.on(Event::WorkerLost { worker: "w1".into() }, &[]);
    script.wants("a", &[("w0", 1)], 8, &[]);
    assert_eq!(script.up("w2", 2, 0), ["call a"]);
    script.wants("a", &[("w0", 1)], 8, &["a: 2 on w2"]);
    // It takes tasks again.
    assert_eq!(script.up("w0", 2, 0), ["call a"]);
    script.wants("a", &[("w0", 1), ("w2", 2)], 6, &["a: 2 on w0"]);
    script.on(Event::WorkerLost { worker: "w9".into() }, &[]);
}

#[test]
fn the_slots_of_a_query_that_leaves_go_to_others() {
    let mut script = Script::new(&[2]);
    script.queries(&["a", "b"]);
    script.wants("a", &[], 2, &["a: 2 on w0"]);
    script.wants("a", &[("w0", 2)], 0, &[]);
    script.wants("b", &[], 2, &["call a"]);
    script.on(left("a"), &["call b"]);
    script.wants("b", &[], 2, &["b: 2 on w0"]);
    script.on(left("nobody"), &[]);
    script.wants("nobody", &[], 2, &[]);
}
