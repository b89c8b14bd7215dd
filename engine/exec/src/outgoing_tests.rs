use std::sync::Arc;

use polars::prelude::*;
use polars_buffer::Buffer;

use super::*;
use crate::{Inline, Outputs, read};
use floe_wire::chunk::Place;
use floe_wire::error::TaskError;
use floe_wire::graph::{StageId, TaskId};
use floe_wire::task::Summary;

fn context(batch_bytes: usize) -> Context {
    Context {
        query: "q".into(),
        store: Arc::new(Inline),
        open_sink: Arc::new(|_, _, _| Err(QueryError::internal("no sink here"))),
        compression: None,
        disk_compression: None,
        batch_bytes,
        run_bytes: batch_bytes,
        read_budget: crate::ReadBudget::new(1 << 20),
        stream_from_bytes: u64::MAX,
        cancel: Arc::default(),
        progress: Arc::default(),
    }
}

const ID: OutputId = OutputId { task: TaskId { stage: StageId(1), task: 2 }, attempt: 0 };

fn task(output: Exchange) -> TaskSpec {
    TaskSpec { id: ID, leaves: Vec::new(), output }
}

/// Ten morsels of 100 rows.
fn morsels() -> (DataFrame, Vec<DataFrame>) {
    let x: Vec<Option<i64>> = (0..1000i64).map(|i| (i % 7 != 0).then_some(i * 7919 % 41)).collect();
    let s: Vec<String> = (0..1000).map(|i| format!("row {i}")).collect();
    let df = df!["x" => x, "s" => s].unwrap();
    let parts = (0..10).map(|i| df.slice(i * 100, 100)).collect();
    (df, parts)
}

fn put_out(batch_bytes: usize, output: Exchange, tag: Option<&Tag>, summary: Option<&SummarySpec>) -> TaskOutput {
    let mut outgoing = Outgoing::new(&task(output), &context(batch_bytes), Vec::new(), tag, summary);
    let (_, parts) = morsels();
    parts.into_iter().for_each(|part| outgoing.take(part).unwrap());
    let mut out = TaskOutput::default();
    outgoing.finish(&mut out).unwrap();
    out
}

fn rows(out: &TaskOutput, partition: Option<u32>, schema: &SchemaRef) -> DataFrame {
    let chunks = partition.map_or(out.chunks.all(), |partition| out.chunks.of(partition..partition + 1));
    read(&[out.portion(ID, chunks.to_vec())], schema, &Inline).unwrap()
}

#[test]
fn output_in_batches_equals_output_at_once() {
    let (df, _) = morsels();
    let hash = Exchange::Hash { keys: vec!["x".into()], partitions: 4 };
    let (many, once) = (put_out(2000, hash.clone(), None, None), put_out(usize::MAX, hash, None, None));
    assert!(
        many.chunks.all().len() > 2 * once.chunks.all().len(),
        "{} chunks, and {} at once",
        many.chunks.all().len(),
        once.chunks.all().len()
    );
    for partition in 0..4 {
        let (many, once) = (rows(&many, Some(partition), df.schema()), rows(&once, Some(partition), df.schema()));
        assert!(once.height() > 0 && many.equals_missing(&once), "partition {partition}");
    }
    assert_eq!((many.rows, once.rows, many.size), (1000, 1000, once.size));
    assert!(rows(&put_out(2000, Exchange::Whole, None, None), None, df.schema()).equals_missing(&df));
}

/// Has room for one batch in memory.
struct Small;

struct Spilling(Vec<u8>);

impl crate::Store for Small {
    fn create(&self, _: OutputId) -> Result<Box<dyn OutputWriter>> {
        Ok(Box::new(Spilling(Vec::new())))
    }
}

impl Outputs for Small {
    fn open(&self, output: OutputId, place: &Place, span: Span) -> Result<Buffer<u8>, TaskError> {
        Inline.open(output, place, span)
    }
}

impl std::io::Write for Spilling {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl OutputWriter for Spilling {
    fn position(&self) -> u64 {
        self.0.len() as u64
    }

    fn on_disk(&self) -> bool {
        !self.0.is_empty()
    }

