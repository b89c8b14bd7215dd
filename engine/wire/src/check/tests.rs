//! One sound graph, and each rule broken in it alone.

use bytes::Bytes;

use super::{AdaptiveFault, Finding};
use crate::facts::{BroadcastBound, Column, Placeholder, PlanOutput, RowOrder, StageFacts};
use crate::graph::{AdaptiveForm, Exchange, Leaf, Read, SingleWorker, Stage, StageGraph, StageId};

fn columns(names: &[&str]) -> Vec<Column> {
    let dtype = |name: &str| if name == "k" { "Int64" } else { "String" };
    names.iter().map(|name| Column::new(*name, dtype(name))).collect()
}

fn source(tasks: usize) -> Leaf {
    Leaf::Source { what: "scan".into(), per_task: vec![Bytes::new(); tasks] }
}

fn read(stage: u32, read: Read) -> Leaf {
    Leaf::Exchange { stages: vec![StageId(stage)], read }
}

fn placeholder(names: &[&str], bound: Option<BroadcastBound>) -> Placeholder {
    Placeholder { columns: columns(names), bound, ranges: None }
}

fn stage(id: u32, tasks: u32, names: &[&str], inputs: Vec<(Leaf, Placeholder)>, output: Exchange) -> Stage {
    let (leaves, placeholders) = inputs.into_iter().unzip();
    Stage {
        id: StageId(id),
        label: String::new(),
        fragment: Bytes::new(),
        explain: Vec::new(),
        leaves,
        output,
        adaptive: None,
        nondeterminism: None,
        facts: StageFacts { columns: columns(names), tasks, placeholders, ..StageFacts::default() },
    }
}

fn by_key(partitions: u32) -> Exchange {
    Exchange::Hash { keys: vec!["k".into()], partitions }
}

const LIMIT: BroadcastBound = BroadcastBound::Estimate { expected_bytes: 10, limit_bytes: 100 };

/// Two scans that are joined by hash, with a runtime filter and an adaptive form, and then with a third one, broadcast.
fn sound() -> StageGraph {
    let scan = |names: &[&str]| placeholder(names, None);
    let mut stages = vec![
        stage(0, 2, &["k", "a"], vec![(source(2), scan(&["k", "a"]))], by_key(4)),
        stage(1, 3, &["k", "b"], vec![(source(3), scan(&["k", "b"]))], by_key(4)),
        stage(
            2,
            4,
            &["k", "a", "b"],
            vec![(read(0, Read::Partition), scan(&["k", "a"])), (read(1, Read::Partition), scan(&["k", "b"]))],
            Exchange::Whole,
        ),
        stage(3, 1, &["c"], vec![(source(1), scan(&["c"]))], Exchange::Whole),
        stage(
            4,
            4,
            &["k", "a", "b", "c"],
            vec![
                (read(2, Read::Forward), scan(&["k", "a", "b"])),
                (read(3, Read::All), placeholder(&["c"], Some(LIMIT))),
            ],
            Exchange::Result,
        ),
    ];
    stages[0].facts.key_summary = Some(vec!["k".into()]);
    stages[1].facts.key_filters = vec![vec!["k".into()]];
    stages[1].leaves.push(read(0, Read::KeySummaries));
    let measured = BroadcastBound::Measured { limit_bytes: 50 };
    stages[2].adaptive = Some(Box::new(AdaptiveForm {
        small: vec![StageId(0)],
        bytes: 50,
        replaces: StageId(1),
        label: String::new(),
        fragment: Bytes::new(),
        explain: Vec::new(),
        leaves: vec![read(0, Read::All), source(3)],
        facts: StageFacts {
            columns: columns(&["k", "a", "b"]),
            tasks: 3,
            placeholders: vec![placeholder(&["k", "a"], Some(measured)), placeholder(&["k", "b"], None)],
            ..StageFacts::default()
        },
    }));
    let outputs = vec![PlanOutput { columns: columns(&["k", "a", "b", "c"]), ordered: false }];
    StageGraph { stages, roots: vec![StageId(4)], outputs, ..StageGraph::default() }
}

