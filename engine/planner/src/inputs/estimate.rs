//! Estimates a scan by the metadata of its files: what its columns take in memory, and the share of rows that a filter
//! is likely to pass. Estimates are rough: they may decide order and placement, never a result.

use std::collections::HashMap;

use polars_core::prelude::*;
use polars_io::parquet::metadata::FileMetadataRef;
use polars_parquet::parquet::statistics::Statistics;
use polars_parquet::read::{ColumnChunkMetadata, PrimitiveConvertedType, RowGroupMetadata};
use polars_plan::dsl::Operator;
use polars_plan::plans::{AExpr, IRBooleanFunction, IRFunctionExpr};
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;

/// Share of rows that pass a condition of unknown selectivity.
const UNKNOWN_SELECTIVITY: f64 = 0.5;
const EQUALITY_SELECTIVITY: f64 = 0.1;
const RANGE_SELECTIVITY: f64 = 1.0 / 3.0;
/// Lowest estimate: no lower one is trusted.
const MIN_SELECTIVITY: f64 = 0.01;

/// The memory that the columns of `wanted` take once a row group is read.
pub fn group_bytes(group: &RowGroupMetadata, wanted: &Schema) -> usize {
    let bytes = |(name, dtype): (&PlSmallStr, &DataType)| {
        let written = || {
            group
                .columns_under_root_iter(name)
                .map_or(0, |chunks| chunks.map(|chunk| chunk.uncompressed_size() as usize).sum())
        };
        match width(dtype) {
            Some(width) => group.num_rows() * width,
            // A view per value; repeated values are stored once, in the file and in memory.
            None if matches!(dtype, DataType::String | DataType::Binary) => group.num_rows() * 16 + written(),
            None => 2 * written(),
        }
    };
    wanted.iter().map(bytes).sum::<usize>().max(group.num_rows())
}

fn width(dtype: &DataType) -> Option<usize> {
    Some(match dtype {
        DataType::Null | DataType::Boolean | DataType::Int8 | DataType::UInt8 => 1,
        DataType::Int16 | DataType::UInt16 => 2,
        DataType::Int32 | DataType::UInt32 | DataType::Float32 | DataType::Date => 4,
        DataType::Int128 | DataType::Decimal(..) => 16,
        DataType::Categorical(..) | DataType::Enum(..) => 4,
        dtype if dtype.is_primitive_numeric() || dtype.is_temporal() => 8,
        _ => return None,
    })
}

/// Least and greatest value of a column of signed integers or dates in a row group; none where it has nulls.
pub fn bounds(chunk: &ColumnChunkMetadata, footer: &[u8]) -> Option<(i64, i64)> {
    let descriptor = chunk.descriptor();
    let primitive = &descriptor.descriptor.primitive_type;
    let signed = match primitive.converted_type {
        None => primitive.logical_type.is_none(),
        Some(
            PrimitiveConvertedType::Int8
            | PrimitiveConvertedType::Int16
            | PrimitiveConvertedType::Int32
            | PrimitiveConvertedType::Int64
            | PrimitiveConvertedType::Date,
        ) => true,
        Some(_) => false,
    };
    if descriptor.path_in_schema.len() != 1 || !signed {
        return None;
    }
    match chunk.statistics(footer)?.ok()? {
        Statistics::Int32(s) if s.null_count == Some(0) => Some((i64::from(s.min_value?), i64::from(s.max_value?))),
        Statistics::Int64(s) if s.null_count == Some(0) => Some((s.min_value?, s.max_value?)),
        _ => None,
    }
}

/// The bounds of a column over all its files.
pub fn file_bounds(files: &[FileMetadataRef], column: &str) -> Option<(i64, i64)> {
    let mut all: Option<(i64, i64)> = None;
    for file in files {
        for group in &file.row_groups {
            let (min, max) = bounds(group.columns_under_root_iter(column)?.next()?, &file.footer_buf)?;
            all = Some(all.map_or((min, max), |(a, b)| (a.min(min), b.max(max))));
        }
    }
    all
}

/// A guess at the number of distinct values of a column, by the bits that a value takes in chunks with a dictionary. Where
/// equal values stand together they take few bits, and the guess is too low.
pub fn file_distinct(files: &[FileMetadataRef], column: &str) -> Option<f64> {
    let mut most: Option<f64> = None;
    for group in files.iter().flat_map(|file| &file.row_groups) {
        let chunk = group.columns_under_root_iter(column)?.next()?;
        chunk.dictionary_page_offset()?;
        let values = (chunk.num_values() as f64).max(1.0);
        let bits = (chunk.uncompressed_size() as f64 * 8.0 / values).round();
        most = Some(bits.exp2().min(values).max(most.unwrap_or(1.0)));
    }
    most
}

