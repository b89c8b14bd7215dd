//! Runtime filters of joins by hash: the tasks of the smaller side note which keys they have, and the tasks of the larger
//! one, which start when that is known, drop the rows that can match nothing before they are exchanged.

use polars_core::prelude::*;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, IR};
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use super::context::Cx;
use super::expr;
use super::fragment::{KeyFilter, Notes};
use super::rel::Rel;
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::{Exchange, Leaf, Read, StageId};

/// Bytes of a Bloom filter's block, and how many keys it is for.
const BLOCK_BYTES: f64 = 64.0;
const KEYS_A_BLOCK: f64 = 40.0;
/// A filter is no larger than 4 MiB.
const MOST_BLOCKS: f64 = 65_536.0;
/// Every task of the larger side reads the notes of every task of the smaller one: no more bytes than this.
const MOST_NOTED_BYTES: f64 = 32e6;

/// What stages do about keys beside their work.
#[derive(Clone, Debug, Default)]
pub(super) struct Beside {
    /// Blocks of the Bloom filter that notes the keys.
    note: Option<u32>,
    filter: Option<Vec<StageId>>,
}

impl Beside {
    /// Notes the keys of about so many rows, which are in so many tasks.
    pub fn noting(rows: f64, tasks: u32) -> Self {
        let most = (MOST_NOTED_BYTES / BLOCK_BYTES / f64::from(tasks.max(1))).clamp(1.0, MOST_BLOCKS);
        Beside { note: Some((rows / KEYS_A_BLOCK).ceil().clamp(1.0, most) as u32), filter: None }
    }

    /// Drops rows whose keys these stages do not have.
    pub fn filtered_by(stages: Vec<StageId>) -> Self {
        Beside { note: None, filter: Some(stages) }
    }
}

impl Cx<'_> {
    /// The stages that a relation is read from.
    pub(super) fn stages_of(&self, rel: &Rel) -> Result<Vec<StageId>> {
        match self.leaves.get(&rel.root()) {
            Some(Leaf::Exchange { stages, .. }) => Ok(stages.clone()),
            _ => Err(QueryError::internal("a relation that was closed is read from no stage")),
        }
    }

    /// What a fragment is told, what it reads for that, and what people are.
    pub(super) fn noted_and_filtered(
        &self,
        root: Node,
        beside: &Beside,
        output: &Exchange,
        leaves: &mut Vec<Leaf>,
        explain: &mut Vec<String>,
    ) -> (Option<Notes>, Vec<KeyFilter>) {
        let Exchange::Hash { keys, .. } = output else { return (None, Vec::new()) };
        let notes = beside.note.map(|blocks| Notes { keys: keys.clone(), blocks });
        if notes.is_some() {
            explain.insert(0, format!("NOTE KEYS [{}]", keys.join(", ")));
        }
        let mut filters = Vec::new();
        if let Some(stages) = &beside.filter {
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
            leaves.push(Leaf::Exchange { stages: stages.clone(), read: Read::Keys });
        }
        (notes, filters)
    }

    /// The leaf and column of the scan whose values a column has as they are, if rows can go there and nobody notices:
    /// nothing on the way looks at several rows, and nothing can fail on one.
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
                    // The only leaf: the way here had no forks.
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