/// The findings of the sound graph with one thing broken.
fn broken(f: impl FnOnce(&mut StageGraph)) -> Vec<Finding> {
    let mut graph = sound();
    f(&mut graph);
    graph.check()
}

fn adaptive(f: impl FnOnce(&mut StageGraph, &mut AdaptiveForm)) -> Vec<Finding> {
    broken(|graph| {
        let mut form = graph.stages[2].adaptive.take().unwrap();
        f(graph, &mut form);
        graph.stages[2].adaptive = Some(form);
    })
}

fn fault(fault: AdaptiveFault) -> Vec<Finding> {
    vec![Finding::AdaptiveForm { stage: StageId(2), fault }]
}

const S: [StageId; 10] = [
    StageId(0),
    StageId(1),
    StageId(2),
    StageId(3),
    StageId(4),
    StageId(5),
    StageId(6),
    StageId(7),
    StageId(8),
    StageId(9),
];

#[test]
fn a_sound_graph_has_no_findings() {
    assert_eq!(sound().check(), []);
}

#[test]
fn stages_exist_and_come_before_their_readers() {
    assert_eq!(broken(|g| g.stages[3].id = S[9]), [Finding::Misplaced { place: 3, id: S[9] }]);
    let unknown = [Finding::UnknownInput { reader: S[4], input: S[7] }];
    assert_eq!(broken(|g| g.stages[4].leaves[1] = read(7, Read::All)), unknown);
    for later in [3, 4] {
        let found = broken(|g| g.stages[3].leaves[0] = read(later, Read::All));
        assert_eq!(found, [Finding::InputAfterReader { reader: S[3], input: StageId(later) }]);
    }
    assert_eq!(adaptive(|_, form| form.small = vec![S[8]]), [Finding::UnknownInput { reader: S[2], input: S[8] }]);
    let alone = SingleWorker { stage: S[9], node: "sort".into(), reason: String::new() };
    assert_eq!(broken(|g| g.single_worker.push(alone)), [Finding::UnknownSingleWorker { stage: S[9] }]);
}

#[test]
fn leaves_fill_the_placeholders() {
    let empty = broken(|g| {
        g.stages[3].leaves[0] = source(0);
        g.stages[3].facts.tasks = 0;
    });
    assert_eq!(empty, [Finding::EmptyLeaf { stage: S[3], leaf: 0 }]);
    let more = broken(|g| g.stages[3].facts.placeholders.push(Placeholder::default()));
    assert_eq!(more, [Finding::LeafCount { stage: S[3], leaves: 1, placeholders: 2 }]);
    assert_eq!(broken(|g| g.stages[1].leaves.swap(0, 1)), [Finding::KeyLeafNotLast { stage: S[1], leaf: 0 }]);
    let (expected, written) = (columns(&["d"]), columns(&["c"]));
    let other = broken(|g| g.stages[4].facts.placeholders[1].columns = expected.clone());
    assert_eq!(other, [Finding::LeafColumns { stage: S[4], leaf: 1, input: S[3], expected, written }]);
}

#[test]
fn exchanges_have_their_keys_and_partitions() {
    let keys = |g: &mut StageGraph, keys: Vec<String>| g.stages[0].output = Exchange::Hash { keys, partitions: 4 };
    let missing = [Finding::MissingExchangeKey { stage: S[0], key: "z".into() }];
    assert_eq!(broken(|g| keys(g, vec!["z".into()])), missing);
    assert_eq!(broken(|g| keys(g, Vec::new())), [Finding::NoExchangeKey { stage: S[0] }]);
    let none = broken(|g| {
        (g.stages[0].output, g.stages[1].output) = (by_key(0), by_key(0));
        (g.stages[2].facts.tasks, g.stages[4].facts.tasks) = (0, 0);
    });
    assert_eq!(none, [Finding::NoPartitions { stage: S[0] }, Finding::NoPartitions { stage: S[1] }]);
}

