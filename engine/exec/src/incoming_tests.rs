use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use polars::prelude::*;
use polars_buffer::Buffer;
use polars_plan::plans::{IR, IRPlan};
use polars_utils::arena::Arena;

use super::*;
use crate::{Failure, OutputWriter, Outputs, execute, source};
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::{StageId, TaskId};

/// A file whose reads take a moment and are recorded.
struct File {
    bytes: Buffer<u8>,
    budget: Arc<ReadBudget>,
    reads: Mutex<Vec<(u64, u64)>>,
    most_used_bytes: AtomicU64,
    lost_at: Option<u64>,
}

const ID: OutputId = OutputId { task: TaskId { stage: StageId(0), task: 3 }, attempt: 1 };

impl Store for File {
    fn create(&self, _output: OutputId) -> Result<Box<dyn OutputWriter>> {
        Err(QueryError::internal("nothing is written here"))
    }
}

impl Outputs for File {
    fn open(&self, output: OutputId, place: &Place, span: Span) -> Result<Buffer<u8>, TaskError> {
        assert_eq!((output, place), (ID, &Place::Store));
        self.most_used_bytes.fetch_max(self.budget.used_bytes(), Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(2));
        self.reads.lock().unwrap().push((span.offset, span.len));
        let (from, to) = (span.offset as usize, (span.offset + span.len) as usize);
        match self.lost_at {
            Some(at) if (from..to).contains(&(at as usize)) => {
                Err(TaskError::Lost { outputs: vec![output], message: "it is gone".into() })
            }
            _ => Ok(self.bytes.clone().sliced(from..to)),
        }
    }
}

fn frame(from: i64, rows: i64) -> DataFrame {
    let text: Vec<String> = (from..from + rows).map(|i| format!("row {i}")).collect();
    df!["x" => (from..from + rows).collect::<Vec<_>>(), "s" => text].unwrap()
}

/// Frames with these numbers of rows as the chunks of one file, with `gap` bytes between them.
fn file(rows: &[i64], gap: usize, budget_bytes: u64) -> (Arc<File>, Portion, DataFrame) {
    let (mut bytes, mut chunks, mut all) = (Vec::new(), Vec::new(), frame(0, 0));
    let mut at = 0;
    for count in rows {
        let df = frame(at, *count);
        let ipc = floe_polars::frame_to_ipc(df.clone()).unwrap();
        let (offset, len) = (bytes.len() as u64, ipc.len() as u64);
        chunks.push(Chunk { partition: 0, rows: *count as u32, offset, len });
        bytes.extend_from_slice(&ipc);
        bytes.resize(bytes.len() + gap, 0);
        all.vstack_mut(&df).unwrap();
        at += count;
    }
    let file = File {
        bytes: Buffer::from_vec(bytes),
        budget: ReadBudget::new(budget_bytes),
        reads: Mutex::default(),
        most_used_bytes: AtomicU64::new(0),
        lost_at: None,
    };
    (Arc::new(file), Portion { output: ID, place: Place::Store, chunks }, all)
}

fn context(file: &Arc<File>) -> Context {
    Context {
        query: "q".into(),
        store: file.clone(),
        open_sink: Arc::new(|_, _, _| Err(QueryError::internal("no sink here"))),
        compression: None,
        disk_compression: None,
        batch_bytes: 1 << 20,
        run_bytes: 1 << 20,
        read_budget: file.budget.clone(),
        stream_from_bytes: 1,
        cancel: Arc::default(),
        progress: Arc::default(),
    }
}

/// Runs the rows through the engine, which requests at most `limit` of them.
fn stream(file: &Arc<File>, portion: &Portion, schema: &SchemaRef, limit: Option<u32>) -> Result<DataFrame, TaskError> {
    let failure = Failure::default();
    let incoming = Incoming::new(std::slice::from_ref(portion), schema.clone(), &context(file));
    let (scan, function) = source::streamed(incoming, &failure)?;
    let mut lp_arena = Arena::new();
    let input = lp_arena.add(scan);
    let mut lp_top = lp_arena.add(IR::MapFunction { input, function });
    if let Some(len) = limit {
        lp_top = lp_arena.add(IR::Slice { input: lp_top, offset: 0, len });
    }
    let all: Arc<Mutex<Vec<DataFrame>>> = Arc::default();
    let taken = all.clone();
    execute(IRPlan { lp_top, lp_arena, expr_arena: Arena::new() }, failure, move |df| {
        taken.lock().unwrap().push(df);
        Ok(())
    })?;
    Ok(concat_frames(std::mem::take(&mut *all.lock().unwrap()), schema)?)
}

#[test]
fn rows_come_in_their_order_whatever_the_sizes_of_chunks() {
    let mut rows: Vec<i64> = (0..300).map(|i| 1 + i * 7919 % 500).collect();
    rows.extend([250_000, 1, 100_000, 100_001, 3]);
    for gap in [0, 100, 2 * GAP_BYTES as usize] {
        let (file, portion, all) = file(&rows, gap, 1 << 20);
        let read = stream(&file, &portion, all.schema(), None).unwrap();
        assert!(read.equals(&all), "{} rows of {}, gap {gap}", read.height(), all.height());
        let reads = file.reads.lock().unwrap().len();
        if gap > GAP_BYTES as usize {
            assert_eq!(reads, rows.len(), "what nobody asked for was read");
        } else {
            assert!(reads < 12, "{} chunks took {reads} reads", rows.len());
        }
    }
}

#[test]
fn reading_ahead_stays_within_the_budget() {
    let (file, portion, all) = file(&[60_000; 80], 0, 8 << 20);
    let largest = requests(std::slice::from_ref(&portion)).iter().map(|request| request.bytes).max().unwrap();
    let read = stream(&file, &portion, all.schema(), None).unwrap();
    assert!(read.equals(&all));
    let total: u64 = portion.chunks.iter().map(|chunk| chunk.len).sum();
    let most = file.most_used_bytes.load(Ordering::Relaxed);
    // What the engine waits for comes on top of the budget, for each of its threads.
    let threads = polars_core::runtime::RAYON.current_num_threads() as u64;
    assert!(most <= (8 << 20) + threads * largest && most < total / 2, "{most} of {total} bytes at once");
    assert_eq!(file.budget.used_bytes(), 0, "room was not given back");
}

#[test]
fn nothing_is_read_far_beyond_what_is_asked_for() {
    let (file, portion, all) = file(&[60_000; 80], 0, 4 << 20);
    let read = stream(&file, &portion, all.schema(), Some(10)).unwrap();
    assert!(read.equals(&all.head(Some(10))));
    let asked: u64 = file.reads.lock().unwrap().iter().map(|(_, len)| len).sum();
    let total: u64 = portion.chunks.iter().map(|chunk| chunk.len).sum();
    assert!(asked < total / 2, "{asked} of {total} bytes for ten rows");
}

#[test]
fn a_lost_output_is_reported_as_lost() {
    let (mut file, portion, all) = file(&[60_000; 20], 0, 8 << 20);
    Arc::get_mut(&mut file).unwrap().lost_at = Some(portion.chunks[13].offset);
    let error = stream(&file, &portion, all.schema(), None).unwrap_err();
    assert!(matches!(error, TaskError::Lost { outputs, .. } if outputs == [ID]));
}

#[test]
fn an_input_without_a_budget_is_read_all_the_same() {
    let (file, portion, all) = file(&[5_000, 70_000, 5_000, 70_000], 0, 0);
    assert!(stream(&file, &portion, all.schema(), None).unwrap().equals(&all));
}
