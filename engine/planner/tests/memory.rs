//! Memory that a coordinator needs for an exchange of 1,000 producers and 1,000 partitions: every output in the
//! scheduler's state, the cut of the reading stage, and the inputs of a task while it is launched. Counted by an
//! allocator of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use floe_planner::Cuts;
use floe_scheduler::{Action, Event, Limits, ResolvedInputs, State, decide};
use floe_wire::chunk::{Chunk, Chunks, KeyBounds, Place, Shelf, WorkerId};
use floe_wire::graph::{Exchange, Leaf, Read, Stage, StageGraph, StageId, TaskId};
use floe_wire::task::{LeafInput, TaskOutput};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: forwards every call unchanged to the system's allocator; only counts sizes.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes held now.
fn held() -> usize {
    NOW.load(Ordering::Relaxed)
}

const PRODUCERS: u32 = 1000;
const PARTITIONS: u32 = 1000;
const WORKERS: u32 = 10;

fn graph(output: Exchange) -> StageGraph {
    let stage = |id: u32, leaves: Vec<Leaf>, output: Exchange| Stage {
        id: StageId(id),
        label: String::new(),
        fragment: Bytes::new(),
        explain: Vec::new(),
        leaves,
        output,
        adaptive: None,
        nondeterminism: None,
        facts: Default::default(),
    };
    let source = Leaf::Source { what: String::new(), per_task: vec![Bytes::new(); PRODUCERS as usize] };
    let read = Leaf::Exchange { stages: vec![StageId(0)], read: Read::Partition };
    let stages = vec![stage(0, vec![source], output), stage(1, vec![read], Exchange::Result)];
    StageGraph { stages, roots: vec![StageId(1)], ..StageGraph::default() }
}

/// As it comes from a worker.
fn output(worker: u32, chunks: Chunks) -> TaskOutput {
    let place = Place::Worker { worker: WorkerId(worker), shelf: Shelf::Disk };
    let output = TaskOutput { place, chunks, rows: 1_000_000, bytes: 100 << 20, ..TaskOutput::default() };
    floe_wire::unpack(&floe_wire::pack(&output).unwrap()).unwrap()
}

struct Measured {
    /// Bytes for each chunk: the outputs in the state; the cut and what each task reads; one launched task's inputs.
    outputs: f64,
    cut: f64,
    /// Of one task at a time, as it is launched, and as it travels.
    task_bytes: usize,
    message_bytes: usize,
    peak_over_held: usize,
}

