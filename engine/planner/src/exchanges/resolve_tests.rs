use floe_wire::chunk::{Chunk, Chunks, KeyBounds, OutputId, Place, Shelf, WorkerId};
use floe_wire::graph::{Exchange, Nondeterminism, Read};
use floe_wire::task::{Portion, TaskOutput};

use super::*;

fn task(stage: u32, task: u32) -> TaskId {
    TaskId { stage: StageId(stage), task }
}

fn exchange(read: Read) -> Leaf {
    Leaf::Exchange { stages: vec![StageId(0)], read }
}

/// Stage 0 writes `output`, stage 1 reads it.
fn graph(output: Exchange, leaves: Vec<Leaf>) -> StageGraph {
    let stage = |id: u32, leaves: Vec<Leaf>, output: Exchange| Stage {
        id: StageId(id),
        label: String::new(),
        fragment: Bytes::from(format!("fragment {id}")),
        explain: Vec::new(),
        leaves,
        output,
        adaptive: None,
        nondeterminism: None,
        facts: Default::default(),
    };
    let source = Leaf::Source { what: String::new(), per_task: vec![Bytes::new(); 2] };
    let stages = vec![stage(0, vec![source], output), stage(1, leaves, Exchange::Result)];
    StageGraph { stages, roots: vec![StageId(1)], ..StageGraph::default() }
}

fn hash(partitions: u32) -> Exchange {
    Exchange::Hash { keys: vec!["k".into()], partitions }
}

/// An output in a file, with chunks of these partitions one after another, ten bytes and one row each.
fn output(partitions: &[u32]) -> TaskOutput {
    let chunk =
        |(at, partition): (usize, &u32)| Chunk { partition: *partition, rows: 1, offset: 10 * at as u64, len: 10 };
    let chunks = Chunks::new(partitions.iter().enumerate().map(chunk).collect());
    let place = Place::Worker { worker: WorkerId(0), shelf: Shelf::Disk };
    TaskOutput { place, chunks, rows: partitions.len() as u64, ..TaskOutput::default() }
}

fn done(outputs: Vec<TaskOutput>) -> HashMap<StageId, Vec<TaskOutput>> {
    HashMap::from([(StageId(0), outputs)])
}

fn reads(cuts: &Cuts, of: TaskId, catalog: &dyn Catalog) -> Vec<TaskId> {
    cuts.reads(of, catalog).unwrap().into_iter().map(|(task, _)| task).collect()
}

/// What a task reads of its first leaf: task of the producer and offset.
fn read(cuts: &Cuts, graph: &StageGraph, of: TaskId, catalog: &dyn Catalog) -> Vec<(u32, u64)> {
    let inputs = cuts.inputs(graph, of, &reads(cuts, of, catalog), catalog).unwrap();
    let LeafInput::Rows { outputs, .. } = &inputs[0] else { panic!("{inputs:?}") };
    let of = |portion: &Portion| portion.chunks.iter().map(|chunk| (portion.output.task.task, chunk.offset)).collect();
    outputs.iter().flat_map(|portion| -> Vec<(u32, u64)> { of(portion) }).collect()
}

/// A catalog in which one output was made again.
struct Again<'a>(&'a HashMap<StageId, Vec<TaskOutput>>, TaskId, Option<&'a TaskOutput>);

impl Catalog for Again<'_> {
    fn tasks(&self, stage: StageId) -> Option<u32> {
        self.0.tasks(stage)
    }

    fn output(&self, task: TaskId) -> Option<Found<'_>> {
        if task == self.1 {
            return self.2.map(|output| Found { id: OutputId { task, attempt: 1 }, output });
        }
        self.0.output(task)
    }
}

#[test]
fn hash_partitions_are_read_producer_by_producer() {
    let graph = graph(hash(3), vec![exchange(Read::Partition)]);
    let done = done(vec![output(&[0, 1, 2, 1]), output(&[2, 1])]);
    let mut cuts = Cuts::default();
    assert_eq!(cuts.resolve(&graph, StageId(1), &done, 0).unwrap(), 3);
    assert_eq!(read(&cuts, &graph, task(1, 0), &done), [(0, 0)]);
    assert_eq!(read(&cuts, &graph, task(1, 1), &done), [(0, 10), (0, 30), (1, 10)]);
    assert_eq!(read(&cuts, &graph, task(1, 2), &done), [(0, 20), (1, 0)]);
    assert_eq!(cuts.reads(task(1, 0), &done).unwrap(), [(task(0, 0), 10)], "the other one has nothing for it");
    assert_eq!(cuts.reads(task(1, 1), &done).unwrap(), [(task(0, 0), 20), (task(0, 1), 10)]);
    assert!(cuts.reads(task(1, 3), &done).is_err());
}