/// What is known of the columns that a filter names.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    pub bounds: &'a dyn Fn(&str) -> Option<(i64, i64)>,
    /// The number of distinct values.
    pub distinct: &'a dyn Fn(&str) -> Option<f64>,
}

impl<'a> Known<'a> {
    pub const NOTHING: Known<'static> = Known { bounds: &|_| None, distinct: &|_| None };

    pub fn bounds(bounds: &'a dyn Fn(&str) -> Option<(i64, i64)>) -> Self {
        Known { bounds, distinct: &|_| None }
    }
}

/// The share of rows that is likely to pass a filter.
pub fn passing(filter: Node, ex: &Arena<AExpr>, known: Known<'_>) -> f64 {
    let bounds = known.bounds;
    let mut within: HashMap<PlSmallStr, (i64, i64)> = HashMap::new();
    let mut part = 1.0;
    let mut open = vec![filter];
    while let Some(node) = open.pop() {
        match ex.get(node) {
            AExpr::BinaryExpr { left, op: Operator::And | Operator::LogicalAnd, right } => open.extend([*left, *right]),
            ae => {
                let found = interval(ae, ex).and_then(|(column, interval)| Some((bounds(&column)?, column, interval)));
                // Several conditions on one column narrow the same interval.
                match found {
                    Some((known, column, (from, to))) => {
                        let (least, most) = within.entry(column).or_insert(known);
                        (*least, *most) = ((*least).max(from), (*most).min(to));
                    }
                    None => part *= one(node, ex, known),
                }
            }
        }
    }
    for (column, (from, to)) in within {
        let Some((least, most)) = bounds(&column) else { continue };
        let length = |(from, to): (i64, i64)| (to as f64 - from as f64 + 1.0).max(0.0);
        part *= length((from, to)) / length((least, most)).max(1.0);
    }
    part.clamp(MIN_SELECTIVITY, 1.0)
}

/// The share that passes a condition, estimated by its form and by the number of distinct values.
fn one(node: Node, ex: &Arena<AExpr>, known: Known<'_>) -> f64 {
    let one = |node: Node, ex: &Arena<AExpr>| one(node, ex, known);
    // Guesses at few values are not trusted: they are too low where equal values stand together.
    let equal = |left: Node, right: Node| {
        let distinct = match (ex.get(left), ex.get(right)) {
            (AExpr::Column(name), AExpr::Literal(_)) | (AExpr::Literal(_), AExpr::Column(name)) => {
                (known.distinct)(name)
            }
            _ => None,
        };
        distinct.map_or(EQUALITY_SELECTIVITY, |distinct| EQUALITY_SELECTIVITY.min(1.0 / distinct.max(1.0)))
    };
    match ex.get(node) {
        AExpr::BinaryExpr { left, op: Operator::Or | Operator::LogicalOr, right } => {
            let (a, b) = (one(*left, ex), one(*right, ex));
            a + b - a * b
        }
        AExpr::BinaryExpr { left, op: Operator::And | Operator::LogicalAnd, right } => one(*left, ex) * one(*right, ex),
        AExpr::BinaryExpr { left, op, right } => {
            let literal = |node: &Node| matches!(ex.get(*node), AExpr::Literal(_));
            match op {
                Operator::Eq | Operator::EqValidity => equal(*left, *right),
                Operator::NotEq | Operator::NotEqValidity => 1.0 - EQUALITY_SELECTIVITY,
                _ if literal(left) || literal(right) => RANGE_SELECTIVITY,
                _ => UNKNOWN_SELECTIVITY,
            }
        }
        AExpr::Function { input, function: IRFunctionExpr::Boolean(function), .. } => match function {
            IRBooleanFunction::Not => 1.0 - input.first().map_or(UNKNOWN_SELECTIVITY, |input| one(input.node(), ex)),
            IRBooleanFunction::IsNull => EQUALITY_SELECTIVITY,
            IRBooleanFunction::IsNotNull => 1.0 - EQUALITY_SELECTIVITY,
            IRBooleanFunction::IsIn { .. } => 2.0 * EQUALITY_SELECTIVITY,
            IRBooleanFunction::IsBetween { .. } => EQUALITY_SELECTIVITY,
            _ => UNKNOWN_SELECTIVITY,
        },
        AExpr::Function { function: IRFunctionExpr::StringExpr(_), .. } => EQUALITY_SELECTIVITY,
        _ => UNKNOWN_SELECTIVITY,
    }
}

