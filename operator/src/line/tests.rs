//! Lines step by step, and many queries at once against a namespace's quota.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::order::{Answer, Class, Line, Rank, Waiting};
use super::quota::tests::{pod, quota};
use super::quota::{Need, Quota};
use crate::pods::Key;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn rank(nth: i64) -> Rank {
    Rank { class: Class::Starting, created: at(nth), uid: format!("u{nth}") }
}

fn key(nth: i64) -> Key {
    ("n".into(), format!("q{nth}"))
}

fn pods(hard: u32, used: u32) -> Vec<Quota> {
    vec![quota(json!({"pods": hard.to_string()}), json!({"pods": used.to_string()}))]
}

fn need(pods: u32) -> Need {
    pod("1", "1Gi").times(pods)
}

fn wait(answer: Option<Answer>) -> Waiting {
    match answer {
        Some(Answer::Wait(waiting)) => waiting,
        other => panic!("{other:?} is no waiting"),
    }
}

#[test]
fn the_oldest_is_first_and_tries_when_there_is_room_for_all_it_needs() {
    let mut line = Line::default();
    for nth in [3, 1, 2] {
        line.refuse(rank(nth), key(nth), "exceeded quota: small", None, at(10));
    }
    let mut ask = |nth: i64, used, now| {
        line.decide(&format!("u{nth}"), Some(&pods(4, used)), &need(3), &need(3), at(now)).unwrap()
    };
    assert_eq!(wait(Some(ask(2, 0, 11))).ahead, 1);
    assert_eq!(wait(Some(ask(3, 0, 11))).ahead, 2);
    let first = wait(Some(ask(1, 2, 11)));
    assert_eq!((first.ahead, first.words.as_str(), first.give_back), (0, "exceeded quota: small", false));
    assert_eq!(ask(1, 1, 11), Answer::Try);
    // Those behind must release what they hold after a while; the first need not.
    assert!(!wait(Some(ask(1, 2, 100))).give_back && wait(Some(ask(2, 2, 100))).give_back);
}

#[test]
fn what_was_granted_is_set_aside_until_it_is_taken() {
    let mut line = Line::default();
    line.refuse(rank(1), key(1), "w", None, at(0));
    line.refuse(rank(2), key(2), "w", None, at(0));
    let ask = |line: &mut Line, used| line.decide("u2", Some(&pods(6, used)), &need(3), &need(3), at(1));
    // The first has made its coordinator and will make two workers: of six pods three are left, one of which is free.
    line.grant("u1", need(2), at(0));
    assert_eq!(wait(ask(&mut line, 3)).ahead, 0);
    assert_eq!(ask(&mut line, 1), Some(Answer::Try));
    // The reservation expires: the coordinator may have no image.
    assert_eq!(line.decide("u2", Some(&pods(6, 3)), &need(3), &need(3), at(60)), Some(Answer::Try));
    line.grant("u1", Need::default(), at(1));
    assert_eq!(ask(&mut line, 3), Some(Answer::Try));
    assert!(!line.holds("u1"));
}

#[test]
fn a_refusal_is_not_repeated_while_nothing_changes() {
    let mut line = Line::default();
    let before = pods(4, 1);
    line.refuse(rank(1), key(1), "w", Some(before.clone()), at(0));
    let mut ask = |quotas: Option<&[Quota]>, now| line.decide("u1", quotas, &need(3), &need(3), at(now));
    // The numbers show room, but the server refused all the same.
    assert_eq!(wait(ask(Some(&before), 1)).ahead, 0);
    assert_eq!(ask(Some(&pods(4, 0)), 1), Some(Answer::Try));
    assert_eq!(ask(Some(&before), 15), Some(Answer::Try));
    // While the quotas cannot be read, it tries every two seconds.
    assert_eq!(wait(ask(None, 1)).ahead, 0);
    assert_eq!(ask(None, 2), Some(Answer::Try));
}

#[test]
fn what_can_never_start_stands_in_nobodys_way() {
    let mut line = Line::default();
    line.refuse(rank(1), key(1), "w", None, at(0));
    line.refuse(rank(2), key(2), "w", None, at(0));
    let never = wait(line.decide("u1", Some(&pods(4, 0)), &need(9), &need(9), at(1)));
    assert!(never.is_never && never.words.contains("pods=9"), "{never:?}");
    assert_eq!(line.decide("u2", Some(&pods(4, 0)), &need(3), &need(3), at(1)), Some(Answer::Try));
    // The quota is raised.
    assert!(line.needs_quotas("u1"));
    assert_eq!(line.decide("u1", Some(&pods(9, 0)), &need(9), &need(9), at(2)), Some(Answer::Try));
}