#[test]
fn partitions_are_read_where_they_are_made() {
    let found = broken(|g| g.stages[4].leaves[1] = read(3, Read::Partition));
    assert_eq!(found, [Finding::NotPartitioned { stage: S[4], leaf: 1, input: S[3] }]);
    let found = broken(|g| g.stages[3].output = Exchange::Hash { keys: vec!["c".into()], partitions: 4 });
    assert_eq!(found, [Finding::PartitionsUnread { stage: S[3] }]);
    let found = broken(|g| {
        (g.stages[3].output, g.stages[4].output) = (Exchange::Sink { sink: 1 }, Exchange::Sink { sink: 0 });
        g.outputs.push(PlanOutput { columns: columns(&["c"]), ordered: false });
        g.roots.push(S[3]);
    });
    assert_eq!(found, [Finding::OutputRead { reader: S[4], input: S[3] }]);
    let unread = broken(|g| {
        g.stages[4].leaves.pop();
        g.stages[4].facts.placeholders.pop();
    });
    assert_eq!(unread, [Finding::Unread { stage: S[3] }]);
    // The third scan twice, by ranges, and read in another way.
    let mixed = broken(|g| {
        let ranges = |partitions| Exchange::Range { key: "c".into(), partitions };
        let mut again = g.stages[3].clone();
        (g.stages[3].output, again.output, again.id) = (ranges(4), ranges(5), S[4]);
        let mut last = g.stages.pop().unwrap();
        let both = Leaf::Exchange { stages: vec![S[3], S[4]], read: Read::Partition };
        let sort = stage(5, 5, &["c"], vec![(both, placeholder(&["c"], None))], Exchange::Whole);
        last.id = S[6];
        last.leaves[1] = read(5, Read::All);
        g.stages.extend([again, sort, last]);
        g.roots = vec![S[6]];
    });
    assert_eq!(mixed, [Finding::MixedExchanges { stage: S[5], leaf: 0, one: S[3], other: S[4] }]);
}

#[test]
fn the_sides_of_a_join_match() {
    let found = broken(|g| g.stages[1].output = by_key(5));
    let counts =
        Finding::PartitionCounts { stage: S[2], left: S[0], right: S[1], left_partitions: 4, right_partitions: 5 };
    assert_eq!(found, [counts]);
    let found = broken(|g| {
        let narrow = Column::new("k", "Int32");
        g.stages[1].facts.columns[0] = narrow.clone();
        g.stages[2].facts.placeholders[1].columns[0] = narrow;
    });
    let (left_types, right_types) = (vec!["Int64".to_string()], vec!["Int32".to_string()]);
    assert_eq!(found, [Finding::KeyTypes { stage: S[2], left: S[0], right: S[1], left_types, right_types }]);
}

#[test]
fn leaves_are_cut_into_the_tasks_that_are_planned() {
    let found = broken(|g| g.stages[4].leaves[1] = read(3, Read::Forward));
    assert_eq!(found, [Finding::TaskCounts { stage: S[4], one: 0, other: 1 }]);
    // As many partitions as the scan has tasks: rows of equal keys would still not be where the scan's rows are.
    let found = broken(|g| g.stages[2].leaves[0] = source(4));
    assert!(found.contains(&Finding::TaskCounts { stage: S[2], one: 0, other: 1 }), "{found:?}");
    assert_eq!(broken(|g| g.stages[3].facts.tasks = 2), [Finding::PlannedTasks { stage: S[3], planned: 2, cut: 1 }]);
}