fn measure(exchange: Exchange, chunks: impl Fn(u32) -> Chunks) -> Measured {
    let graph = graph(exchange);
    let mut state = State::new(&graph, Limits { speculation: false, ..Limits::default() }).unwrap();
    let worker = |number: u32| format!("worker-{number}-with-a-name-as-pods-have-them");
    for number in 0..WORKERS {
        decide(&mut state, Event::WorkerUp { worker: worker(number), slots: PRODUCERS }, 0);
    }
    let mut cuts = Cuts::default();
    cuts.resolve(&graph, StageId(0), &state, 0).unwrap();
    let tasks = vec![ResolvedInputs::from(Vec::new()); PRODUCERS as usize];
    let launched = decide(&mut state, Event::Resolved { stage: StageId(0), finer: 0, tasks }, 0);
    let before = held();
    let mut count = 0;
    for action in launched {
        let Action::Launch { task, attempt, worker, .. } = action else { continue };
        let output = output(task.task % WORKERS, chunks(task.task));
        count += output.chunks.all().len();
        decide(&mut state, Event::TaskDone { task, attempt, worker, output }, 1);
    }
    let with_outputs = held();
    PEAK.store(with_outputs, Ordering::Relaxed);
    let began = Instant::now();
    let tasks = cuts.resolve(&graph, StageId(1), &state, 0).unwrap();
    let mut resolved: Vec<ResolvedInputs> = Vec::with_capacity(tasks);
    for task in (0..tasks as u32).map(|task| TaskId { stage: StageId(1), task }) {
        let (inputs, bytes): (Vec<TaskId>, Vec<u64>) = cuts.reads(task, &state).unwrap().into_iter().unzip();
        let same = resolved.last().filter(|last| *last.inputs == *inputs).map(|last| last.inputs.clone());
        resolved.push(ResolvedInputs { inputs: same.unwrap_or_else(|| inputs.into()), bytes });
    }
    let actions = decide(&mut state, Event::Resolved { stage: StageId(1), finer: 0, tasks: resolved }, 2);
    drop(actions);
    let with_cut = held();
    let resolving = began.elapsed();
    let (mut task_bytes, mut message_bytes, mut read) = (0, 0, 0);
    let began = Instant::now();
    for task in (0..tasks as u32).map(|task| TaskId { stage: StageId(1), task }) {
        let before = held();
        let inputs = cuts.inputs(&graph, task, state.inputs(task), &state).unwrap();
        task_bytes = task_bytes.max(held() - before);
        message_bytes = message_bytes.max(floe_wire::pack(&inputs).unwrap().len());
        for input in &inputs {
            let LeafInput::Rows { outputs, .. } = input else { panic!("{input:?}") };
            read += outputs.iter().map(|portion| portion.chunks.len()).sum::<usize>();
        }
    }
    assert!(read >= count, "every chunk is read: {read} of {count}");
    println!(
        "{count} chunks in {PRODUCERS} outputs, {tasks} tasks: {:.1} bytes a chunk for the outputs, {:.1} for the cut and what \
         tasks read; {task_bytes} bytes for a task that is launched, {message_bytes} in its message; resolved in {resolving:?}, \
         inputs of all tasks in {:?}; peak {} MiB",
        (with_outputs - before) as f64 / count as f64,
        (with_cut - with_outputs) as f64 / count as f64,
        began.elapsed(),
        PEAK.load(Ordering::Relaxed) >> 20,
    );
    Measured {
        outputs: (with_outputs - before) as f64 / count as f64,
        cut: (with_cut - with_outputs) as f64 / count as f64,
        task_bytes,
        message_bytes,
        peak_over_held: PEAK.load(Ordering::Relaxed).saturating_sub(with_cut.max(with_outputs)),
    }
}

#[test]
fn a_thousand_by_a_thousand_takes_tens_of_megabytes() {
    let hash = Exchange::Hash { keys: vec!["k".into()], partitions: PARTITIONS };
    let hashed = measure(hash, |_| {
        let chunk =
            |partition: u32| Chunk { partition, rows: 1000, offset: u64::from(partition) * 100_000, len: 100_000 };
        Chunks::new((0..PARTITIONS).map(chunk).collect())
    });
    assert!(hashed.outputs < 28.0, "{} bytes a chunk", hashed.outputs);
    assert!(hashed.cut < 10.0, "{} bytes a chunk", hashed.cut);
    assert!(hashed.task_bytes < 256 << 10, "{} bytes", hashed.task_bytes);
    assert!(hashed.message_bytes < 128 << 10, "{} bytes", hashed.message_bytes);
    assert!(hashed.peak_over_held < 64 << 20, "{} bytes", hashed.peak_over_held);

    let range = Exchange::Range { key: "k".into(), partitions: PARTITIONS };
    let sorted = measure(range, |producer| {
        let key = |at: u32| (u64::from(at) * 1_000_000 + u64::from(producer)).to_be_bytes();
        let chunk = |at: u32| {
            let chunk = Chunk { partition: 0, rows: 250, offset: u64::from(at) * 25_000, len: 25_000 };
            (chunk, KeyBounds::new(&key(at), &key(at + 1)))
        };
        Chunks::sorted((0..PARTITIONS).map(chunk).collect())
    });
    assert!(sorted.outputs < 64.0, "{} bytes a chunk", sorted.outputs);
    assert!(sorted.cut < 24.0, "{} bytes a chunk", sorted.cut);
}
