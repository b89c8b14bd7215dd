//! Runs all stages in one process, task after task, with every output inside the messages.

use std::collections::HashMap;
use std::io::Write;

use bytes::Bytes;
use polars_buffer::Buffer;

use floe_planner::{Cuts, Fragment};
use floe_wire::chunk::{OutputId, Place, Span};
use floe_wire::error::{QueryError, Result, TaskError};
use floe_wire::graph::{StageGraph, StageId, TaskId};
use floe_wire::task::{Portion, TaskOutput, TaskSpec};

use super::{Context, OutputWriter, Outputs, Store};

/// Runs all stages of a graph and returns the rows of its result, in order. `streamed`: the stages whose tasks read
/// while they run, so that both ways can be tested.
pub fn run_here(
    graph: &StageGraph,
    ctx: &Context,
    streamed: impl Fn(StageId) -> bool,
) -> Result<Vec<Portion>, TaskError> {
    let mut done: HashMap<StageId, Vec<TaskOutput>> = HashMap::new();
    let mut cuts = Cuts::default();
    for stage in &graph.stages {
        let stream_from_bytes = if streamed(stage.id) { 1 } else { u64::MAX };
        let ctx = Context { stream_from_bytes, ..ctx.clone() };
        let tasks = cuts.resolve(graph, stage.id, &done, 0)?;
        let fragment = Fragment::unpack(cuts.fragment(stage))?;
        let mut outputs = Vec::with_capacity(tasks);
        for task in (0..tasks as u32).map(|task| TaskId { stage: stage.id, task }) {
            let reads: Vec<TaskId> = cuts.reads(task, &done)?.into_iter().map(|(input, _)| input).collect();
            let leaves = cuts.inputs(graph, task, &reads, &done)?;
            let spec = TaskSpec { id: OutputId { task, attempt: 0 }, leaves, output: stage.output.clone() };
            outputs.push(super::run(&fragment, &spec, &ctx)?);
        }
        done.insert(stage.id, outputs);
    }
    let mut rows = Vec::new();
    for root in &graph.roots {
        for (task, output) in done.remove(root).into_iter().flatten().enumerate() {
            let id = OutputId { task: TaskId { stage: *root, task: task as u32 }, attempt: 0 };
            rows.push(output.portion(id, output.chunks.all().to_vec()));
        }
    }
    Ok(rows)
}

pub struct Inline;

impl Store for Inline {
    fn create(&self, _output: OutputId) -> Result<Box<dyn OutputWriter>> {
        Ok(Box::new(Kept(Vec::new())))
    }
}

impl Outputs for Inline {
    fn open(&self, output: OutputId, place: &Place, span: Span) -> Result<Buffer<u8>, TaskError> {
        match place {
            Place::Inline(bytes) => {
                let (from, len) = (span.offset as usize, span.len as usize);
                Ok(Buffer::from_vec(bytes.slice(from..from + len).to_vec()))
            }
            Place::Worker { .. } | Place::Store => {
                let message = format!("{output} should travel inline and is elsewhere: {place:?}");
                Err(QueryError::internal(message).into())
            }
        }
    }
}

struct Kept(Vec<u8>);

impl Write for Kept {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl OutputWriter for Kept {
    fn position(&self) -> u64 {
        self.0.len() as u64
    }

    fn finish(self: Box<Self>) -> Result<Place> {
        Ok(Place::Inline(Bytes::from(self.0)))
    }
}