#[test]
fn broadcasts_have_a_limit() {
    let bound = |bound| broken(|g| g.stages[4].facts.placeholders[1].bound = bound);
    let unlimited = [Finding::UnlimitedBroadcast { stage: S[4], leaf: 1, tasks: 4 }];
    assert_eq!(bound(None), unlimited);
    assert_eq!(bound(Some(BroadcastBound::Measured { limit_bytes: 9 })), unlimited);
    let over = bound(Some(BroadcastBound::Estimate { expected_bytes: 101, limit_bytes: 100 }));
    assert_eq!(over, [Finding::BroadcastOverLimit { stage: S[4], leaf: 1, expected_bytes: 101, limit_bytes: 100 }]);
    assert_eq!(bound(Some(BroadcastBound::OnlyForm)), []);
    assert_eq!(bound(Some(BroadcastBound::Rows { max_rows: 1 })), []);
}

#[test]
fn the_query_has_its_outputs() {
    assert_eq!(StageGraph::default().check(), [Finding::NoRoots]);
    assert_eq!(broken(|g| g.roots.push(S[9])), [Finding::UnknownRoot { root: S[9] }]);
    assert_eq!(broken(|g| g.roots.push(S[4])), [Finding::RepeatedRoot { root: S[4] }]);
    assert_eq!(broken(|g| g.roots.push(S[3])), [Finding::RootExchanges { root: S[3] }]);
    assert_eq!(broken(|g| g.stages[3].output = Exchange::Result), [Finding::NotARoot { stage: S[3] }]);
    let beyond = broken(|g| g.stages[4].output = Exchange::Sink { sink: 1 });
    assert_eq!(beyond, [Finding::SinkOutOfRange { stage: S[4], sink: 1, outputs: 1 }]);
    let unwritten = broken(|g| g.outputs.push(PlanOutput::default()));
    assert_eq!(unwritten, [Finding::OutputUnwritten { output: 1 }]);
}

#[test]
fn the_user_gets_the_columns_and_the_order_of_the_plan() {
    let tag = Column::new("__floe_ord1", "UInt64");
    let hidden = broken(|g| g.stages[4].facts.columns.push(tag.clone()));
    assert_eq!(hidden, [Finding::HiddenColumn { stage: S[4], column: tag.name.clone() }]);
    // A user's own column may have that name.
    let own = broken(|g| {
        g.stages[4].facts.columns.push(tag.clone());
        g.outputs[0].columns.push(tag.clone());
    });
    assert_eq!(own, []);
    let written = columns(&["k", "a", "c", "b"]);
    let found = broken(|g| g.stages[4].facts.columns = written.clone());
    let expected = columns(&["k", "a", "b", "c"]);
    assert_eq!(found, [Finding::OutputColumns { stage: S[4], expected, written }]);
    assert_eq!(broken(|g| g.outputs[0].ordered = true), [Finding::OrderLost { stage: S[4] }]);
    let kept = broken(|g| (g.outputs[0].ordered, g.stages[4].facts.order) = (true, RowOrder::Promised));
    assert_eq!(kept, []);
    let tagged = broken(|g| g.stages[0].facts.order = RowOrder::Tags(vec!["k".into(), tag.name.clone()]));
    assert_eq!(tagged, [Finding::MissingOrderTag { stage: S[0], tag: tag.name }]);
}

#[test]
fn key_summaries_are_written_and_read() {
    let none = broken(|g| g.stages[0].facts.key_summary = None);
    assert_eq!(none, [Finding::NoKeySummary { stage: S[1], input: S[0] }]);
    let unread = broken(|g| {
        g.stages[1].leaves.pop();
        g.stages[1].facts.key_filters.pop();
    });
    assert_eq!(unread, [Finding::KeySummaryUnread { stage: S[0] }]);
    let z = || vec!["z".to_string()];
    let missing = broken(|g| g.stages[0].facts.key_summary = Some(z()));
    assert_eq!(missing, [Finding::MissingSummaryKey { stage: S[0], key: "z".into() }]);
    let missing = broken(|g| g.stages[1].facts.key_filters = vec![z()]);
    assert_eq!(missing, [Finding::MissingFilterKey { stage: S[1], key: "z".into() }]);
    let more = broken(|g| g.stages[1].facts.key_filters.push(vec!["k".into()]));
    assert_eq!(more, [Finding::KeyFilterCount { stage: S[1], filters: 2, leaves: 1 }]);
}

