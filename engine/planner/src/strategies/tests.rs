use polars_ops::frame::{JoinArgs, JoinType, JoinValidation};

use super::enumerate::{may_broadcast, may_lose_unmatched};
use super::*;

const MB: f64 = 1e6;

fn limits() -> Limits {
    Limits {
        workers: 4,
        broadcast_limit_bytes: 128.0 * MB,
        partition_bytes: 128.0 * MB,
        adaptive: true,
        runtime_filters: true,
    }
}

fn side(bytes: f64, tasks: u32) -> SideSize {
    SideSize { bytes: Some(bytes), rows: Some(bytes / 100.0), likely: 1.0, tasks, is_one: false }
}

fn equi(args: &JoinArgs, left: SideSize, right: SideSize) -> EquiFacts<'_> {
    EquiFacts {
        args,
        left,
        right,
        order: &[],
        same_key_types: true,
        colocated: false,
        keys_were_sent: false,
        partitions: 8,
    }
}

fn chosen(how: JoinType, left: SideSize, right: SideSize) -> Strategy {
    choose_equi(&equi(&JoinArgs::new(how), left, right), &limits()).strategy
}

fn refused(choice: &Choice, strategy: Strategy) -> &str {
    choice.refused.iter().find(|(other, _)| *other == strategy).map_or("", |(_, why)| why)
}

const PLAIN: Strategy = Strategy::Shuffle(Shuffle { first: None, runtime_filter: false, adaptive: false });

#[test]
fn a_small_side_is_broadcast_where_the_join_allows_it() {
    let (small, large) = (side(10.0 * MB, 4), side(1000.0 * MB, 8));
    for (how, left, right) in [
        (JoinType::Inner, true, true),
        (JoinType::Left, false, true),
        (JoinType::Right, true, false),
        (JoinType::Full, false, false),
        (JoinType::Anti, false, true),
    ] {
        let broadcast = |side| Strategy::Broadcast(side);
        assert_eq!(chosen(how.clone(), small, large) == broadcast(Side::Left), left, "{how}");
        assert_eq!(chosen(how.clone(), large, small) == broadcast(Side::Right), right, "{how}");
    }
    let unknown = SideSize { bytes: None, rows: None, ..small };
    assert_eq!(chosen(JoinType::Full, unknown, unknown), PLAIN);
    assert_eq!(chosen(JoinType::Inner, unknown, small), Strategy::Broadcast(Side::Right));
}

#[test]
fn the_smaller_of_two_small_sides_is_broadcast() {
    let (few, more) = (side(MB, 4), side(2.0 * MB, 4));
    assert_eq!(chosen(JoinType::Inner, few, more), Strategy::Broadcast(Side::Left));
    assert_eq!(chosen(JoinType::Inner, more, few), Strategy::Broadcast(Side::Right));
    assert_eq!(chosen(JoinType::Inner, few, few), Strategy::Broadcast(Side::Right));
    let one = SideSize { tasks: 1, is_one: true, ..more };
    assert_eq!(chosen(JoinType::Inner, few, one), Strategy::Broadcast(Side::Right), "the other one is in one task");
}

/// A broadcast may cost at most three times both sides: the choice on either side of that border.
#[test]
fn a_broadcast_to_many_tasks_must_pay() {
    let kept = side(100.0 * MB, 13);
    let border = 3.0 * 100.0 * MB / 10.0;
    assert_eq!(broadcast_pays_bytes(&kept, &limits()), border);
    let args = JoinArgs::new(JoinType::Left);
    let plain = Limits { adaptive: false, runtime_filters: false, ..limits() };
    let at = |bytes| choose_equi(&equi(&args, kept, side(bytes, 4)), &plain);
    assert_eq!(at(border).strategy, Strategy::Broadcast(Side::Right));
    assert_eq!(at(border).runner_up.map(|(strategy, _)| strategy), Some(PLAIN));
    let over = at(border + 1.0);
    assert_eq!(over.strategy, PLAIN);
    assert!(refused(&over, Strategy::Broadcast(Side::Right)).contains("13 tasks"), "{over:?}");
    // The choice is never more expensive than the runner-up.
    for bytes in [0.1, 1.0, 5.0, 20.0, 29.0, 31.0, 100.0, 127.0, 500.0] {
        let choice = at(bytes * MB);
        let (_, runner_up) = choice.runner_up.unwrap_or((PLAIN, choice.cost));
        assert_ne!(choice.cost.compare(&runner_up), std::cmp::Ordering::Greater);
    }
}

