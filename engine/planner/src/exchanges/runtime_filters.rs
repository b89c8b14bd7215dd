//! Runtime filters of hash joins: the tasks of the smaller side summarize their keys, and the tasks of the larger side,
//! which start when the summaries are there, drop rows without a match before they are exchanged.

use polars_core::prelude::*;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, IR};
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::fragment::{KeyFilter, SummarySpec};
use crate::properties::expr;
use crate::properties::rel::Rel;
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::{Exchange, Leaf, Read, StageId};

/// Bytes in one block of a Bloom filter, and the keys that fit into it.
const BLOCK_BYTES: f64 = 64.0;
const KEYS_PER_BLOCK: f64 = 40.0;
/// A filter is no larger than 4 MiB.
const MAX_BLOCKS: f64 = 65_536.0;
/// Every task of the larger side reads the summaries of all tasks of the smaller one: at most this many bytes together.
const MAX_SUMMARY_BYTES: f64 = 32e6;

/// What the stages of a side do for runtime filters: summarize their keys, or drop rows by the summaries of others.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyFilters {
    /// Blocks of the Bloom filter that summarizes the keys.
    summarize: Option<u32>,
    filter: Option<Vec<StageId>>,
}

impl KeyFilters {
    /// Summarizes the keys of about `rows` rows in `tasks` tasks.
    pub fn summarizing(rows: f64, tasks: u32) -> Self {
        let most = (MAX_SUMMARY_BYTES / BLOCK_BYTES / f64::from(tasks.max(1))).clamp(1.0, MAX_BLOCKS);
        KeyFilters { summarize: Some((rows / KEYS_PER_BLOCK).ceil().clamp(1.0, most) as u32), filter: None }
    }

    /// Drops rows whose keys are not in these stages' summaries.
    pub fn filtered_by(stages: Vec<StageId>) -> Self {
        KeyFilters { summarize: None, filter: Some(stages) }
    }
}

impl Cx<'_> {
    /// The stages that a closed relation is read from.
    pub(crate) fn stages_of(&self, rel: &Rel) -> Result<Vec<StageId>> {
        match self.leaves.get(&rel.root()) {
            Some(Leaf::Exchange { stages, .. }) => Ok(stages.clone()),
            _ => Err(QueryError::internal("a relation that was closed is read from no stage")),
        }
    }

    /// The key summary and the filters of a fragment; adds the leaves that the filters read and lines for `floe
    /// explain`.
    pub(crate) fn summary_and_filters(
        &self,
        root: Node,
        key_filters: &KeyFilters,
        output: &Exchange,
        leaves: &mut Vec<Leaf>,
        explain: &mut Vec<String>,
    ) -> (Option<SummarySpec>, Vec<KeyFilter>) {
        let Exchange::Hash { keys, .. } = output else { return (None, Vec::new()) };
        let summary = key_filters.summarize.map(|blocks| SummarySpec { keys: keys.clone(), blocks });
        if summary.is_some() {
            explain.insert(0, format!("NOTE KEYS [{}]", keys.join(", ")));
        }
        let mut filters = Vec::new();
        if let Some(stages) = &key_filters.filter {
            let scan = match &keys[..] {
                [key] => self.scanned_as(root, &PlSmallStr::from_str(key)),
                _ => None,
            };
            let names: Vec<String> = stages.iter().map(|stage| stage.0.to_string()).collect();
            let at = scan
                .as_ref()
                .map(|(_, column)| format!(", and within their bounds in \"{column}\""))
                .unwrap_or_default();
            let noun = if names.len() == 1 { "STAGE" } else { "STAGES" };
            explain.insert(0, format!("KEEP ROWS WITH KEYS [{}] OF {noun} {}{at}", keys.join(", "), names.join(", ")));
            filters.push(KeyFilter { keys: keys.clone(), scan });
            leaves.push(Leaf::Exchange { stages: stages.clone(), read: Read::KeySummaries });
        }
        (summary, filters)
    }

    /// The leaf and column of the scan that a column comes from unchanged, if rows may be dropped there: no node on the
    /// way looks at several rows or can fail on one.
    fn scanned_as(&self, root: Node, column: &PlSmallStr) -> Option<(usize, String)> {
        let (mut node, mut column) = (root, column.clone());
        loop {
            match self.ir.get(node) {
                IR::SimpleProjection { input, .. } => node = *input,
                IR::Filter { input, predicate } if self.never_fails(std::slice::from_ref(predicate)) => node = *input,
                IR::HStack { input, exprs, .. } if self.never_fails(exprs) => {
                    if exprs.iter().any(|e| *e.output_name() == column) {
                        return None;
                    }
                    node = *input;
                }
                IR::Select { input, expr, .. } if self.never_fails(expr) => {
                    let made = expr.iter().find(|e| *e.output_name() == column)?;
                    column = expr::column_name(made, &self.ex)?;
                    node = *input;
                }
                IR::Scan { predicate, predicate_file_skip_applied: None, file_info, .. } => {
                    let dtype = file_info.schema.get(&column)?;
                    let bounded = matches!(
                        dtype,
                        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date
                    );
                    let harmless = predicate.iter().all(|e| self.never_fails(std::slice::from_ref(e)));
                    // Leaf 0: no node on the way has two inputs.
                    return (bounded && harmless).then(|| (0, column.to_string()));
                }
                _ => return None,
            }
        }
    }

    fn never_fails(&self, exprs: &[ExprIR]) -> bool {
        exprs.iter().all(|e| {
            let mut stack = vec![e.node()];
            while let Some(node) = stack.pop() {
                let ae = self.ex.get(node);
                if !matches!(
                    ae,
                    AExpr::Column(_) | AExpr::Literal(_) | AExpr::BinaryExpr { .. } | AExpr::Ternary { .. }
                ) {
                    return false;
                }
                ae.inputs_rev(&mut stack);
            }
            true
        })
    }
}