#[test]
fn partitions_without_rows_need_no_task() {
    let graph = graph(hash(4), vec![exchange(Read::Partition)]);
    let mut cuts = Cuts::default();
    let some = done(vec![output(&[1]), output(&[3])]);
    assert_eq!(cuts.resolve(&graph, StageId(1), &some, 0).unwrap(), 2);
    assert_eq!(read(&cuts, &graph, task(1, 1), &some), [(1, 0)]);
    let none = done(vec![output(&[])]);
    assert_eq!(cuts.resolve(&graph, StageId(1), &none, 0).unwrap(), 1, "one, for what an empty input gives");
    let error = cuts.resolve(&graph, StageId(1), &done(vec![output(&[4])]), 0).unwrap_err();
    assert!(error.message.contains("a partition that the exchange does not have"), "{error}");
}

#[test]
fn an_output_made_again_is_read_where_it_is_now() {
    let graph = graph(hash(2), vec![exchange(Read::Partition)]);
    let first = done(vec![output(&[0, 1]), output(&[0, 1])]);
    let mut cuts = Cuts::default();
    cuts.resolve(&graph, StageId(1), &first, 0).unwrap();
    let reads = reads(&cuts, task(1, 1), &first);
    let other = TaskOutput { place: Place::Store, ..output(&[1, 1, 0]) };
    let now = Again(&first, task(0, 1), Some(&other));
    let inputs = cuts.inputs(&graph, task(1, 1), &reads, &now).unwrap();
    let LeafInput::Rows { outputs, .. } = &inputs[0] else { panic!("{inputs:?}") };
    let ids: Vec<(u32, u32)> =
        outputs.iter().map(|portion| (portion.output.task.task, portion.output.attempt)).collect();
    assert_eq!(ids, [(0, 0), (1, 1)]);
    assert_eq!(outputs[1].place, Place::Store);
    assert_eq!(outputs[1].chunks.iter().map(|chunk| chunk.offset).collect::<Vec<_>>(), [0, 10]);
    let gone = Again(&first, task(0, 1), None);
    let error = cuts.inputs(&graph, task(1, 1), &reads, &gone).unwrap_err();
    assert!(error.message.contains("task 1 of stage 0 is read and is not there"), "{error}");
    assert!(cuts.inputs(&graph, task(1, 1), &[task(0, 0)], &gone).is_ok(), "what it does not read may be gone");
}

/// A task that is made again with other rows may write to partitions that it left empty before.
#[test]
fn outputs_that_may_differ_are_read_by_every_task_that_could_have_rows_of_them() {
    let mut graph = graph(hash(3), vec![exchange(Read::Partition)]);
    let mut cuts = Cuts::default();
    let first = done(vec![output(&[0]), output(&[])]);
    assert_eq!(cuts.resolve(&graph, StageId(1), &first, 0).unwrap(), 1, "the others are empty");
    graph.stages[0].nondeterminism = Some(Nondeterminism::UnorderedRows);
    assert_eq!(cuts.resolve(&graph, StageId(1), &first, 0).unwrap(), 1, "an order changes no row");
    graph.stages[0].nondeterminism = Some(Nondeterminism::NoSeed);
    assert_eq!(cuts.resolve(&graph, StageId(1), &first, 0).unwrap(), 3);
    for at in 0..3 {
        assert_eq!(reads(&cuts, task(1, at), &first), [task(0, 0), task(0, 1)]);
    }
    let other = output(&[2]);
    let now = Again(&first, task(0, 0), Some(&other));
    assert!(read(&cuts, &graph, task(1, 0), &now).is_empty());
    assert_eq!(read(&cuts, &graph, task(1, 2), &now), [(0, 0)]);

    let mut graph = self::graph(Exchange::Whole, vec![exchange(Read::Forward)]);
    graph.stages[0].nondeterminism = Some(Nondeterminism::NoSeed);
    let first = done(vec![output(&[0, 0]), output(&[0])]);
    cuts.resolve(&graph, StageId(1), &first, 0).unwrap();
    let reads = reads(&cuts, task(1, 1), &first);
    assert_eq!(reads, [task(0, 0), task(0, 1)], "its row numbers hang on the first one's rows");
    let other = output(&[0, 0, 0, 0]);
    let now = Again(&first, task(0, 0), Some(&other));
    let inputs = cuts.inputs(&graph, task(1, 1), &reads, &now).unwrap();
    assert!(matches!(&inputs[0], LeafInput::Rows { before: 4, outputs, .. } if outputs.len() == 1), "{inputs:?}");
}

