//! How a plan is judged when its other side gives a certain result.

use std::time::Duration;

use polars::prelude::*;
use polars_plan::dsl::{FileSinkOptions, FileWriteFormat, SinkTarget, SinkType, UnifiedSinkArgs};

use super::super::expect::Floor;
use super::super::report::Report;
use super::*;

/// A side that gives what it is told, whatever the plan.
struct Fixed(Result<DataFrame, QueryError>);

impl Side for Fixed {
    fn run(&self, _name: &str, _bytes: &[u8], _plan: &DslPlan) -> Ran {
        Ran {
            outcome: self.0.clone().map(|frame| vec![frame]),
            stages: 2,
            tasks: 4,
            single_worker: Vec::new(),
            fell_back: None,
            elapsed: Duration::ZERO,
        }
    }
}

fn judged(lf: LazyFrame, side: &dyn Side) -> Checked {
    let judge = Judge { side, wheels: None, limit: Duration::from_secs(30) };
    judge.check("test", &[], &lf.logical_plan)
}

fn class(lf: LazyFrame, there: Result<DataFrame, QueryError>) -> Class {
    judged(lf, &Fixed(there)).outcome
}

fn frame() -> LazyFrame {
    df!("k" => [1, 1, 2, 2, 3], "v" => [10, 20, 30, 40, 50]).unwrap().lazy()
}

#[test]
fn rows_in_another_order_count_only_where_an_order_is_promised() {
    let swapped = || Ok(df!("k" => [2, 2, 3, 1, 1], "v" => [30, 40, 50, 10, 20]).unwrap());
    assert_eq!(class(frame(), swapped()), Class::OrderDiffers);
    let sums = |k: [i32; 3], v: [i32; 3]| Ok(df!("k" => k, "v" => v).unwrap());
    let groups = || frame().group_by([col("k")]).agg([col("v").sum()]);
    assert_eq!(class(groups(), sums([3, 1, 2], [50, 30, 70])), Class::Equal);
    assert_eq!(class(groups(), sums([3, 1, 2], [50, 30, 71])), Class::Differs);
    let ordered = || frame().group_by_stable([col("k")]).agg([col("v").sum()]);
    assert_eq!(class(ordered(), sums([3, 1, 2], [50, 30, 70])), Class::OrderDiffers);
}

#[test]
fn ties_of_an_unstable_sort_are_free_and_its_keys_are_not() {
    let sorted = || frame().sort(["k"], SortMultipleOptions::default());
    let ties = df!("k" => [1, 1, 2, 2, 3], "v" => [20, 10, 40, 30, 50]).unwrap();
    assert_eq!(class(sorted(), Ok(ties)), Class::Equal);
    let keys = df!("k" => [1, 2, 1, 2, 3], "v" => [10, 30, 20, 40, 50]).unwrap();
    assert_eq!(class(sorted(), Ok(keys)), Class::OrderDiffers);
}

#[test]
fn any_row_of_a_unique_is_as_good_as_another_but_its_key_is_not() {
    let unique = || frame().unique(Some(by_name(["k"], true, false)), UniqueKeepStrategy::Any);
    assert!(!class(unique(), Ok(df!("k" => [1, 2, 3], "v" => [20, 30, 50]).unwrap())).is_fault());
    assert_eq!(class(unique(), Ok(df!("k" => [1, 2, 4], "v" => [20, 30, 50]).unwrap())), Class::Differs);
    assert_eq!(class(unique(), Ok(df!("k" => [1, 2], "v" => [20, 30]).unwrap())), Class::Differs);
}

#[test]
fn the_first_row_of_unordered_groups_is_not_promised_and_that_of_a_sort_is() {
    let groups = frame().group_by([col("k")]).agg([col("v").sum()]).slice(0, 1);
    // Not promised, or exactly what a run with its rows moved gives.
    assert!(!class(groups, Ok(df!("k" => [3], "v" => [50]).unwrap())).is_fault());
    let top = || frame().sort(["v"], SortMultipleOptions::default()).slice(0, 1);
    assert_eq!(class(top(), Ok(df!("k" => [1], "v" => [20]).unwrap())), Class::Differs);
}

