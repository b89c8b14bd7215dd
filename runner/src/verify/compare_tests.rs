//! Every dtype: equal to itself, unequal after a change; tolerance, order, nesting, the wording of differences.

use polars::prelude::*;

use super::*;

fn one(series: Series) -> DataFrame {
    DataFrame::new(series.len(), vec![series.with_name("a".into()).into()]).unwrap()
}

fn exact(l: &DataFrame, r: &DataFrame) -> Verdict {
    compare(l, r, &Order::Exact)
}

fn cast(values: [Option<i64>; 3], dtype: &DataType) -> Series {
    Series::new("a".into(), values).cast(dtype).unwrap()
}

/// A series of each dtype and the same with its first value changed.
fn pairs() -> Vec<(Series, Series)> {
    let mut pairs = Vec::new();
    let numeric = [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Int128,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::UInt128,
        DataType::Float16,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal(20, 3),
        DataType::Date,
        DataType::Datetime(TimeUnit::Milliseconds, None),
        DataType::Datetime(TimeUnit::Microseconds, TimeZone::opt_try_new(Some("Europe/Vienna")).unwrap()),
        DataType::Duration(TimeUnit::Nanoseconds),
        DataType::Time,
    ];
    for dtype in &numeric {
        pairs.push((cast([Some(1), None, Some(3)], dtype), cast([Some(2), None, Some(3)], dtype)));
        pairs.push((cast([Some(1), None, Some(3)], dtype), cast([Some(1), Some(0), Some(3)], dtype)));
    }
    pairs.push((Series::new("a".into(), [true, false]), Series::new("a".into(), [false, false])));
    let strings = |v: &str| Series::new("a".into(), [Some(v), None, Some("é")]);
    pairs.push((strings("x"), strings("y")));
    pairs.push((strings("x"), strings("x\0")));
    pairs.push((strings("x").cast(&DataType::Binary).unwrap(), strings("y").cast(&DataType::Binary).unwrap()));
    let categories = DataType::from_categories(Categories::global());
    pairs.push((strings("x").cast(&categories).unwrap(), strings("y").cast(&categories).unwrap()));
    let frozen = DataType::from_frozen_categories(FrozenCategories::new(["x", "y", "é"]).unwrap());
    pairs.push((strings("x").cast(&frozen).unwrap(), strings("y").cast(&frozen).unwrap()));
    let list = |v: i64| {
        let inner =
            [Some(Series::new("".into(), [Some(v), None])), None, Some(Series::new("".into(), Vec::<i64>::new()))];
        Series::new("a".into(), inner)
    };
    pairs.push((list(1), list(2)));
    let array = DataType::Array(Box::new(DataType::Int64), 2);
    let pairs_of_two = |v: i64| {
        let inner = [Series::new("".into(), [v, 2]), Series::new("".into(), [3_i64, 4])];
        Series::new("a".into(), inner).cast(&array).unwrap()
    };
    pairs.push((pairs_of_two(1), pairs_of_two(7)));
    let structs = |v: i64, s: &str| {
        let fields = [Series::new("i".into(), [v, 2]), Series::new("s".into(), [s, "z"])];
        StructChunked::from_series("a".into(), 2, fields.iter()).unwrap().into_series()
    };
    pairs.push((structs(1, "x"), structs(2, "x")));
    pairs.push((structs(1, "x"), structs(1, "y")));
    pairs
}

#[test]
fn every_dtype_equals_itself_and_differs_when_changed() {
    for (l, r) in pairs() {
        let dtype = l.dtype().clone();
        let (l, r) = (one(l), one(r));
        assert_eq!(exact(&l, &l), Verdict::Equal, "{dtype:?}");
        assert!(matches!(exact(&l, &r), Verdict::Differs(_)), "{dtype:?}: {l} {r}");
        // Nested in a list, too.
        let nest = |f: &DataFrame| one(f.columns()[0].as_materialized_series().implode().unwrap().into_series());
        assert_eq!(exact(&nest(&l), &nest(&l)), Verdict::Equal, "list of {dtype:?}");
        assert!(matches!(exact(&nest(&l), &nest(&r)), Verdict::Differs(_)), "list of {dtype:?}");
    }
}

#[test]
fn null_dtype_and_frames_without_columns() {
    let nulls = |n| one(Series::new_null("a".into(), n));
    assert_eq!(exact(&nulls(3), &nulls(3)), Verdict::Equal);
    assert!(matches!(exact(&nulls(3), &nulls(2)), Verdict::Differs(_)));
    let empty = |n| DataFrame::new(n, Vec::new()).unwrap();
    assert_eq!(exact(&empty(4), &empty(4)), Verdict::Equal);
    assert!(matches!(exact(&empty(4), &empty(5)), Verdict::Differs(t) if t.contains("4 rows in Polars, 5 in Floe")));
}

#[test]
fn zero_width_arrays() {
    let of = |n| one(Series::new_null("a".into(), n).cast(&DataType::Array(Box::new(DataType::Int64), 0)).unwrap());
    assert_eq!(exact(&of(2), &of(2)), Verdict::Equal);
    assert!(matches!(exact(&of(2), &of(3)), Verdict::Differs(_)));
}

#[test]
fn null_struct_is_not_a_struct_of_nulls() {
    let fields = [Series::new("i".into(), [None::<i64>, Some(1)])];
    let present = StructChunked::from_series("a".into(), 2, fields.iter()).unwrap();
    let absent = present.clone().into_series();
    let absent = absent
        .zip_with(&BooleanChunked::new("m".into(), [false, true]), &Series::full_null("a".into(), 2, absent.dtype()))
        .unwrap();
    assert!(matches!(exact(&one(present.into_series()), &one(absent)), Verdict::Differs(_)));
}

