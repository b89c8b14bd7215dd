//! Plans the last stage before a sink. A single file is written by one task: by the one that reads the rows, if the
//! plan does nothing else with them.

use polars_plan::plans::{AExpr, IR, IRPlan};
use polars_utils::arena::Node;

use crate::SinkShape;
use crate::context::Cx;
use crate::fragment::{SourceUnit, decode};
use crate::inputs::estimate;
use crate::inputs::leaves::footers;
use crate::properties::rel::{Rel, Width};
use floe_wire::error::Result;
use floe_wire::graph::{Exchange, Leaf, Read};

/// Rows are written once more, to the shuffle, when a sink would get this many times as many files as wanted.
const SMALL_FILES_FACTOR: f64 = 4.0;

/// Bytes of rows in memory per byte of the Parquet files that they are read from: files written from them are likely to
/// be compressed as well. None where no footer is known.
pub fn packing(plan: &IRPlan) -> Option<f64> {
    let (mut rows, mut packed) = (0usize, 0usize);
    let mut stack = vec![plan.lp_top];
    while let Some(node) = stack.pop() {
        let ir = plan.lp_arena.get(node);
        stack.extend(ir.inputs());
        let IR::Scan { sources, scan_type, file_info, output_schema, .. } = ir else { continue };
        let wanted = output_schema.as_ref().unwrap_or(&file_info.schema);
        for group in footers(sources, scan_type).iter().flatten().flat_map(|file| &file.row_groups) {
            rows += estimate::group_bytes(group, wanted);
            let chunks = wanted.iter_names().filter_map(|name| group.columns_under_root_iter(name)).flatten();
            packed += chunks.map(|chunk| chunk.compressed_size().max(0) as usize).sum::<usize>();
        }
    }
    (packed > 0).then(|| rows as f64 / packed as f64)
}

impl Cx<'_> {
    pub(crate) fn to_sink(&mut self, rel: Rel, sink: SinkShape) -> Result<Rel> {
        if !sink.single_file {
            return self.for_files(rel, sink.file_bytes);
        }
        // Let the one task read the rows itself, instead of writing and reading them again.
        let rel = if self.nodes_are(&rel, Cx::only_reads)? { self.coarser(rel, 1)? } else { rel };
        self.gather(rel)
    }

    /// For a directory: makes tasks that read files and work row by row large enough to fill files, but leaves one per
    /// worker. The rows of other tasks, which are shares of a worker's memory, are written by tasks of their own where
    /// the files would be small: each copies the outputs of neighbouring tasks.
    fn for_files(&mut self, rel: Rel, file_bytes: Option<u64>) -> Result<Rel> {
        let (Some(bytes), Some(file_bytes)) = (rel.bytes(), file_bytes) else { return Ok(rel) };
        let workers = self.options.workers.max(1);
        let files = (bytes / file_bytes.max(1) as f64).ceil().max(f64::from(workers));
        let rel = self.coarser(rel, files as usize)?;
        let Some(coalescing) = self.graph.coalescing else { return Ok(rel) };
        let coalescing = if self.reads_ranges(&rel)? { coalescing.of_ranges() } else { coalescing };
        let tasks = f64::from(rel.tasks()).min((bytes / coalescing.max_bytes.max(1) as f64).ceil());
        if tasks < SMALL_FILES_FACTOR * files {
            return Ok(rel);
        }
        let schema = self.rel_schema(&rel);
        let stages = self.close(&rel, Exchange::Whole, None)?;
        let leaf = self.exchange_leaf(schema, stages, Read::Neighbours { bytes: file_bytes });
        Ok(rel.kept(leaf))
    }

    fn reads_ranges(&self, rel: &Rel) -> Result<bool> {
        let (mut nodes, mut leaves) = (Vec::new(), Vec::new());
        rel.branches().iter().try_for_each(|branch| self.collect(branch.root(), &mut nodes, &mut leaves))?;
        Ok(leaves.iter().any(|leaf| {
            let Leaf::Exchange { stages, read: Read::Partition } = leaf else { return false };
            let mut inputs = stages.iter().filter_map(|stage| self.graph.stages.get(stage.0 as usize));
            inputs.any(|stage| matches!(stage.output, Exchange::Range { .. }))
        }))
    }

    /// Whether this holds for all nodes of a relation with one fragment, whose scan was not cut by keys.
    fn nodes_are(&self, rel: &Rel, is: impl Fn(&Self, &IR) -> bool) -> Result<bool> {
        let [branch] = rel.branches() else { return Ok(false) };
        let (root, Width::Many(_)) = (branch.root(), branch.width()) else { return Ok(false) };
        let (mut nodes, mut leaves) = (Vec::new(), Vec::new());
        self.collect(root, &mut nodes, &mut leaves)?;
        for leaf in &leaves {
            if let Leaf::Source { per_task, .. } = leaf
                && let Some(first) = per_task.first()
                && let SourceUnit::Files { keep: Some(_), .. } = decode(first)?
            {
                return Ok(false);
            }
        }
        Ok(nodes.into_iter().all(|node: Node| is(self, self.ir.get(node))))
    }

    /// A node that passes each row on as it is read.
    fn only_reads(&self, ir: &IR) -> bool {
        match ir {
            IR::Scan { predicate, .. } => predicate.is_none(),
            IR::SimpleProjection { .. } => true,
            IR::Select { expr, .. } => expr.iter().all(|e| matches!(self.ex.get(e.node()), AExpr::Column(_))),
            _ => false,
        }
    }
}