#[test]
fn the_adaptive_form_leaves_out_what_nobody_else_reads() {
    assert_eq!(adaptive(|_, form| form.replaces = S[3]), fault(AdaptiveFault::LeavesOutUnread(S[3])));
    let shared = adaptive(|g, _| {
        g.stages[4].leaves.push(read(1, Read::All));
        g.stages[4].facts.placeholders.push(placeholder(&["k", "b"], Some(LIMIT)));
    });
    assert_eq!(shared, fault(AdaptiveFault::LeavesOutShared { left_out: S[1], reader: S[4] }));
    let read_again = adaptive(|_, form| {
        form.leaves.push(read(1, Read::All));
        form.facts.placeholders.push(placeholder(&["k", "b"], Some(LIMIT)));
    });
    assert_eq!(read_again, fault(AdaptiveFault::ReadsLeftOut(S[1])));
}

#[test]
fn the_adaptive_form_is_chosen_by_a_size_that_is_known_in_time() {
    assert_eq!(adaptive(|_, form| form.small.clear()), fault(AdaptiveFault::MeasuresNothing));
    assert_eq!(adaptive(|_, form| form.small = vec![S[3]]), fault(AdaptiveFault::MeasuresUnread(S[3])));
    let late = adaptive(|g, form| {
        (form.small, form.replaces) = (vec![S[1]], S[0]);
        form.leaves[0] = read(1, Read::All);
        form.facts.placeholders[0].columns = columns(&["k", "b"]);
        g.stages[0].facts.key_summary = None;
        g.stages[1].leaves.pop();
        g.stages[1].facts.key_filters.pop();
    });
    assert_eq!(late, fault(AdaptiveFault::MeasuredTooLate { measured: S[1], left_out: S[0] }));
    let unlimited = adaptive(|_, form| {
        form.bytes = u64::MAX;
        form.facts.placeholders[0].bound = Some(BroadcastBound::Measured { limit_bytes: u64::MAX });
    });
    assert_eq!(unlimited, fault(AdaptiveFault::NoLimit));
    let other = adaptive(|_, form| form.bytes = 60);
    assert_eq!(other, fault(AdaptiveFault::OtherLimit { bound_bytes: 50, limit_bytes: 60 }));
    let (planned, columns) = (columns(&["k", "a", "b"]), columns(&["k", "a"]));
    let fewer = adaptive(|_, form| form.facts.columns = columns.clone());
    assert_eq!(fewer, fault(AdaptiveFault::OtherColumns { planned, adaptive: columns }));
}

#[test]
fn a_faulty_graph_is_rejected_by_its_first_finding() {
    assert_eq!(super::rejection(&[]), None);
    let error = super::rejection(&[Finding::NoRoots, Finding::Unread { stage: S[1] }]).unwrap();
    assert_eq!(error.category, crate::error::Category::Internal);
    assert_eq!(error.message, "the stage graph of this query is faulty: the query has no output (and 1 more)");
}

#[test]
fn findings_are_reported_in_plain_words() {
    let (expected, written) = (columns(&["k", "a"]), columns(&["k"]));
    let finding = Finding::LeafColumns { stage: S[4], leaf: 1, input: S[3], expected, written };
    let text = "leaf 1 of stage 4 expects other columns than stage 3 writes: column 1 should be \"a\" (String), and is nothing";
    assert_eq!(finding.to_string(), text);
    assert_eq!(finding.rule(), "leaf-columns");
    let finding = &fault(AdaptiveFault::MeasuresNothing)[0];
    assert_eq!(finding.to_string(), "the adaptive form of stage 2 is chosen by the size of no stage");
    assert_eq!(finding.rule(), "adaptive-form");
}
