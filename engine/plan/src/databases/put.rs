//! Turns the scans of an optimized plan into frames that stand for what connections read: columns, the conditions that can
//! be said in SQL, and limits go into their statements; other conditions stay above. Blocks: databases are asked how many
//! rows to expect, and how to cut them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use floe_postgres::{Part, Pushed, Unit, sql};
use polars_core::prelude::*;
use polars_plan::dsl::{FileScanIR, Operator};
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, AExprBuilder, ArenaExprIter, IR, IRPlan, node_to_expr};
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;
use polars_utils::slice_enum::Slice;

use super::UNITS;
use super::pushed;
use super::table::Table;
use floe_polars::polars_error;
use floe_wire::error::Result;

/// Rows that are not worth a second connection, ...
const PART_BYTES: u64 = 8 << 20;
/// ... nor are these, if no more are wanted: one connection stops after them, where each of several would read as many.
const FEW_ROWS: u64 = 100_000;

/// A scan in a plan, with the number of rows that is wanted of it if there is a limit above.
struct Found {
    node: Node,
    table: Arc<dyn polars_plan::plans::AnonymousScan>,
    wanted: Option<u64>,
}

pub fn put_in(plan: &mut IRPlan) -> Result<()> {
    let found = scans(plan);
    let mut of_database: BTreeMap<String, usize> = BTreeMap::new();
    for table in found.iter().filter_map(|found| found.table.as_any().downcast_ref::<Table>()) {
        *of_database.entry(table.source.identity()).or_default() += 1;
    }
    for Found { node, table, wanted } in found {
        let Some(table) = table.as_any().downcast_ref::<Table>() else { continue };
        let scans = of_database.get(&table.source.identity()).copied().unwrap_or(1);
        // All scans of a database may be read at one time.
        let connections = (table.source.connections / scans).max(1);
        put(plan, node, table, wanted, connections)?;
    }
    Ok(())
}

fn scans(plan: &IRPlan) -> Vec<Found> {
    let (mut open, mut seen, mut found) = (vec![plan.lp_top], HashSet::new(), Vec::new());
    let (mut limits, mut readers): (HashMap<Node, u64>, HashMap<Node, usize>) = Default::default();
    while let Some(node) = open.pop() {
        if !seen.insert(node) {
            continue;
        }
        let ir = plan.lp_arena.get(node);
        ir.inputs().for_each(|input| *readers.entry(input).or_default() += 1);
        match ir {
            IR::Slice { input, offset, len } => {
                if let Ok(offset) = u64::try_from(*offset) {
                    limits.insert(*input, offset + u64::from(*len));
                }
            }
            // Passes each row on, and a limit with it.
            IR::SimpleProjection { input, .. } => {
                let alone = readers.get(&node) == Some(&1);
                if let Some(limit) = limits.get(&node).copied().filter(|_| alone) {
                    limits.insert(*input, limit);
                }
            }
            IR::Scan { scan_type, .. } => {
                if let FileScanIR::Anonymous { function, .. } = &**scan_type
                    && function.as_any().is::<Table>()
                {
                    found.push(Found { node, table: function.clone(), wanted: limits.get(&node).copied() });
                }
            }
            _ => {}
        }
        open.extend(ir.inputs());
    }
    // A limit above is one of a single reader.
    found.iter_mut().filter(|found| readers.get(&found.node) != Some(&1)).for_each(|found| found.wanted = None);
    found
}

fn put(plan: &mut IRPlan, node: Node, table: &Table, wanted: Option<u64>, connections: usize) -> Result<()> {
    let IR::Scan { unified_scan_args, predicate, output_schema, .. } = plan.lp_arena.get(node).clone() else {
        return Ok(());
    };
    let slice = unified_scan_args.pre_slice.clone();
    let output = output_schema.unwrap_or_else(|| table.schema.clone());
    let mut filter = Vec::new();
    let mut above = Vec::new();
    for part in predicate.iter().flat_map(|predicate| conjuncts(predicate.node(), &plan.expr_arena)) {
        let clause = pushed::clause(&node_to_expr(part, &plan.expr_arena), &table.schema);
        match clause.filter(|clause| slice.is_none() && sql::can_filter(&table.described, clause)) {
            Some(clause) => filter.push(clause),
            None => above.push(part),
        }
    }
    let read = columns_read(table, &output, &above, &plan.expr_arena)?;
    let limit = match &slice {
        Some(Slice::Positive { offset: 0, len }) => Some(*len as u64),
        Some(_) => None,
        None => wanted.filter(|_| above.is_empty()),
    };
    let columns = read.iter_names().map(ToString::to_string).collect();
    let pushed = Pushed { columns, filter, limit, ..Pushed::default() };
    let df = standing(units(table, &pushed, connections)?, &read).map_err(polars_error)?;
    let schema = df.schema().clone();
    let mut top = IR::DataFrameScan { df: Arc::new(df), schema, output_schema: Some(read.clone()) };
    if let Some(slice) = slice {
        let (offset, len) = slice.to_signed_offset_len();
        let len = IdxSize::try_from(len).unwrap_or(IdxSize::MAX);
        top = IR::Slice { input: plan.lp_arena.add(top), offset, len };
    }
    if let Some(predicate) = together(&above, &mut plan.expr_arena) {
        top = IR::Filter { input: plan.lp_arena.add(top), predicate };
    }
    if read != output {
        top = IR::SimpleProjection { input: plan.lp_arena.add(top), columns: output };
    }
    plan.lp_arena.replace(node, top);
    Ok(())
}

