use std::sync::Arc;

use floe_plan::crossing::product::product;
use polars::prelude::*;
use polars_plan::dsl::{AnonymousColumnsUdf, ColumnsUdf, LazySerde, SpecialEq};
use polars_plan::prelude::FunctionOptions;

use floe_wire::graph::Nondeterminism;

use crate::{Mode, Options, plan};

fn sales() -> LazyFrame {
    let n = 600i64;
    let sales = df!(
        "shop" => (0..n).map(|i| i % 17).collect::<Vec<_>>(),
        "day" => (0..n).collect::<Vec<_>>(),
        "sum" => (0..n).map(|i| i as f64).collect::<Vec<_>>()
    );
    sales.unwrap().lazy()
}

/// The reasons of all stages of a plan, without those that have none.
fn reasons(frame: LazyFrame) -> Vec<Nondeterminism> {
    let ir = floe_plan::optimize(frame.logical_plan).unwrap();
    let options = Options { mode: Mode::Distributed, workers: 3, broadcast_limit_bytes: 0, ..Options::default() };
    let graph = plan(ir, &options).unwrap();
    assert!(graph.stages.len() > 1);
    graph.stages.iter().filter_map(|stage| stage.nondeterminism).collect()
}

/// The rows of a group-by, in an order that varies.
fn by_shop() -> LazyFrame {
    sales().group_by([col("shop")]).agg([col("sum").sum(), col("day").max()])
}

/// A user's function, which gives each row back.
struct Same;

impl ColumnsUdf for Same {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn call_udf(&self, columns: &mut [Column]) -> PolarsResult<Column> {
        Ok(columns[0].clone())
    }
}

impl AnonymousColumnsUdf for Same {
    fn as_column_udf(self: Arc<Self>) -> Arc<dyn ColumnsUdf> {
        self
    }

    fn deep_clone(self: Arc<Self>) -> Arc<dyn AnonymousColumnsUdf> {
        self
    }

    /// Fragments are written, and never read here.
    fn try_serialize(&self, _: &mut Vec<u8>) -> PolarsResult<()> {
        Ok(())
    }

    fn get_field(&self, _: &Schema, fields: &[Field]) -> PolarsResult<Field> {
        Ok(fields[0].clone())
    }
}

fn called(column: &str) -> Expr {
    Expr::AnonymousFunction {
        input: vec![col(column)],
        function: LazySerde::Deserialized(SpecialEq::new(Arc::new(Same))),
        options: FunctionOptions::elementwise(),
        fmt_str: Box::new("same".into()),
    }
}

#[test]
fn nondeterministic_stages_are_marked() {
    let by = |frame: LazyFrame, keys: &[&str]| {
        let keys: Vec<Expr> = keys.iter().map(|key| col(*key)).collect();
        frame.group_by(keys).agg([len().alias("n")])
    };
    let cases = [
        ("a limit of groups", by(by_shop().limit(5), &["day"]), Nondeterminism::UnorderedSlice),
        (
            "the top of groups, which may tie",
            by(by_shop().sort(["day"], SortMultipleOptions::default()).limit(5), &["day"]),
            Nondeterminism::UnorderedSlice,
        ),
        (
            "any row of a shop",
            by(sales().unique(Some(cols(["shop"])), UniqueKeepStrategy::Any), &["day"]),
            Nondeterminism::AnyOfEqualRows,
        ),
        (
            "the first of groups",
            by(by_shop().unique(Some(cols(["day"])), UniqueKeepStrategy::First), &["shop"]),
            Nondeterminism::AnyOfEqualRows,
        ),
        (
            "the first of an unordered group",
            by(by_shop().group_by([col("day")]).agg([col("sum").first()]), &["sum"]),
            Nondeterminism::UnorderedValues,
        ),
        ("row numbers of groups", by(by_shop().with_row_index("row", None), &["row"]), Nondeterminism::UnorderedRows),
        (
            "a shuffle without a seed",
            by(sales().with_columns([col("sum").shuffle(None)]), &["sum"]),
            Nondeterminism::NoSeed,
        ),
        ("a user's function", by(sales().with_columns([called("sum")]), &["sum"]), Nondeterminism::UserFunction),
        (
            "a sample without a seed",
            by(sales().select([col("day").sample_n(lit(40), false, Some(true), None)]), &["day"]),
            Nondeterminism::NoSeed,
        ),
    ];
    for (name, frame, why) in cases {
        let reasons = reasons(frame);
        assert!(reasons.contains(&why), "{name}: {reasons:?}");
    }
}

#[test]
fn deterministic_stages_are_not_marked() {
    let join = |how| by_shop().join(sales(), [col("shop")], [col("shop")], JoinArgs::new(how));
    let mean = |frame: LazyFrame| frame.group_by([col("day")]).agg([col("sum").mean(), col("shop").n_unique()]);
    let cases = [
        ("groups", mean(by_shop())),
        ("joins", mean(join(JoinType::Inner))),
        ("outer joins", mean(join(JoinType::Full))),
        ("a limit of rows in order", mean(sales().limit(50))),
        ("the top of rows in order", mean(sales().sort(["sum"], SortMultipleOptions::default()).limit(50))),
        ("whole rows", mean(sales().unique(None, UniqueKeepStrategy::Any))),
        ("the first of rows in order", mean(sales().unique(Some(cols(["shop"])), UniqueKeepStrategy::First))),
        ("a shuffle with a seed", mean(sales().with_columns([col("sum").shuffle(Some(7))]))),
        ("row numbers", mean(sales().with_row_index("row", None))),
        ("a product of decimals", mean(sales().with_columns([product(col("sum"), lit(3), 0).unwrap()]))),
        ("rows that stand near", mean(sales().with_columns([col("sum").diff(lit(1), Default::default())]))),
    ];
    for (name, frame) in cases {
        let reasons = reasons(frame);
        assert!(reasons.is_empty(), "{name}: {reasons:?}");
    }
}