#[test]
fn rows_before_a_task_are_counted_and_neighbours_are_read() {
    let graph = graph(Exchange::Whole, vec![exchange(Read::Forward), exchange(Read::Before), exchange(Read::After)]);
    let done = done(vec![output(&[0, 0]), output(&[0]), output(&[0, 0, 0])]);
    let mut cuts = Cuts::default();
    assert_eq!(cuts.resolve(&graph, StageId(1), &done, 0).unwrap(), 3);
    let rows = |at: u32| {
        let reads = reads(&cuts, task(1, at), &done);
        assert_eq!(reads, [task(0, 0), task(0, 1), task(0, 2)]);
        let inputs = cuts.inputs(&graph, task(1, at), &reads, &done).unwrap();
        let one = |input: &LeafInput| match input {
            LeafInput::Rows { outputs, before, .. } => {
                (outputs.iter().map(|portion| portion.output.task.task).collect::<Vec<_>>(), *before)
            }
            LeafInput::Source(_) | LeafInput::KeySummaries(_) => panic!("{input:?}"),
        };
        inputs.iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(rows(0), [(vec![0], 0), (vec![], 0), (vec![1, 2], 0)]);
    assert_eq!(rows(1), [(vec![1], 2), (vec![0], 0), (vec![2], 0)]);
    assert_eq!(rows(2), [(vec![2], 3), (vec![0, 1], 0), (vec![], 0)]);
}

#[test]
fn key_ranges_take_the_chunks_that_overlap_also_of_outputs_made_again() {
    let sorted = |bounds: &[(&str, &str)]| {
        let chunk = |(at, (first, last)): (usize, &(&str, &str))| {
            let chunk = Chunk { partition: 0, rows: 10, offset: 10 * at as u64, len: 10 };
            (chunk, KeyBounds::new(first.as_bytes(), last.as_bytes()))
        };
        TaskOutput { chunks: Chunks::sorted(bounds.iter().enumerate().map(chunk).collect()), ..output(&[]) }
    };
    let graph = graph(Exchange::Range { key: "k".into(), partitions: 2 }, vec![exchange(Read::Partition)]);
    let first = done(vec![sorted(&[("a", "f"), ("g", "m")]), sorted(&[("a", "c"), ("h", "z")])]);
    let mut cuts = Cuts::default();
    assert_eq!(cuts.resolve(&graph, StageId(1), &first, 0).unwrap(), 2);
    assert_eq!(read(&cuts, &graph, task(1, 0), &first), [(0, 0), (1, 0)]);
    assert_eq!(read(&cuts, &graph, task(1, 1), &first), [(0, 10), (1, 10)]);
    let reads = reads(&cuts, task(1, 1), &first);
    let again = sorted(&[("a", "d"), ("e", "e"), ("e", "h"), ("h", "m")]);
    let now = Again(&first, task(0, 0), Some(&again));
    let inputs = cuts.inputs(&graph, task(1, 1), &reads, &now).unwrap();
    let LeafInput::Rows { outputs, range: Some(range), .. } = &inputs[0] else { panic!("{inputs:?}") };
    assert_eq!((range.from.as_deref(), range.to.as_deref()), (Some(&b"g"[..]), None), "the first cut stays");
    assert_eq!(outputs[0].chunks.iter().map(|chunk| chunk.offset).collect::<Vec<_>>(), [20, 30]);
}

#[test]
fn key_summaries_are_no_rows() {
    let graph = graph(hash(1), vec![exchange(Read::Partition), exchange(Read::KeySummaries)]);
    let noted = TaskOutput { summary: Some(floe_wire::chunk::Span { offset: 70, len: 5 }), ..output(&[0]) };
    let done = done(vec![noted, output(&[])]);
    let mut cuts = Cuts::default();
    cuts.resolve(&graph, StageId(1), &done, 0).unwrap();
    assert_eq!(cuts.reads(task(1, 0), &done).unwrap(), [(task(0, 0), 15)]);
    let inputs = cuts.inputs(&graph, task(1, 0), &[task(0, 0)], &done).unwrap();
    let LeafInput::KeySummaries(summaries) = &inputs[1] else { panic!("{inputs:?}") };
    assert_eq!(summaries.iter().map(|summary| summary.span.offset).collect::<Vec<_>>(), [70]);
}

#[test]
fn the_choice_of_an_adaptive_form_stays() {
    for (small, form) in [(true, Form::Adaptive), (false, Form::AsPlanned)] {
        let mut graph = graph(hash(2), vec![exchange(Read::Partition)]);
        let mut joined = graph.stages[1].clone();
        joined.id = StageId(2);
        joined.leaves = vec![Leaf::Exchange { stages: vec![StageId(1)], read: Read::All }];
        joined.adaptive = Some(Box::new(AdaptiveForm {
            small: vec![StageId(0)],
            bytes: if small { 100 } else { 10 },
            replaces: StageId(1),
            label: String::new(),
            fragment: Bytes::from_static(b"the other"),
            explain: Vec::new(),
            leaves: vec![exchange(Read::All)],
            facts: Default::default(),
        }));
        graph.stages.push(joined);
        let mut done = done(vec![TaskOutput { size: 50, ..output(&[0]) }]);
        let mut cuts = Cuts::default();
        assert_eq!(cuts.form(StageId(2)), None);
        let tasks = cuts.resolve(&graph, StageId(1), &done, 0).unwrap();
        let left_out = if small { Form::LeftOut } else { Form::AsPlanned };
        assert_eq!((tasks, cuts.form(StageId(1))), (usize::from(!small), Some(left_out)));
        done.insert(StageId(1), vec![output(&[0]); tasks]);
        assert_eq!(cuts.resolve(&graph, StageId(2), &done, 0).unwrap(), 1);
        assert_eq!(cuts.form(StageId(2)), Some(form));
        let fragment: &[u8] = if small { b"the other" } else { b"fragment 1" };
        assert_eq!(cuts.fragment(&graph.stages[2])[..], *fragment);
    }
}

#[test]
fn small_partitions_are_coalesced_and_none_is_lost() {
    let coalescing = Coalescing { min_tasks: 2, max_bytes: 100 };
    assert_eq!(merged(&[10, 10, 10, 10], coalescing), [0..2, 2..4]);
    assert_eq!(merged(&[0, 0, 0, 0], coalescing), [0..1, 1..4]);
    assert_eq!(merged(&[500, 1, 1, 1], coalescing), [0..1, 1..2, 2..3, 3..4]);
    assert_eq!(merged(&[1, 1, 1, 500], coalescing), [0..1, 1..2, 2..3, 3..4]);
    assert_eq!(merged(&[7], coalescing), std::slice::from_ref(&(0..1)));
    for sizes in
        [[0, 90, 0, 0, 90, 3, 3], [1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1], [50; 7], [300, 0, 0, 0, 9, 0, 0]]
    {
        let runs = merged(&sizes, coalescing);
        assert_eq!(runs.first().map(|run| run.start), Some(0));
        assert_eq!(runs.last().map(|run| run.end), Some(7));
        assert!(runs.windows(2).all(|pair| pair[0].end == pair[1].start), "{sizes:?} {runs:?}");
        assert!(runs.len() >= 2, "{sizes:?} {runs:?}");
    }
}

#[test]
fn coalesced_partitions_are_read_one_after_another_from_each_producer() {
    let mut graph = graph(hash(2), vec![exchange(Read::Partition)]);
    graph.coalescing = Some(Coalescing { min_tasks: 1, max_bytes: 1000 });
    let done = done(vec![output(&[1, 0, 1]), output(&[0, 1])]);
    let mut cuts = Cuts::default();
    assert_eq!(cuts.resolve(&graph, StageId(1), &done, 0).unwrap(), 1);
    assert_eq!(read(&cuts, &graph, task(1, 0), &done), [(0, 10), (0, 0), (0, 20), (1, 0), (1, 10)]);
}

#[test]
fn neighbouring_outputs_go_to_one_task_until_they_fill_a_file() {
    let mut graph = graph(Exchange::Whole, vec![exchange(Read::Neighbours { bytes: 50 })]);
    graph.coalescing = Some(Coalescing { min_tasks: 1, max_bytes: 10 });
    let done = done(vec![output(&[0, 0]), output(&[]), output(&[0]), output(&[0, 0, 0]), output(&[0])]);
    let mut cuts = Cuts::default();
    assert_eq!(cuts.resolve(&graph, StageId(1), &done, 0).unwrap(), 2, "seventy bytes");
    let all = [0, 1].map(|at| read(&cuts, &graph, task(1, at), &done));
    assert_eq!(all[0], [(0, 0), (0, 10), (2, 0), (3, 0), (3, 10), (3, 20)]);
    assert_eq!(all[1], [(4, 0)]);
    assert_eq!(reads(&cuts, task(1, 1), &done), [task(0, 4)]);
    // One for each worker, whatever the size.
    graph.coalescing = Some(Coalescing { min_tasks: 3, max_bytes: 1000 });
    assert_eq!(Cuts::default().resolve(&graph, StageId(1), &done, 0).unwrap(), 3);
    graph.coalescing = None;
    assert_eq!(Cuts::default().resolve(&graph, StageId(1), &done, 0).unwrap(), 5);
}

#[test]
fn stages_whose_tasks_were_too_large_are_cut_finer() {
    let coalescing = Some(Coalescing { min_tasks: 1, max_bytes: 160 });
    let hashed = StageGraph { coalescing, ..graph(hash(16), vec![exchange(Read::Partition)]) };
    let mut first = done(vec![TaskOutput { bytes: 160, size: 160, ..output(&(0..16).collect::<Vec<_>>()) }]);
    let tasks = |done: &HashMap<StageId, Vec<TaskOutput>>, finer: u32| {
        Cuts::default().resolve(&hashed, StageId(1), done, finer).unwrap()
    };
    assert_eq!([0, 1, 2, 3].map(|finer| tasks(&first, finer)), [1, 4, 16, 16]);
    // Compressed on disk: their size in memory counts.
    first.get_mut(&StageId(0)).unwrap()[0].size = 640;
    assert_eq!(tasks(&first, 0), 4);

    // A broadcast beside partitions: no more than a worker can hold.
    let mut sent = graph(hash(16), vec![exchange(Read::Partition), exchange(Read::All)]);
    sent.max_broadcast_bytes = Some(640);
    assert_eq!(sent.broadcasts(), 1);
    assert_eq!(Cuts::default().resolve(&sent, StageId(1), &first, 0).unwrap(), 16);
    sent.max_broadcast_bytes = Some(639);
    let error = Cuts::default().resolve(&sent, StageId(1), &first, 0).unwrap_err();
    assert_eq!(error.category, floe_wire::error::Category::OutOfMemory);

    let range = Exchange::Range { key: "k".into(), partitions: 16 };
    let ranged = StageGraph { coalescing, ..graph(range, vec![exchange(Read::Partition)]) };
    let chunk = |at: u8| {
        let chunk = Chunk { partition: 0, rows: 10, offset: 10 * u64::from(at), len: 10 };
        (chunk, KeyBounds::new(&[at], &[at]))
    };
    let sorted = Chunks::sorted((0..16).map(chunk).collect());
    let done = done(vec![TaskOutput { chunks: sorted, bytes: 160, size: 160, ..output(&[]) }]);
    for (finer, expected) in [(0, 1), (1, 2), (2, 6)] {
        let mut cuts = Cuts::default();
        assert_eq!(cuts.resolve(&ranged, StageId(1), &done, finer).unwrap(), expected);
        let chunks: usize = (0..expected as u32).map(|at| read(&cuts, &ranged, task(1, at), &done).len()).sum();
        assert_eq!(chunks, 16, "every chunk is read once, as none crosses a border");
    }
}