#[test]
fn promised_orders_and_checked_keys_hold_a_side_where_it_is() {
    let (small, large) = (side(MB, 4), side(900.0 * MB, 8));
    let args = JoinArgs::new(JoinType::Inner);
    let with = |order| choose_equi(&EquiFacts { order, ..equi(&args, small, large) }, &limits()).strategy;
    assert_eq!(with(&[Side::Right]), Strategy::Broadcast(Side::Left));
    assert_eq!(with(&[Side::Right, Side::Left]), Strategy::Broadcast(Side::Left));
    assert!(matches!(with(&[Side::Left]), Strategy::Shuffle(Shuffle { adaptive: false, .. })));
    assert!(matches!(with(&[Side::Left, Side::Right]), Strategy::Shuffle(_)));
    let checked = JoinArgs { validation: JoinValidation::OneToOne, ..JoinArgs::new(JoinType::Inner) };
    let choice = choose_equi(&equi(&checked, small, large), &limits());
    assert_eq!(choice.strategy, PLAIN, "neither filtered nor broadcast: its keys are checked");
}

#[test]
fn rows_that_are_together_stay() {
    let args = JoinArgs::new(JoinType::Full);
    let large = side(900.0 * MB, 8);
    let choice = choose_equi(&EquiFacts { colocated: true, ..equi(&args, large, large) }, &limits());
    assert_eq!((choice.strategy, choice.cost.network_bytes), (Strategy::Colocated, Some(0.0)));
    let other = EquiFacts { same_key_types: false, colocated: true, ..equi(&args, large, large) };
    let choice = choose_equi(&other, &limits());
    assert_eq!((choice.strategy, choice.reason.as_str()), (Strategy::SingleWorker, "join keys of different types"));
}

#[test]
fn the_side_with_fewer_rows_filters_the_other() {
    let (few, many) = (side(200.0 * MB, 4), side(400.0 * MB, 8));
    let fixed = Limits { adaptive: false, ..limits() };
    for how in [JoinType::Inner, JoinType::Left, JoinType::Right, JoinType::Full, JoinType::Anti] {
        let args = JoinArgs::new(how.clone());
        for (left, right, first) in [(few, many, Side::Left), (many, few, Side::Right)] {
            let wanted = may_lose_unmatched(first.other(), &args);
            let shuffle = Shuffle { first: Some(first), runtime_filter: true, adaptive: false };
            let choice = choose_equi(&equi(&args, left, right), &fixed);
            assert_eq!(choice.strategy == Strategy::Shuffle(shuffle), wanted, "{how} {first:?}");
            if wanted {
                assert!(choice.cost.likely_bytes < Cost::shuffle(&left, &right, 8).likely_bytes);
            } else {
                assert_eq!(choice.strategy, PLAIN);
            }
        }
    }
    let off = Limits { runtime_filters: false, ..fixed };
    let args = JoinArgs::new(JoinType::Inner);
    assert_eq!(choose_equi(&equi(&args, few, many), &off).strategy, PLAIN);
    let nearly = side(399.0 * MB, 8);
    assert_eq!(choose_equi(&equi(&args, few, nearly), &fixed).strategy, PLAIN, "less than twice the rows");
}

#[test]
fn a_side_that_may_turn_out_small_is_waited_for() {
    let (few, many) = (side(200.0 * MB, 4), side(1000.0 * MB, 8));
    for how in [JoinType::Inner, JoinType::Left, JoinType::Full] {
        let wanted = may_broadcast(Side::Right, &how);
        let choice = choose_equi(&equi(&JoinArgs::new(how.clone()), many, few), &limits()).strategy;
        assert_eq!(matches!(choice, Strategy::Shuffle(Shuffle { adaptive: true, .. })), wanted, "{how}");
    }
    let hopeless = side(64.0 * 128.0 * MB + 1.0, 64);
    let huge = side(100_000.0 * MB, 800);
    let choice = chosen(JoinType::Inner, huge, hopeless);
    assert!(matches!(choice, Strategy::Shuffle(Shuffle { adaptive: false, .. })), "{choice:?}");
    // A surely small side is not broadcast if the other one is likely to be much smaller in the end.
    let filtered = SideSize { likely: 0.01, ..side(300.0 * MB, 4) };
    let choice = chosen(JoinType::Inner, filtered, side(100.0 * MB, 4));
    assert!(matches!(choice, Strategy::Shuffle(Shuffle { first: Some(Side::Left), adaptive: true, .. })), "{choice:?}");
    let unfiltered = SideSize { likely: 1.0, ..filtered };
    assert_eq!(chosen(JoinType::Inner, unfiltered, side(100.0 * MB, 4)), Strategy::Broadcast(Side::Right));
}