#[test]
fn a_query_at_work_and_what_cleans_up_come_before_those_that_start() {
    let mut line = Line::default();
    line.refuse(rank(1), key(1), "w", None, at(0));
    line.refuse(Rank { class: Class::AtWork, ..rank(5) }, key(5), "w", None, at(0));
    line.refuse(Rank { class: Class::Cleaning, ..rank(9) }, key(9), "w", None, at(0));
    line.refuse(Rank { class: Class::Extra, ..rank(0) }, key(0), "w", None, at(0));
    let order: Vec<&str> = line.waiting().map(|key| key.1.as_str()).collect();
    assert_eq!(order, ["q9", "q5", "q1", "q0"]);
    // It has started to work since then.
    line.join(Rank { class: Class::AtWork, ..rank(1) }, key(1), "", at(3));
    assert_eq!(line.waiting().next().map(|key| key.1.as_str()), Some("q9"));
    assert_eq!(line.waiting().nth(1).map(|key| key.1.as_str()), Some("q1"));
}

/// A query as the line sees it.
#[derive(Clone, Debug, Default)]
struct Played {
    workers: u32,
    has_coordinator: bool,
    made: u32,
    /// Seconds until it ends.
    left: Option<u32>,
    is_over: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Queries of any size come at once to a namespace with little room. All that can start also end, in an order in
    /// which none is overtaken by more than those that were there before it, and few pods are refused.
    #[test]
    fn a_full_namespace_serves_all(
        sizes in proptest::collection::vec((1u32..6, 1u32..20), 1..25),
        hard in 3u32..12,
        looks in proptest::collection::vec(0usize..25, 400),
    ) {
        let mut line = Line::default();
        let mut played: BTreeMap<i64, Played> = BTreeMap::new();
        for (nth, (workers, _)) in sizes.iter().enumerate() {
            played.insert(nth as i64, Played { workers: *workers, ..Played::default() });
        }
        let (mut refused, mut looks) = (0u32, looks.into_iter().cycle());
        for second in 0..4000 {
            for _ in 0..played.len() {
                let nth = (looks.next().unwrap() % played.len()) as i64;
                look(&mut line, &mut played, nth, hard, second, &sizes, &mut refused);
            }
            for one in played.values_mut().filter(|one| !one.is_over) {
                match &mut one.left {
                    Some(0) => *one = Played { is_over: true, workers: one.workers, ..Played::default() },
                    Some(left) => *left -= 1,
                    None => {}
                }
            }
            let used: u32 = played.values().map(|one| u32::from(one.has_coordinator) + one.made).sum();
            prop_assert!(used <= hard, "the server would not have let that happen");
            if played.values().all(|one| one.is_over || one.workers + 1 > hard) {
                // Each may be refused when it comes, when its workers are, and when the numbers lag behind.
                prop_assert!(refused as usize <= 4 * sizes.len(), "{refused} refusals of {} queries", sizes.len());
                return Ok(());
            }
        }
        prop_assert!(false, "not all ended: {played:?} {line:?}");
    }
}

/// One reconcile of one query.
fn look(
    line: &mut Line,
    played: &mut BTreeMap<i64, Played>,
    nth: i64,
    hard: u32,
    second: i64,
    sizes: &[(u32, u32)],
    refused: &mut u32,
) {
    let used: u32 = played.values().map(|one| u32::from(one.has_coordinator) + one.made).sum();
    let quotas = pods(hard, used);
    let me = played.get_mut(&nth).unwrap();
    if me.is_over || me.left.is_some() {
        line.leave(&rank(nth).uid);
        return;
    }
    let (whole, missing) = (need(me.workers + 1), need(me.workers - me.made + u32::from(!me.has_coordinator)));
    if !line.holds(&rank(nth).uid) && line.ahead_of(&rank(nth)) > 0 {
        line.join(rank(nth), key(nth), "others", at(second));
    }
    let read = line.needs_quotas(&rank(nth).uid).then_some(quotas.as_slice());
    match line.decide(&rank(nth).uid, read, &missing, &whole, at(second)) {
        Some(Answer::Wait(waiting)) => {
            if waiting.give_back {
                (me.has_coordinator, me.made) = (false, 0);
            }
            return;
        }
        Some(Answer::Try) | None => {}
    }
    if used >= hard {
        *refused += 1;
        line.refuse(rank(nth), key(nth), "exceeded quota", read.map(<[Quota]>::to_vec), at(second));
        return;
    }
    if me.has_coordinator {
        me.made += 1;
    } else {
        me.has_coordinator = true;
    }
    line.grant(&rank(nth).uid, need(me.workers - me.made), at(second));
    if me.made == me.workers {
        me.left = Some(sizes[nth as usize].1);
    }
}
