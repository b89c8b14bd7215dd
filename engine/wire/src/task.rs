//! The task as it is sent (its inputs by name and place) and its report (its output, its metrics).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::chunk::{Chunk, Chunks, OutputId, Place, Span};
use crate::graph::Exchange;

/// One task as a worker gets it. The fragment is sent once per stage and worker, and named by its stage after that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskSpec {
    pub id: OutputId,
    pub leaves: Vec<LeafInput>,
    pub output: Exchange,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LeafInput {
    Source(Bytes),
    /// Rows of the outputs of earlier stages, read in this order; `range` keeps only rows whose key lies in [from, to).
    /// `before` counts the rows that earlier tasks of this leaf read, for row indexes.
    Rows {
        outputs: Vec<Portion>,
        range: Option<KeyRange>,
        before: u64,
    },
    /// The key summaries of earlier tasks.
    KeySummaries(Vec<Summary>),
}

/// What a task reads of one output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portion {
    pub output: OutputId,
    pub place: Place,
    pub chunks: Vec<Chunk>,
}

/// The key summary of one output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub output: OutputId,
    pub place: Place,
    pub span: Span,
}

/// Bounds over a row-encoded (memcomparable) binary key column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    pub key: String,
    pub from: Option<Bytes>,
    pub to: Option<Bytes>,
}

/// What a finished task reports.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TaskOutput {
    /// Where its bytes are, all in one place.
    pub place: Place,
    pub chunks: Chunks,
    /// Where in its bytes the key summary lies, if the stage writes one.
    pub summary: Option<Span>,
    pub rows: u64,
    pub bytes: u64,
    /// Bytes of its rows in memory.
    #[serde(default)]
    pub size: u64,
    /// Rows and bytes read from sources and exchanges.
    pub rows_in: u64,
    pub bytes_in: u64,
    /// Files staged for the sink, opaque to all but `sink`.
    pub staged: Vec<Bytes>,
    /// Polars' warnings while the task ran, without duplicates.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    pub metrics: TaskMetrics,
}

/// A warning of Polars for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    pub text: String,
    /// Whether it is certainly this query's: tasks of several queries may run in one process.
    pub sure: bool,
}

impl TaskOutput {
    /// Some of the chunks, for a reader. Bytes that travel in the message are cut down to these.
    pub fn portion(&self, output: OutputId, mut chunks: Vec<Chunk>) -> Portion {
        let place = match &self.place {
            Place::Inline(all) => {
                let bytes = inline(all, chunks.iter().map(Chunk::span));
                let mut offset = 0;
                for chunk in &mut chunks {
                    chunk.offset = offset;
                    offset += chunk.len;
                }
                Place::Inline(bytes)
            }
            elsewhere => elsewhere.clone(),
        };
        Portion { output, place, chunks }
    }

    /// The key summary, for a reader.
    pub fn key_summary(&self, output: OutputId) -> Option<Summary> {
        let span = self.summary?;
        let (place, span) = match &self.place {
            Place::Inline(all) => (Place::Inline(inline(all, [span])), Span { offset: 0, ..span }),
            elsewhere => (elsewhere.clone(), span),
        };
        Some(Summary { output, place, span })
    }
}

/// Concatenates the bytes of some spans; does not copy spans that are contiguous already.
fn inline(all: &Bytes, spans: impl IntoIterator<Item = Span>) -> Bytes {
    let range = |span: Span| {
        let from = usize::try_from(span.offset).unwrap_or(usize::MAX).min(all.len());
        from..from.saturating_add(usize::try_from(span.len).unwrap_or(usize::MAX)).min(all.len())
    };
    let mut ranges = spans.into_iter().map(range);
    let Some(mut together) = ranges.next() else { return Bytes::new() };
    let mut apart: Vec<u8> = Vec::new();
    for range in ranges {
        if apart.is_empty() && range.start == together.end {
            together.end = range.end;
            continue;
        }
        if apart.is_empty() {
            apart.extend_from_slice(&all[together.clone()]);
        }
        apart.extend_from_slice(&all[range]);
    }
    if apart.is_empty() { all.slice(together) } else { Bytes::from(apart) }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskMetrics {
    pub run_us: u64,
    pub write_us: u64,
    /// Polars' own counts of its nodes, by their kind.
    pub nodes: Vec<NodeMetrics>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeMetrics {
    pub node: String,
    /// Rows produced.
    pub rows: u64,
    /// Bytes read from files and stores.
    pub bytes: u64,
    pub active_us: u64,
}

impl NodeMetrics {
    /// Adds the counts of another node of its kind.
    pub fn add(&mut self, other: &NodeMetrics) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.active_us += other.active_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{StageId, TaskId};

    #[test]
    fn inline_outputs_are_cut_down_to_the_chunks_that_are_read() {
        let chunk = |partition, offset, len| Chunk { partition, rows: 1, offset, len };
        let written = vec![chunk(0, 0, 2), chunk(1, 2, 3), chunk(0, 5, 1), chunk(1, 6, 2)];
        let place = Place::Inline(Bytes::from_static(b"aabbbcdd!"));
        let summary = Some(Span { offset: 8, len: 1 });
        let output = TaskOutput { place, chunks: Chunks::new(written), summary, ..TaskOutput::default() };
        let id = OutputId { task: TaskId { stage: StageId(0), task: 0 }, attempt: 0 };
        let read = |portion: Portion| {
            let Place::Inline(bytes) = portion.place else { panic!("not inline") };
            let of = |chunk: &Chunk| {
                let from = chunk.offset as usize;
                String::from_utf8(bytes[from..from + chunk.len as usize].to_vec()).unwrap()
            };
            (bytes.len(), portion.chunks.iter().map(of).collect::<Vec<_>>())
        };
        let portion = |from, to| output.portion(id, output.chunks.of(from..to).to_vec());
        assert_eq!(read(portion(0, 1)), (3, vec!["aa".to_string(), "c".into()]));
        assert_eq!(read(portion(1, 2)), (5, vec!["bbb".to_string(), "dd".into()]));
        assert_eq!(read(portion(0, 2)).1, ["aa", "c", "bbb", "dd"]);
        assert_eq!(
            read(output.portion(id, vec![chunk(0, 0, 2), chunk(1, 2, 3)])),
            (5, vec!["aa".into(), "bbb".into()])
        );
        assert_eq!(read(portion(7, 9)), (0, Vec::new()));
        let noted = output.key_summary(id).unwrap();
        assert_eq!((noted.place, noted.span), (Place::Inline(Bytes::from_static(b"!")), Span { offset: 0, len: 1 }));
    }
}
