//! Who gets a share, in which order, and that limits hold whatever comes and goes.

use jiff::Timestamp;
use proptest::prelude::*;

use super::table::{Claim, Limits, Share, Table, read};

fn limits(text: &str) -> Limits {
    read(text).unwrap()
}

fn claim(namespace: &str, number: i64, workers: u32) -> Claim {
    let name = format!("{namespace}-{number}");
    let created = Timestamp::from_second(number).unwrap();
    Claim { uid: name.clone(), key: (namespace.into(), name), created, workers }
}

fn table(text: &str) -> Table {
    Table::new(limits(text), std::iter::empty())
}

fn names(keys: Vec<crate::pods::Key>) -> Vec<String> {
    keys.into_iter().map(|(_, name)| name).collect()
}

#[test]
fn options_are_read_and_wrong_ones_refused() {
    assert!(limits("").are_none());
    assert!(!limits(r#"{"maxQueries": 1}"#).are_none());
    assert!(limits(r#"{"weights": {"a": 2}}"#).are_none(), "weights alone limit nothing");
    for wrong in ["{", r#"{"maxQueries": 0}"#, r#"{"maxPods": 1}"#, r#"{"weights": {"a": 0}}"#, r#"{"other": 1}"#] {
        assert!(read(wrong).unwrap_err().starts_with("are no limits"), "{wrong}");
    }
}

#[test]
fn queries_wait_in_order_and_tell_their_place() {
    let mut table = table(r#"{"maxQueriesPerNamespace": 1}"#);
    assert_eq!(table.ask(claim("a", 1, 2), true), (Share::Held { workers: 2 }, vec![]));
    // The younger one asks first.
    let (third, _) = table.ask(claim("a", 3, 2), true);
    assert_eq!(third, Share::Waiting { ahead: 0, words: "at work: 1 of 1 queries of the namespace".into() });
    assert!(matches!(table.ask(claim("a", 2, 2), true).0, Share::Waiting { ahead: 0, .. }));
    assert!(matches!(table.ask(claim("a", 3, 2), true).0, Share::Waiting { ahead: 1, .. }));
    assert_eq!(
        table.ask(claim("b", 9, 2), true).0,
        Share::Held { workers: 2 },
        "another namespace has room of its own"
    );
    assert_eq!(names(table.leave("a-1")), ["a-2"], "the oldest is next, and is woken");
    assert_eq!(table.ask(claim("a", 2, 2), true).0, Share::Held { workers: 2 });
    assert!(table.leave("nobody").is_empty());
}

#[test]
fn a_held_query_takes_no_place_and_one_at_work_keeps_its_own() {
    let mut table = table(r#"{"maxQueries": 1}"#);
    assert!(!table.ask(claim("a", 1, 1), false).0.is_open());
    assert!(table.ask(claim("a", 2, 1), true).0.is_open(), "the first holds nothing");
    assert!(
        table.ask(claim("a", 2, 7), false).0 == Share::Held { workers: 1 },
        "more workers are not granted on the way"
    );
    table.ask(claim("a", 3, 1), true);
    table.ask(claim("a", 4, 1), true);
    // The next one is suspended meanwhile: the one after it comes.
    table.ask(claim("a", 3, 1), false);
    assert_eq!(names(table.leave("a-2")), ["a-4"]);
}

#[test]
fn namespaces_get_room_by_their_weights_whoever_sends_more() {
    let mut table = table(r#"{"maxPods": 24, "weights": {"a": 3}}"#);
    // b was there first, with a hundred queries; then a comes.
    for number in 0..100 {
        table.ask(claim("b", number, 1), true);
    }
    for number in 100..200 {
        table.ask(claim("a", number, 1), true);
    }
    // Queries end one after the other, the oldest first.
    let mut ends: Vec<String> = (0..12).map(|number| format!("b-{number}")).collect();
    let mut at_work = ends.clone();
    for _ in 0..40 {
        let ended = ends.remove(0);
        at_work.retain(|name| *name != ended);
        for name in names(table.leave(&ended)) {
            ends.push(name.clone());
            at_work.push(name);
        }
    }
    let of_a = at_work.iter().filter(|name| name.starts_with("a-")).count();
    assert_eq!((at_work.len(), of_a), (12, 9), "{at_work:?}");
}

#[test]
fn a_large_query_gets_its_turn_and_a_full_namespace_keeps_nobody_waiting() {
    let mut whole = table(r#"{"maxPods": 6}"#);
    whole.ask(claim("a", 1, 1), true);
    whole.ask(claim("a", 2, 1), true);
    whole.ask(claim("b", 3, 5), true);
    assert!(!whole.ask(claim("a", 4, 1), true).0.is_open(), "there is room for it, but the large one comes first");
    assert!(whole.leave("a-1").is_empty());
    assert_eq!(names(whole.leave("a-2")), ["b-3"]);
    let (share, _) = whole.ask(claim("a", 5, 6), true);
    assert!(
        matches!(&share, Share::Never { words } if words.contains("7 pods") && words.contains("more than 6")),
        "{share:?}"
    );

    let mut each = table(r#"{"maxPods": 10, "maxPodsPerNamespace": 4}"#);
    each.ask(claim("a", 1, 3), true);
    assert!(!each.ask(claim("a", 2, 1), true).0.is_open());
    assert!(each.ask(claim("b", 3, 3), true).0.is_open());
}

#[test]
fn those_at_work_when_the_operator_comes_up_keep_their_share() {
    let at_work = [claim("a", 1, 4), claim("a", 2, 4)];
    let mut table = Table::new(limits(r#"{"maxPods": 6}"#), at_work.into_iter());
    assert!(!table.ask(claim("b", 3, 1), true).0.is_open());
    assert!(table.ask(claim("a", 1, 4), true).0.is_open() && table.ask(claim("a", 2, 4), true).0.is_open());
    assert!(table.leave("a-1").is_empty(), "5 of 6 pods");
    assert_eq!(names(table.leave("a-2")), ["b-3"]);
}

proptest! {
    /// Limits hold, nobody waits while there is room for all, and everybody gets a turn.
    #[test]
    fn limits_hold_and_everybody_gets_a_turn(
        steps in prop::collection::vec((0_usize..4, 0_u32..5, any::<bool>()), 1..200),
        pods in 6_u32..20, own in 6_u32..12, queries in 1_u32..6,
    ) {
        let text = format!(r#"{{"maxPods": {pods}, "maxPodsPerNamespace": {own}, "maxQueries": {queries}, "weights": {{"n1": 3}}}}"#);
        let mut table = table(&text);
        let (mut at_work, mut open): (Vec<Claim>, Vec<Claim>) = (Vec::new(), Vec::new());
        let mut number = 0;
        let check = |at_work: &[Claim]| {
            let total: u32 = at_work.iter().map(|claim| claim.workers + 1).sum();
            prop_assert!(total <= pods && at_work.len() <= queries as usize);
            for namespace in 0..4 {
                let of = at_work.iter().filter(|claim| claim.key.0 == format!("n{namespace}"));
                prop_assert!(of.map(|claim| claim.workers + 1).sum::<u32>() <= own);
            }
            Ok(())
        };
        let woken = |keys: Vec<crate::pods::Key>, at_work: &mut Vec<Claim>, open: &mut Vec<Claim>| {
            for key in keys {
                let at = open.iter().position(|claim| claim.key == key).unwrap();
                at_work.push(open.remove(at));
            }
        };
        for (namespace, workers, ends) in steps {
            if ends && !at_work.is_empty() {
                let ended = at_work.remove(0);
                let keys = table.leave(&ended.uid);
                woken(keys, &mut at_work, &mut open);
            } else {
                number += 1;
                let claim = claim(&format!("n{namespace}"), number, workers.max(1));
                open.push(claim.clone());
                let (share, keys) = table.ask(claim.clone(), true);
                woken(keys, &mut at_work, &mut open);
                if share.is_open() {
                    woken(vec![claim.key], &mut at_work, &mut open);
                }
            }
            check(&at_work)?;
        }
        while !at_work.is_empty() {
            let ended = at_work.remove(0);
            let keys = table.leave(&ended.uid);
            woken(keys, &mut at_work, &mut open);
            check(&at_work)?;
        }
        prop_assert!(open.is_empty(), "{} wait for ever", open.len());
    }
}