/// The interval of one column's values in which a condition holds.
fn interval(ae: &AExpr, ex: &Arena<AExpr>) -> Option<(PlSmallStr, (i64, i64))> {
    match ae {
        AExpr::BinaryExpr { left, op, right } => compared(*left, *op, *right, ex),
        AExpr::Function { input, function: IRFunctionExpr::Boolean(IRBooleanFunction::IsBetween { .. }), .. } => {
            let [value, from, to] = &input[..] else { return None };
            let (column, (from, _)) = compared(value.node(), Operator::GtEq, from.node(), ex)?;
            let (_, (_, to)) = compared(value.node(), Operator::LtEq, to.node(), ex)?;
            Some((column, (from, to)))
        }
        _ => None,
    }
}

/// A column of numbers or dates compared with a literal: the interval that passes.
fn compared(left: Node, op: Operator, right: Node, ex: &Arena<AExpr>) -> Option<(PlSmallStr, (i64, i64))> {
    let number = |node: Node| match ex.get(node) {
        AExpr::Literal(value) => value.to_any_value().and_then(|value| match value {
            AnyValue::Date(days) => Some(i64::from(days)),
            value if value.is_integer() => value.extract::<i64>(),
            _ => None,
        }),
        _ => None,
    };
    let (column, op, value) = match (ex.get(left), ex.get(right)) {
        (AExpr::Column(column), _) => (column, op, number(right)?),
        (_, AExpr::Column(column)) => (column, op.swap_operands()?, number(left)?),
        _ => return None,
    };
    let interval = match op {
        Operator::Eq => (value, value),
        Operator::Lt => (i64::MIN, value.saturating_sub(1)),
        Operator::LtEq => (i64::MIN, value),
        Operator::Gt => (value.saturating_add(1), i64::MAX),
        Operator::GtEq => (value, i64::MAX),
        _ => return None,
    };
    Some((column.clone(), interval))
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;
    use polars_plan::plans::IR;

    use super::*;

    fn part(filter: Expr) -> f64 {
        part_with(filter, false)
    }

    fn part_with(filter: Expr, known: bool) -> f64 {
        let frame =
            df!["x" => [1i64], "d" => [1i32], "s" => ["a"]].unwrap().lazy().with_column(col("d").cast(DataType::Date));
        // A filter of several conditions would become several filters.
        let plan = frame.select([filter]).to_alp().unwrap();
        let IR::Select { expr, .. } = plan.root() else { panic!("{}", plan.describe()) };
        let bounds = |column: &str| match column {
            "x" => Some((0, 99)),
            "d" => Some((0, 364)),
            _ => None,
        };
        let distinct = |column: &str| (column == "s").then_some(50.0);
        passing(
            expr[0].node(),
            &plan.expr_arena,
            Known { bounds: &bounds, distinct: if known { &distinct } else { &|_| None } },
        )
    }

    #[test]
    fn conditions_on_columns_with_bounds_are_shares_of_them() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(part(col("x").lt(lit(50i64))), 0.5);
        near(part(lit(50i64).gt(col("x"))), 0.5);
        near(part(col("x").gt_eq(lit(20i64)).and(col("x").lt(lit(30i64)))), 0.1);
        near(part(col("x").eq(lit(20i64))), MIN_SELECTIVITY);
        near(part(col("x").gt(lit(1000i64))), MIN_SELECTIVITY);
        near(part(col("d").lt(lit(NULL).cast(DataType::Date))), UNKNOWN_SELECTIVITY);
    }

    #[test]
    fn other_conditions_are_estimated_by_their_form() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(part(col("s").eq(lit("a"))), EQUALITY_SELECTIVITY);
        near(part(col("s").eq(lit("a")).or(col("s").eq(lit("b")))), 0.19);
        near(part(col("s").gt(lit("a")).and(col("x").lt(lit(10i64)))), RANGE_SELECTIVITY * 0.1);
        near(part(col("s").is_null().not()), 0.9);
    }

    #[test]
    fn values_of_many_are_rare() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(part_with(col("s").eq(lit("a")), true), 0.02);
        near(part_with(lit("a").eq(col("s")), true), 0.02);
        near(part_with(col("s").eq(col("x").cast(DataType::String)), true), EQUALITY_SELECTIVITY);
    }
}
