//! When inner joins are reordered: over Parquet files, whose footers have the number of rows and the ranges of the
//! columns.

use polars::prelude::*;
use polars_ops::frame::MaintainOrderJoin;

use crate::{Mode, Options, plan};

/// Files for a run of three joins that is very expensive in the order fact, many, few: `many` has a thousand rows per
/// joining value, `few` leaves one in a thousand rows of `fact`.
struct Files(tempfile::TempDir);

fn up_to(n: i64) -> Vec<i64> {
    (0..n).collect()
}

impl Files {
    fn new() -> Self {
        let files = Files(tempfile::tempdir().unwrap());
        let n = 100_000i64;
        files.write(
            "fact",
            df!["k" => up_to(n), "g" => up_to(n).iter().map(|i| i % 10).collect::<Vec<_>>(), "v" => up_to(n)],
        );
        files
            .write("many", df!["g2" => up_to(10_000).iter().map(|i| i % 10).collect::<Vec<_>>(), "w" => up_to(10_000)]);
        files.write("few", df!["k2" => up_to(100).iter().map(|i| i * 1000).collect::<Vec<_>>(), "x" => up_to(100)]);
        files
    }

    fn write(&self, name: &str, frame: PolarsResult<DataFrame>) {
        let file = std::fs::File::create(self.0.path().join(format!("{name}.parquet"))).unwrap();
        ParquetWriter::new(file).finish(&mut frame.unwrap()).unwrap();
    }

    fn scan(&self, name: &str) -> LazyFrame {
        let path = self.0.path().join(format!("{name}.parquet"));
        LazyFrame::scan_parquet(PlRefPath::new(path.to_str().unwrap()), ScanArgsParquet::default()).unwrap()
    }

    /// Joined as written: fact, many, few.
    fn joined(&self, first: JoinArgs, second: JoinArgs) -> LazyFrame {
        self.scan("fact").join(self.scan("many"), [col("g")], [col("g2")], first).join(
            self.scan("few"),
            [col("k")],
            [col("k2")],
            second,
        )
    }
}

fn inner() -> JoinArgs {
    JoinArgs::new(JoinType::Inner)
}

fn notes_with(frame: LazyFrame, options: Options) -> Vec<String> {
    let ir = floe_plan::optimize(frame.logical_plan).unwrap();
    plan(ir, &Options { mode: Mode::Distributed, workers: 2, ..options }).unwrap().notes
}

fn notes(frame: LazyFrame) -> Vec<String> {
    notes_with(frame, Options::default())
}

#[test]
fn the_smaller_join_comes_first_and_the_plan_says_why() {
    let files = Files::new();
    assert_eq!(
        notes(files.joined(inner(), inner())),
        [
            "joins are done in the order fact.parquet, few.parquet, many.parquet: about 100100 rows on the way, 100.1 million as \
         written"
        ]
    );
    // A sort after the joins promises its own order, and an aggregate none.
    let sorted = files.joined(inner(), inner()).sort(["v", "w"], SortMultipleOptions::default());
    assert_eq!(notes(sorted).len(), 1);
    let counted = files.joined(inner(), inner()).group_by([col("g")]).agg([len()]);
    assert_eq!(notes(counted).len(), 1);
}

#[test]
fn columns_of_the_result_keep_names_types_and_order() {
    let files = Files::new();
    // The names of the sides clash, and are told apart by a suffix.
    let same = files.scan("many").rename(["w"], ["v"], true);
    let frame = files.scan("fact").join(same, [col("g")], [col("g2")], inner());
    let frame = frame.join(files.scan("few").rename(["x"], ["v"], true), [col("k")], [col("k2")], {
        JoinArgs { suffix: Some("_few".into()), ..inner() }
    });
    let ir = floe_plan::optimize(frame.clone().logical_plan).unwrap();
    let wanted = ir.lp_arena.get(ir.lp_top).schema(&ir.lp_arena).into_owned();
    let graph = plan(ir, &Options { mode: Mode::Distributed, workers: 2, ..Options::default() }).unwrap();
    assert_eq!(graph.notes.len(), 1, "{:?}", graph.notes);
    let columns: Vec<_> = graph.outputs[0].columns.iter().map(|column| column.name.to_string()).collect();
    assert_eq!(columns, wanted.iter_names().map(ToString::to_string).collect::<Vec<_>>());
    assert!(crate::check(&graph).is_empty(), "{:?}", crate::check(&graph));
}

#[test]
fn a_filter_that_leaves_few_rows_makes_a_table_small() {
    let files = Files::new();
    let few = files.scan("fact").select([col("k").alias("k2"), col("v").alias("x")]).filter(col("k2").lt(lit(100i64)));
    let frame = files.scan("fact").join(files.scan("many"), [col("g")], [col("g2")], inner());
    let notes = notes(frame.join(few, [col("k")], [col("k2")], inner()));
    assert_eq!(notes.len(), 1, "{notes:?}");
}