    fn finish(self: Box<Self>) -> Result<Place> {
        Ok(Place::Inline(self.0.into()))
    }
}

#[test]
fn an_output_that_grows_out_of_memory_is_compressed_from_there() {
    let disk_compression = Some(polars_io::ipc::IpcCompression::LZ4);
    let ctx = Context { store: Arc::new(Small), disk_compression, ..context(2000) };
    let mut outgoing = Outgoing::new(&task(Exchange::Whole), &ctx, Vec::new(), None, None);
    // Two batches of the same rows.
    let part = df!["n" => [7i64; 1000]].unwrap();
    (0..2).for_each(|_| outgoing.take(part.clone()).unwrap());
    let mut out = TaskOutput::default();
    outgoing.finish(&mut out).unwrap();
    let sizes: Vec<u64> = out.chunks.all().iter().map(|chunk| chunk.len).collect();
    assert!(sizes.len() == 2 && sizes[0] > 8000 && sizes[1] < sizes[0] / 2, "{sizes:?}");
    assert!(rows(&out, None, part.schema()).equals_missing(&part.vstack(&part).unwrap()));
}

#[test]
fn rows_are_numbered_over_batches() {
    let (df, _) = morsels();
    let tag = Tag::new("t".into(), 0).unwrap();
    let mut schema = (**df.schema()).clone();
    schema.with_column("t".into(), DataType::UInt64);
    let out = rows(&put_out(2000, Exchange::Whole, Some(&tag), None), None, &Arc::new(schema));
    let numbers: Vec<u64> = out.column("t").unwrap().u64().unwrap().into_no_null_iter().collect();
    assert_eq!(numbers, (0..1000).map(|row| tag.first(2, 0, 1000).unwrap() + row).collect::<Vec<_>>());
}

#[test]
fn chunks_of_each_batch_are_sorted_and_say_their_bounds() {
    let key = |df: DataFrame| {
        let key = df.column("s").unwrap().cast(&DataType::Binary).unwrap().with_name("k".into());
        df.hstack(&[key]).unwrap()
    };
    let (df, parts) = morsels();
    let output = Exchange::Range { key: "k".into(), partitions: 2 };
    let mut outgoing = Outgoing::new(&task(output), &context(20_000), Vec::new(), None, None);
    parts.into_iter().for_each(|part| outgoing.take(key(part)).unwrap());
    let mut out = TaskOutput::default();
    let schema = key(df.clear()).schema().clone();
    outgoing.finish(&mut out).unwrap();
    assert!(out.chunks.all().len() > 1);
    for (at, one) in out.chunks.all().iter().enumerate() {
        let rows = read(&[out.portion(ID, vec![*one])], &schema, &Inline).unwrap();
        let keys = rows.column("k").unwrap().binary().unwrap().clone();
        let values: Vec<&[u8]> = keys.iter().flatten().collect();
        assert!(values.is_sorted());
        assert_eq!(out.chunks.bounds(at), Some((values[0], values[values.len() - 1])));
    }
    let sorted = |df: DataFrame| df.sort(["s"], SortMultipleOptions::default()).unwrap();
    assert!(sorted(rows(&out, None, &schema)).equals_missing(&sorted(key(df))));
}

#[test]
fn notes_are_of_all_batches() {
    let hash = || Exchange::Hash { keys: vec!["x".into()], partitions: 4 };
    let note = |batch: usize, blocks: u32| {
        let out = put_out(batch, hash(), None, Some(&SummarySpec { keys: vec!["x".into()], blocks }));
        let Summary { output, place, span } = out.key_summary(ID).unwrap();
        Inline.open(output, &place, span).unwrap().to_vec()
    };
    assert_eq!(note(2000, 4096), note(usize::MAX, 4096), "each key by itself");
    assert_eq!(note(2000, 3), note(usize::MAX, 3), "a Bloom filter");
    assert_ne!(note(2000, 3), note(2000, 4096));
}

#[test]
fn a_cancelled_task_stops_at_the_next_rows() {
    let ctx = context(2000);
    let mut outgoing = Outgoing::new(&task(Exchange::Whole), &ctx, Vec::new(), None, None);
    let (_, parts) = morsels();
    outgoing.take(parts[0].clone()).unwrap();
    ctx.cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(outgoing.take(parts[1].clone()).unwrap_err().class, "Cancelled");
}