#[test]
fn samples_without_a_seed_are_not_promised_but_their_size_is() {
    let many = df!("v" => (0..1000).collect::<Vec<i32>>()).unwrap().lazy();
    let sample = || many.clone().select([col("v").sample_n(lit(5), false, Some(false), None)]);
    assert_eq!(class(sample(), Ok(df!("v" => [1, 2, 3, 4, 5]).unwrap())), Class::NotPromised);
    assert_eq!(class(sample(), Ok(df!("v" => [1, 2, 3]).unwrap())), Class::Differs);
}

#[test]
fn errors_by_class_and_message() {
    let failing = || frame().select([lit("x").strict_cast(DataType::Int32)]);
    let here =
        super::super::oracle::run(failing().logical_plan, With::Streaming, Duration::from_secs(30)).0.unwrap_err();
    assert_eq!(class(failing(), Err(here.clone())), Class::FailedAlike);
    let other = QueryError::user("ShapeError", here.message.clone());
    assert_eq!(class(failing(), Err(other)), Class::FailedDifferently);
    assert_eq!(class(failing(), Ok(df!("v" => [1]).unwrap())), Class::FailedInPolarsOnly);
    assert_eq!(class(frame(), Err(here)), Class::FailedInFloeOnly);
}

#[test]
fn columns_that_the_plan_declares_are_no_fault_where_polars_leaves_them_out() {
    let windows = DynamicGroupOptions {
        every: polars::prelude::Duration::parse("2i"),
        period: polars::prelude::Duration::parse("2i"),
        offset: polars::prelude::Duration::parse("0i"),
        index_column: "v".into(),
        include_boundaries: true,
        ..Default::default()
    };
    let none = || frame().filter(lit(false)).group_by_dynamic(col("v"), [col("k")], windows.clone()).agg([len()]);
    let declared = DataFrame::empty_with_schema(&none().collect_schema().unwrap());
    assert_eq!(class(none(), Ok(declared.clone())), Class::NotPromised);
    assert_eq!(class(none(), Ok(declared.drop("len").unwrap())), Class::Differs);
    // Rows where Polars has none are no matter of columns.
    assert_eq!(class(none(), Ok(DataFrame::full_null(declared.schema(), 1))), Class::Differs);
}

#[test]
fn columns_that_polars_does_give_are_compared_where_it_leaves_out_others() {
    let declared = frame().collect().unwrap();
    let judge = |here: DataFrame, there: DataFrame| {
        beyond_promise(&frame().logical_plan, &[here], &[there], Judged::new(Class::Differs)).class
    };
    let less = declared.drop("v").unwrap();
    assert_eq!(judge(less.clone(), declared.clone()), Class::NotPromised);
    let values = df!("k" => [1, 1, 2, 2, 4], "v" => [10, 20, 30, 40, 50]).unwrap();
    assert_eq!(judge(less.clone(), values), Class::Differs);
    assert_eq!(judge(less, declared.head(Some(4))), Class::Differs);
}

/// A side whose stages fail on every plan, so that one node gives its results; or that puts a whole plan into one
/// stage.
struct Broken {
    fell_back: Option<&'static str>,
    stages: usize,
}

impl Side for Broken {
    fn run(&self, _name: &str, _bytes: &[u8], plan: &DslPlan) -> Ran {
        let (outcome, elapsed) = oracle::run(plan.clone(), With::Streaming, Duration::from_secs(30));
        Ran {
            outcome,
            stages: self.stages,
            tasks: 1,
            single_worker: Vec::new(),
            fell_back: self.fell_back.map(str::to_owned),
            elapsed,
        }
    }
}