/// The conditions that must all hold.
fn conjuncts(predicate: Node, arena: &Arena<AExpr>) -> Vec<Node> {
    let (mut open, mut parts) = (vec![predicate], Vec::new());
    while let Some(node) = open.pop() {
        match arena.get(node) {
            AExpr::BinaryExpr { left, op: Operator::And | Operator::LogicalAnd, right } => {
                open.extend([*right, *left]);
            }
            _ => parts.push(node),
        }
    }
    parts
}

fn together(parts: &[Node], arena: &mut Arena<AExpr>) -> Option<ExprIR> {
    let (first, others) = parts.split_first()?;
    let all = others
        .iter()
        .fold(AExprBuilder::new_from_node(*first), |all, part| all.and(AExprBuilder::new_from_node(*part), arena));
    Some(all.expr_ir("kept"))
}

/// What is given to the plan, and what conditions above need, in the order of the table.
fn columns_read(table: &Table, output: &Schema, above: &[Node], arena: &Arena<AExpr>) -> Result<SchemaRef> {
    let mut names: HashSet<PlSmallStr> = output.iter_names().cloned().collect();
    for part in above {
        names.extend(arena.iter(*part).filter_map(|(_, expr)| match expr {
            AExpr::Column(name) => Some(name.clone()),
            _ => None,
        }));
    }
    if names.len() == output.len() {
        // In the order that the plan expects.
        return table.schema.try_project(output.iter_names()).map(Arc::new).map_err(polars_error);
    }
    let names: Vec<PlSmallStr> = table.schema.iter_names().filter(|name| names.contains(*name)).cloned().collect();
    table.schema.try_project(&names).map(Arc::new).map_err(polars_error)
}

/// One for each connection.
fn units(table: &Table, pushed: &Pushed, connections: usize) -> Result<Vec<Unit>> {
    let (described, session) = (&table.described, &table.session);
    let whole = sql::select(described, pushed, &Part::Whole)?;
    let (rows, width) = session.expected(&whole)?;
    let bytes = rows.saturating_mul(width.max(1));
    let few = pushed.limit.is_some_and(|limit| limit <= FEW_ROWS);
    let worth = if table.source.partition.is_some() { connections as u64 } else { bytes.div_ceil(PART_BYTES) };
    let wanted = usize::try_from(worth).unwrap_or(connections).clamp(1, connections);
    let selects = if few {
        vec![whole]
    } else {
        let parts = session.split(&table.source, described, wanted)?;
        parts.iter().map(|part| sql::select(described, pushed, part)).collect::<Result<Vec<_>>>()?
    };
    let (parts, connections) = (selects.len(), connections.min(selects.len()).max(1));
    let mut selects = selects.into_iter();
    let units = (0..connections).map(|at| {
        // More parts than connections: neighbours are read one after another.
        let count = parts * (at + 1) / connections - parts * at / connections;
        let some = selects.by_ref().take(count).collect();
        let mut unit = Unit::new(&table.source, session.id(), table.name(), some);
        (unit.rows, unit.bytes) = (rows / connections as u64, bytes / connections as u64);
        unit
    });
    Ok(units.collect())
}

/// A frame of columns that are not looked at, and units.
fn standing(units: Vec<Unit>, read: &Schema) -> PolarsResult<DataFrame> {
    let rows = units.len();
    let packed = units.iter().map(Unit::pack).collect::<Result<Vec<_>>>();
    let packed = packed.map_err(|error| polars_err!(ComputeError: "{}", error.message))?;
    let packed = BinaryChunked::from_slice(PlSmallStr::from_static(UNITS), &packed).into_column();
    let columns = read.iter().map(|(name, dtype)| Column::full_null(name.clone(), rows, dtype));
    DataFrame::new(rows, columns.chain([packed]).collect())
}
