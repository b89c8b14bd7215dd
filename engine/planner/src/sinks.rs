//! The last stage before a sink: one file is written by one task, and by the one that reads the rows where nothing else is
//! done with them.

use polars_plan::plans::{AExpr, IR, IRPlan};
use polars_utils::arena::Node;

use super::SinkShape;
use super::context::Cx;
use super::estimate;
use super::fragment::{SourceUnit, decode};
use super::leaves::footers;
use super::rel::{Rel, Width};
use floe_wire::error::Result;
use floe_wire::graph::Leaf;

/// Bytes of rows in memory for each byte of the Parquet files that they are read from: what is written from them is likely
/// packed as well. None where no footer tells.
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
    pub(super) fn to_sink(&mut self, rel: Rel, sink: SinkShape) -> Result<Rel> {
        if !sink.single_file {
            return Ok(rel);
        }
        // Rows that are only read would be written twice to be read by the one task that could have read them.
        let rel = if self.nodes_are(&rel, Cx::only_reads)? { self.coarser(rel, 1)? } else { rel };
        self.gather(rel)
    }

    /// Whether this holds for all nodes of a relation of one fragment, whose scan was not cut by keys.
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

    /// A node that puts out each row as it is read.
    fn only_reads(&self, ir: &IR) -> bool {
        match ir {
            IR::Scan { predicate, .. } => predicate.is_none(),
            IR::SimpleProjection { .. } => true,
            IR::Select { expr, .. } => expr.iter().all(|e| matches!(self.ex.get(e.node()), AExpr::Column(_))),
            _ => false,
        }
    }
}