#[test]
fn a_few_keys_are_sent_to_many_rows() {
    let (few, many) = (side(MB, 4), side(1000.0 * MB, 8));
    for how in [JoinType::Semi, JoinType::Anti] {
        let args = JoinArgs::new(how.clone());
        assert_eq!(chosen(how.clone(), few, many), Strategy::SendKeys);
        // Wide rows of which there are few, beside many narrow ones that could be broadcast.
        let (wide, narrow) = (side(40.0 * MB, 4), SideSize { rows: Some(10.0 * MB), ..side(100.0 * MB, 4) });
        assert_eq!(chosen(how.clone(), wide, narrow), Strategy::SendKeys);
        let sent = EquiFacts { keys_were_sent: true, ..equi(&args, few, side(MB, 8)) };
        assert_eq!(choose_equi(&sent, &limits()).strategy, Strategy::Broadcast(Side::Right));
        let off = Limits { runtime_filters: false, ..limits() };
        assert!(matches!(choose_equi(&equi(&args, few, many), &off).strategy, Strategy::Shuffle(_)));
        // With very many workers, exchanging both sides once is cheaper.
        let wide = Limits { workers: 10_000, adaptive: false, ..limits() };
        assert!(matches!(choose_equi(&equi(&args, few, many), &wide).strategy, Strategy::Shuffle(_)));
    }
    assert_ne!(chosen(JoinType::Inner, few, many), Strategy::SendKeys);
}

#[test]
fn one_side_of_a_cross_join_is_held_everywhere() {
    let pairs = |left, right, order| choose_pairs(&PairFacts { left, right, order }, &limits()).strategy;
    let (few, many) = (side(MB, 4), side(900.0 * MB, 8));
    assert_eq!(pairs(few, many, &[]), Strategy::Broadcast(Side::Left));
    assert_eq!(pairs(many, few, &[]), Strategy::Broadcast(Side::Right));
    assert_eq!(pairs(few, many, &[Side::Left]), Strategy::Broadcast(Side::Right));
    assert_eq!(pairs(many, few, &[Side::Right, Side::Left]), Strategy::Broadcast(Side::Left));
    let unknown = SideSize { bytes: None, ..many };
    assert_eq!(pairs(unknown, unknown, &[]), Strategy::Broadcast(Side::Right));
    let one = |bytes| SideSize { tasks: 1, is_one: true, ..side(bytes, 1) };
    assert_eq!(pairs(one(MB), few, &[]), Strategy::Broadcast(Side::Left));
    assert_eq!(pairs(few, one(9.0 * MB), &[]), Strategy::Broadcast(Side::Right));
    assert_eq!(pairs(one(MB), one(MB), &[]), Strategy::SingleWorker);
}

#[test]
fn as_of_joins() {
    let (few, many) = (side(MB, 4), side(900.0 * MB, 8));
    let facts =
        AsofFacts { left: many, right: few, by_keys: false, parts_tell_unsorted: true, declared: false, partitions: 8 };
    let of = |facts: AsofFacts| choose_asof(&facts, &limits()).strategy;
    assert_eq!(of(facts), Strategy::Broadcast(Side::Right));
    assert_eq!(of(AsofFacts { parts_tell_unsorted: false, ..facts }), Strategy::Halo);
    assert_eq!(of(AsofFacts { right: many, ..facts }), Strategy::SingleWorker);
    let by = AsofFacts { by_keys: true, ..facts };
    assert_eq!(of(by), Strategy::Broadcast(Side::Right));
    assert_eq!(of(AsofFacts { right: many, ..by }), PLAIN);
    assert_eq!(of(AsofFacts { right: many, declared: true, ..by }), Strategy::SingleWorker);
    let one = SideSize { tasks: 1, is_one: true, ..many };
    let choice = choose_asof(&AsofFacts { left: one, ..facts }, &limits());
    assert_eq!((choice.strategy, choice.reason.as_str()), (Strategy::SingleWorker, "its input is in one task already"));
}

#[test]
fn a_decision_names_what_was_taken_and_what_was_not() {
    let args = JoinArgs::new(JoinType::Left);
    let choice = choose_equi(&equi(&args, side(900.0 * MB, 8), side(MB, 4)), &limits());
    let decision = choice.decision("left join on k");
    assert_eq!(decision.chosen.strategy, "broadcast join of the right side");
    assert_eq!(decision.chosen.cost.network_bytes, Some(8_000_000));
    // What decides: it beats the runner-up by the bytes that are handled.
    let handled = |option: &JoinOption| option.cost.handled_bytes.unwrap();
    assert!(handled(&decision.chosen) < decision.runner_up.as_ref().map(handled).unwrap());
    assert_eq!(decision.runner_up.map(|other| other.strategy), Some("hash join".into()));
    let why = |name: &str| decision.refused.iter().find(|other| other.strategy == name).map(|other| other.why.as_str());
    let once = "rows of the left side without a match would appear once per task in the result of the left join";
    assert_eq!(why("broadcast join of the left side"), Some(once));
    assert!(why("co-located join").is_some() && why("semi-join reduction by the left side's keys").is_some());
}