#[test]
fn what_promises_an_order_of_rows_or_keeps_unmatched_ones_stays_as_written() {
    let files = Files::new();
    for order in
        [MaintainOrderJoin::Left, MaintainOrderJoin::Right, MaintainOrderJoin::LeftRight, MaintainOrderJoin::RightLeft]
    {
        let ordered = JoinArgs { maintain_order: order, ..inner() };
        assert_eq!(notes(files.joined(ordered.clone(), ordered)), Vec::<String>::new(), "{order:?}");
    }
    // The order of rows that come in none is no promise, that of the other side is.
    let ordered = |order| JoinArgs { maintain_order: order, ..inner() };
    assert_eq!(notes(files.joined(inner(), ordered(MaintainOrderJoin::Right))), Vec::<String>::new());
    assert_eq!(notes(files.joined(inner(), ordered(MaintainOrderJoin::Left))).len(), 1);
    for how in [JoinType::Left, JoinType::Right, JoinType::Full] {
        let outer = JoinArgs::new(how.clone());
        assert_eq!(notes(files.joined(inner(), outer)), Vec::<String>::new(), "{how:?}");
    }
    for how in [JoinType::Left, JoinType::Full] {
        assert_eq!(notes(files.joined(JoinArgs::new(how.clone()), inner())), Vec::<String>::new(), "{how:?}");
    }
    // NULLs that equal each other, keys that must be unique, a slice of the rows.
    assert_eq!(notes(files.joined(JoinArgs { nulls_equal: true, ..inner() }, inner())), Vec::<String>::new());
    let checked = JoinArgs { validation: JoinValidation::ManyToOne, ..inner() };
    assert_eq!(notes(files.joined(inner(), checked)), Vec::<String>::new());
}

#[test]
fn a_semi_or_anti_join_is_done_on_the_table_that_has_its_keys() {
    let files = Files::new();
    for (how, name) in [(JoinType::Semi, "semi"), (JoinType::Anti, "anti")] {
        let said = notes(files.joined(inner(), JoinArgs::new(how.clone())));
        let rows = "about 100000 rows instead of 100.0 million";
        assert_eq!(said, [format!("a {name} join is done on fact.parquet before the joins below it: {rows}")]);
        // A key of another table that is equal to one of the join.
        let frame = files.scan("fact").join(files.scan("many"), [col("g")], [col("g2")], inner());
        let frame = frame.join(files.scan("few"), [col("g")], [col("k2")], JoinArgs::new(how.clone()));
        assert!(notes(frame)[0].contains(&format!("a {name} join is done on many.parquet")), "{name}");
        // Keys of two tables are together only above their join.
        let frame = files.scan("fact").join(files.scan("many"), [col("g")], [col("g2")], inner());
        let frame =
            frame.join(files.scan("few"), [col("k"), col("w")], [col("k2"), col("x")], JoinArgs::new(how.clone()));
        assert_eq!(notes(frame), Vec::<String>::new(), "{name}");
        // A join that leaves less than the table has is better done first.
        let frame = files.scan("fact").join(files.scan("few"), [col("k")], [col("k2")], inner());
        let frame = frame.join(files.scan("many"), [col("v")], [col("w")], JoinArgs::new(how.clone()));
        assert_eq!(notes(frame), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn without_statistics_or_a_clear_gain_nothing_changes() {
    let files = Files::new();
    // The best order as it is.
    let best = files.scan("fact").join(files.scan("few"), [col("k")], [col("k2")], inner());
    let best = best.join(files.scan("many"), [col("g")], [col("g2")], inner());
    assert_eq!(notes(best), Vec::<String>::new());
    // Two tables have one order.
    let two = files.scan("fact").join(files.scan("many"), [col("g")], [col("g2")], inner());
    assert_eq!(notes(two), Vec::<String>::new());
    // Text has no statistics.
    let path = files.0.path().join("few.csv");
    CsvWriter::new(std::fs::File::create(&path).unwrap()).finish(&mut df!["k2" => up_to(100)].unwrap()).unwrap();
    let csv = LazyCsvReader::new(PlRefPath::new(path.to_str().unwrap())).finish().unwrap();
    let frame = files.scan("fact").join(files.scan("many"), [col("g")], [col("g2")], inner());
    assert_eq!(notes(frame.join(csv, [col("k")], [col("k2")], inner())), Vec::<String>::new());
    // Small tables are joined as they come.
    let small = |name: &str| files.scan(name).slice(0, 50);
    let frame = small("fact").join(small("many"), [col("g")], [col("g2")], inner());
    assert_eq!(notes(frame.join(small("few"), [col("k")], [col("k2")], inner())), Vec::<String>::new());
}

#[test]
fn it_can_be_turned_off() {
    let files = Files::new();
    let off = Options { reorder_joins: false, ..Options::default() };
    assert_eq!(notes_with(files.joined(inner(), inner()), off), Vec::<String>::new());
}