#[test]
fn the_right_rows_of_a_second_run_on_one_node_are_a_fault() {
    let why = "Internal: the planner gave up";
    let checked = judged(frame(), &Broken { fell_back: Some(why), stages: 1 });
    assert_eq!((checked.outcome, checked.detail.as_deref()), (Class::FellBack, Some(why)));
    assert!(checked.is_fault());
    // A wrong result beside that is worse.
    struct Wrong;
    impl Side for Wrong {
        fn run(&self, _name: &str, _bytes: &[u8], _plan: &DslPlan) -> Ran {
            let wrong = df!("k" => [9], "v" => [9]).unwrap();
            Ran { fell_back: Some("why".into()), ..Fixed(Ok(wrong)).run("", &[], &DslPlan::default()) }
        }
    }
    assert_eq!(judged(frame(), &Wrong).outcome, Class::Differs);
}

#[test]
fn an_engine_whose_planner_fails_or_gathers_everything_does_not_pass() {
    let floor = Floor { equal: 0.9, staged: 0.9, distributed: 0.5 };
    let report = |side: &dyn Side| {
        let plans = [frame(), frame().select([col("v").sum()]), frame().sort(["k"], SortMultipleOptions::default())];
        let checked = plans.into_iter().map(|plan| judged(plan, side)).collect();
        Report::new(checked, Duration::from_secs(1), None).with_floor(Some(floor))
    };
    let fails = report(&Broken { fell_back: Some("Internal: no plan"), stages: 1 });
    assert_eq!((fails.faults(), fails.passes()), (3, false));
    let gathers = report(&Broken { fell_back: None, stages: 1 });
    assert_eq!((gathers.faults(), gathers.passes()), (0, false), "{}", gathers.text(10));
    assert!(report(&Broken { fell_back: None, stages: 2 }).passes());
}

#[test]
fn a_slice_of_unordered_rows_gives_as_many_rows_as_it_says_and_none_that_are_not_there() {
    let two = || frame().group_by([col("k")]).agg([col("v").sum()]).slice(0, 2);
    let sums = |k: &[i32], v: &[i32]| Ok(df!("k" => k, "v" => v).unwrap());
    let right = class(two(), sums(&[3, 1], &[50, 30]));
    assert!(matches!(right, Class::Equal | Class::NotPromised), "{right:?}");
    assert_eq!(class(two(), sums(&[3, 1, 2], &[50, 30, 70])), Class::Differs);
    assert_eq!(class(two(), sums(&[3, 9], &[50, 90])), Class::Differs);
    assert_eq!(class(two(), sums(&[3, 3], &[50, 50])), Class::Differs);
    // What a slice cuts may be cut itself.
    let one = || two().slice(0, 1);
    for (k, v) in [(1, 30), (2, 70), (3, 50)] {
        let right = class(one(), sums(&[k], &[v]));
        assert!(matches!(right, Class::Equal | Class::NotPromised), "{k}: {right:?}");
    }
    assert_eq!(class(one(), sums(&[9], &[90])), Class::Differs);
}

/// The streaming engine cuts two rows too many here, also where it writes them.
#[test]
fn the_in_memory_engine_is_asked_about_written_rows_too() {
    let rows = df!("v" => (0..40).collect::<Vec<i32>>()).unwrap().lazy();
    let cut = rows.select([col("v").shift(lit(2))]).slice(-17, 13).logical_plan;
    let options = FileSinkOptions {
        target: SinkTarget::Path(PlRefPath::new("out.arrow")),
        file_format: FileWriteFormat::Ipc(IpcWriterOptions::default()),
        unified_sink_args: UnifiedSinkArgs::default(),
    };
    let written = DslPlan::Sink { input: cut.into(), payload: SinkType::File(options) };
    let run = |with| oracle::run(written.clone(), with, Duration::from_secs(30)).0.unwrap()[0].clone();
    let right = df!("v" => (21..34).collect::<Vec<i32>>()).unwrap();
    assert!(run(With::InMemory).equals(&right), "{}", run(With::InMemory));
    assert_ne!(run(With::Streaming).height(), right.height(), "not the case that is tested");
}