#[test]
fn nan_and_zeroes_are_equal_and_floats_are_close() {
    let f = |v: [f64; 3]| one(Series::new("a".into(), v));
    assert_eq!(exact(&f([f64::NAN, -0.0, f64::INFINITY]), &f([f64::NAN, 0.0, f64::INFINITY])), Verdict::Equal);
    assert!(matches!(exact(&f([f64::NAN, 0.0, 0.0]), &f([1.0, 0.0, 0.0])), Verdict::Differs(_)));
    assert!(matches!(exact(&f([f64::INFINITY, 0.0, 0.0]), &f([f64::NEG_INFINITY, 0.0, 0.0])), Verdict::Differs(_)));
    let big = 1e12;
    assert_eq!(exact(&f([big, 1.0, 1.0]), &f([big * (1.0 + 1e-10), 1.0, 1.0])), Verdict::Equal);
    assert!(matches!(exact(&f([big, 1.0, 1.0]), &f([big * (1.0 + 1e-8), 1.0, 1.0])), Verdict::Differs(_)));
    let g = |v: f32| one(Series::new("a".into(), [v]));
    assert_eq!(exact(&g(1.0), &g(1.000_005)), Verdict::Equal);
    assert!(matches!(exact(&g(1.0), &g(1.000_1)), Verdict::Differs(_)));
}

#[test]
fn floats_inside_lists_and_structs_are_close_too() {
    let list = |v: f64| one(Series::new("a".into(), [Series::new("".into(), [1.0, v])]));
    assert_eq!(exact(&list(3.0), &list(3.0 + 1e-12)), Verdict::Equal);
    assert!(matches!(exact(&list(3.0), &list(3.1)), Verdict::Differs(_)));
}

#[test]
fn order_counts_only_where_promised() {
    let l = df!("a" => [1, 1, 2], "b" => ["x", "y", "z"]).unwrap();
    let ties = df!("a" => [1, 1, 2], "b" => ["y", "x", "z"]).unwrap();
    let mixed = df!("a" => [2, 1, 1], "b" => ["z", "x", "y"]).unwrap();
    assert!(matches!(compare(&l, &ties, &Order::Exact), Verdict::OrderDiffers(_)));
    assert_eq!(compare(&l, &ties, &Order::By(vec!["a".into()])), Verdict::Equal);
    assert!(matches!(compare(&l, &mixed, &Order::By(vec!["a".into()])), Verdict::OrderDiffers(_)));
    assert_eq!(compare(&l, &mixed, &Order::Any), Verdict::Equal);
    let other = df!("a" => [1, 1, 2], "b" => ["x", "x", "z"]).unwrap();
    assert!(matches!(compare(&l, &other, &Order::Any), Verdict::Differs(_)));
}

#[test]
fn close_floats_pair_up_without_an_order() {
    let l = df!("f" => [1.0, 1.0 + 1e-12, 5.0], "g" => [9.0, 1.0, 0.0]).unwrap();
    let r = df!("f" => [5.0, 1.0, 1.0 + 1e-12], "g" => [0.0, 1.0, 9.0]).unwrap();
    assert_eq!(compare(&l, &r, &Order::Any), Verdict::Equal);
}

#[test]
fn names_order_and_dtypes_count() {
    let l = df!("a" => [1], "b" => [2]).unwrap();
    let swapped = l.select(["b", "a"]).unwrap();
    assert!(matches!(exact(&l, &swapped), Verdict::Differs(t) if t.starts_with("column order")));
    let renamed = df!("a" => [1], "c" => [2]).unwrap();
    assert!(matches!(exact(&l, &renamed), Verdict::Differs(t) if t.starts_with("columns")));
    let wide = df!("a" => [1_i64], "b" => [2]).unwrap();
    assert!(matches!(exact(&l, &wide), Verdict::Differs(t) if t.contains("dtype of `a`")));
    let zoned = |z: Option<&str>| {
        let zone = TimeZone::opt_try_new(z).unwrap();
        one(cast([Some(1), None, None], &DataType::Datetime(TimeUnit::Microseconds, zone)))
    };
    assert!(matches!(exact(&zoned(None), &zoned(Some("UTC"))), Verdict::Differs(_)));
}

#[test]
fn lists_in_any_order_only_when_loose() {
    let list = |v: [i64; 3]| one(Series::new("a".into(), [Series::new("".into(), v)]));
    assert!(matches!(exact(&list([1, 2, 3]), &list([3, 1, 2])), Verdict::Differs(_)));
    assert_eq!(compare_loose(&list([1, 2, 3]), &list([3, 1, 2])), Verdict::Equal);
    assert!(matches!(compare_loose(&list([1, 2, 3]), &list([3, 1, 1])), Verdict::Differs(_)));
}

#[test]
fn the_first_difference_says_where() {
    let l = df!("a" => [1, 2], "b" => ["x", "y"]).unwrap();
    let r = df!("a" => [1, 2], "b" => ["x", "z"]).unwrap();
    let Verdict::Differs(text) = exact(&l, &r) else { panic!("equal") };
    assert!(text.contains("column `b`") && text.contains("row 1 of 2") && text.contains("\"y\" in Polars"), "{text}");
    assert_eq!(agreeing_columns(&l, &r), ["a"]);
}
