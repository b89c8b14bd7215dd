//! Random frames: every frame has a few columns with fixed names, so that frames can be joined and grouped, and some of
//! random dtypes. Values come from small pools, so that keys match; most floats are multiples of a quarter, so that
//! sums do not depend on their order.

use polars::prelude::*;

use super::Gen;

/// Number of rows of a frame: often few, sometimes none, sometimes thousands.
pub fn height(g: &mut Gen) -> usize {
    match g.below(100) {
        0..=4 => 0,
        5..=9 => 1,
        10..=59 => 2 + g.below(20),
        60..=89 => 20 + g.below(200),
        _ => 1000 + g.below(2500),
    }
}

/// A frame: keys `k` and `s`, a unique `id`, a sorted time `t`, a float `f`, and columns of random dtypes.
pub fn frame(g: &mut Gen, rows: usize) -> PolarsResult<DataFrame> {
    let nulls = *g.pick(&[0.0, 0.1, 0.1, 0.5]);
    // Two large frames of few keys would join to millions of rows.
    let large = rows > 300;
    let distinct = if large { 1000 } else { *g.pick(&[2_i64, 5, 5, 20, 1000]) };
    // One very frequent key in every fourth frame.
    let skew = match g.chance(0.25) {
        true if large => 0.1,
        true => 0.9,
        false => 0.0,
    };
    let mut columns = vec![
        keys(g, rows, distinct, skew, nulls)?,
        strings(g, rows, distinct.min(30), skew, nulls)?,
        Column::new("id".into(), (0..rows as i64).collect::<Vec<_>>()),
        times(g, rows)?,
        column(g, "f", &DataType::Float64, rows, nulls)?,
    ];
    for i in 0..g.below(6) {
        let dtype = dtype(g, 2);
        let nulls = if g.chance(0.05) { 1.0 } else { nulls };
        columns.push(column(g, &format!("c{i}"), &dtype, rows, nulls)?);
    }
    DataFrame::new(rows, columns)
}

fn keys(g: &mut Gen, rows: usize, distinct: i64, skew: f64, nulls: f64) -> PolarsResult<Column> {
    let values: Vec<Option<i64>> = (0..rows)
        .map(|_| {
            if g.chance(nulls / 2.0) {
                None
            } else if g.chance(skew) {
                Some(1)
            } else {
                Some(g.between(0, distinct))
            }
        })
        .collect();
    Ok(Column::new("k".into(), values))
}

fn strings(g: &mut Gen, rows: usize, distinct: i64, skew: f64, nulls: f64) -> PolarsResult<Column> {
    let values: Vec<Option<String>> = (0..rows)
        .map(|_| {
            if g.chance(nulls / 2.0) {
                None
            } else if g.chance(skew) {
                Some("huge".to_string())
            } else {
                let at = g.between(0, distinct) as usize;
                Some(if at < STRINGS.len() { STRINGS[at].to_string() } else { format!("key-{at}") })
            }
        })
        .collect();
    Ok(Column::new("s".into(), values))
}

/// Sorted and never null, as required by as-of joins and by rolling and dynamic groups.
fn times(g: &mut Gen, rows: usize) -> PolarsResult<Column> {
    let mut at = 1_700_000_000_000_000_i64;
    let step = *g.pick(&[1_000_000_i64, 3_600_000_000, 86_400_000_000]);
    let values: Vec<i64> = (0..rows)
        .map(|_| {
            at += g.between(0, 3) * step;
            at
        })
        .collect();
    Column::new("t".into(), values).cast(&DataType::Datetime(TimeUnit::Microseconds, None))
}

/// Every dtype that a frame of a plan can hold; nested ones up to `depth`.
pub fn dtype(g: &mut Gen, depth: usize) -> DataType {
    let leaves = if depth == 0 { 32 } else { 40 };
    match g.below(leaves) {
        0 => DataType::Int8,
        1 => DataType::Int16,
        2 => DataType::Int32,
        3 => DataType::Int64,
        4 => DataType::Int128,
        5 => DataType::UInt8,
        6 => DataType::UInt16,
        7 => DataType::UInt32,
        8 => DataType::UInt64,
        9 => DataType::UInt128,
        10 => DataType::Float16,
        11 => DataType::Float32,
        12 | 13 => DataType::Float64,
        14 => DataType::Decimal(38, 2),
        15 => DataType::Decimal(12, 4),
        16 | 17 => DataType::Boolean,
        18 | 19 => DataType::String,
        20 => DataType::Binary,
        21 => DataType::Date,
        22 => DataType::Datetime(TimeUnit::Milliseconds, None),
        23 => DataType::Datetime(TimeUnit::Nanoseconds, None),
        24 => DataType::Datetime(TimeUnit::Microseconds, zone("Europe/Vienna")),
        25 => DataType::Datetime(TimeUnit::Microseconds, zone("UTC")),
        26 => DataType::Duration(*g.pick(&[TimeUnit::Milliseconds, TimeUnit::Microseconds, TimeUnit::Nanoseconds])),
        27 => DataType::Time,
        28 | 29 => DataType::from_categories(Categories::global()),
        30 => match FrozenCategories::new(["low", "mid", "high", "ünï"]) {
            Ok(categories) => DataType::from_frozen_categories(categories),
            Err(_) => DataType::String,
        },
        31 => DataType::Null,
        32..=34 => DataType::List(Box::new(dtype(g, depth - 1))),
        35 | 36 => DataType::Array(Box::new(dtype(g, depth - 1)), 1 + g.below(3)),
        _ => {
            let fields = 1 + g.below(3);
            let named = (0..fields).map(|i| Field::new(format!("f{i}").into(), dtype(g, depth - 1)));
            DataType::Struct(named.collect())
        }
    }
}

fn zone(name: &'static str) -> Option<TimeZone> {
    TimeZone::opt_try_new(Some(name)).ok().flatten()
}

/// A column of this dtype.
pub fn column(g: &mut Gen, name: &str, dtype: &DataType, rows: usize, nulls: f64) -> PolarsResult<Column> {
    series(g, name, dtype, rows, nulls).map(Column::from)
}

/// Builds a series from values; categories are strings until the end.
fn series(g: &mut Gen, name: &str, dtype: &DataType, rows: usize, nulls: f64) -> PolarsResult<Series> {
    let plain = plain(dtype);
    if rows == 0 {
        return Ok(Series::new_empty(name.into(), dtype));
    }
    let values: Vec<AnyValue<'static>> =
        (0..rows).map(|_| value(g, dtype, &plain, nulls)).collect::<PolarsResult<_>>()?;
    let series = Series::from_any_values_and_dtype(name.into(), &values, &plain, true)?;
    if *dtype == plain { Ok(series) } else { series.strict_cast(dtype) }
}

/// The dtype with strings in place of categories.
fn plain(dtype: &DataType) -> DataType {
    match dtype {
        DataType::Categorical(..) | DataType::Enum(..) => DataType::String,
        DataType::List(inner) => DataType::List(Box::new(plain(inner))),
        DataType::Array(inner, width) => DataType::Array(Box::new(plain(inner)), *width),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|f| Field::new(f.name.clone(), plain(&f.dtype))).collect())
        }
        other => other.clone(),
    }
}

/// Includes unusual ones: empty, combining marks, right to left, a zero byte, an emoji of several code points, quotes.
pub const STRINGS: [&str; 14] = [
    "a",
    "b",
    "",
    "B",
    "ab",
    "Ünïcödé",
    "e\u{301}",
    "שלום",
    "a\0b",
    "👩‍👩‍👧",
    " x ",
    "with \"quotes\", comma",
    "line\nbreak",
    "2021-03-04",
];

fn float(g: &mut Gen) -> f64 {
    match g.below(40) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => -0.0,
        4 => 0.0,
        5..=7 => 0.1 * g.between(-9, 9) as f64,
        _ => g.between(-200, 200) as f64 / 4.0,
    }
}

fn value(g: &mut Gen, dtype: &DataType, plain: &DataType, nulls: f64) -> PolarsResult<AnyValue<'static>> {
    if g.chance(nulls) {
        return Ok(AnyValue::Null);
    }
    let edge = g.chance(0.02);
    let small = g.between(-20, 20);
    let unsigned = g.between(0, 30);
    Ok(match dtype {
        DataType::Boolean => AnyValue::Boolean(g.chance(0.5)),
        DataType::Int8 => AnyValue::Int8(if edge { i8::MIN } else { small as i8 }),
        DataType::Int16 => AnyValue::Int16(if edge { i16::MAX } else { small as i16 }),
        DataType::Int32 => AnyValue::Int32(if edge { i32::MAX } else { small as i32 }),
        DataType::Int64 => AnyValue::Int64(if edge { 1 << 53 } else { small }),
        DataType::Int128 => AnyValue::Int128(if edge { 1 << 100 } else { i128::from(small) }),
        DataType::UInt8 => AnyValue::UInt8(if edge { u8::MAX } else { unsigned as u8 }),
        DataType::UInt16 => AnyValue::UInt16(if edge { u16::MAX } else { unsigned as u16 }),
        DataType::UInt32 => AnyValue::UInt32(if edge { u32::MAX } else { unsigned as u32 }),
        DataType::UInt64 => AnyValue::UInt64(if edge { 1 << 60 } else { unsigned as u64 }),
        DataType::UInt128 => AnyValue::UInt128(if edge { 1 << 100 } else { unsigned as u128 }),
        DataType::Float16 => AnyValue::Float16((g.between(-40, 40) as f32 / 4.0).into()),
        DataType::Float32 => AnyValue::Float32(float(g) as f32),
        DataType::Float64 => AnyValue::Float64(float(g)),
        DataType::Decimal(p, s) => AnyValue::Decimal(i128::from(g.between(-100_000, 100_000)), *p, *s),
        DataType::String => AnyValue::StringOwned((*g.pick(&STRINGS)).into()),
        DataType::Categorical(..) => AnyValue::StringOwned((*g.pick(&["one", "two", "three", "Ünïcödé", ""])).into()),
        DataType::Enum(..) => AnyValue::StringOwned((*g.pick(&["low", "mid", "high", "ünï"])).into()),
        DataType::Binary => {
            let len = g.below(4);
            AnyValue::BinaryOwned((0..len).map(|_| g.below(256) as u8).collect())
        }
        DataType::Date => AnyValue::Date(g.between(18_000, 18_060) as i32),
        DataType::Datetime(unit, zone) => {
            let seconds = 1_600_000_000 + g.between(0, 400) * 9_000;
            let zone = zone.clone().map(std::sync::Arc::new);
            AnyValue::DatetimeOwned(seconds * per_second(*unit) + i64::from(edge), *unit, zone)
        }
        DataType::Duration(unit) => AnyValue::Duration(g.between(-500, 500) * per_second(*unit) / 2, *unit),
        DataType::Time => AnyValue::Time(g.between(0, 86_399) * 1_000_000_000),
        DataType::List(inner) => {
            let len = g.below(4);
            let DataType::List(plain_inner) = plain else { return Ok(AnyValue::Null) };
            AnyValue::List(elements(g, inner, plain_inner, len, nulls)?)
        }
        DataType::Array(inner, width) => {
            let DataType::Array(plain_inner, _) = plain else { return Ok(AnyValue::Null) };
            AnyValue::Array(elements(g, inner, plain_inner, *width, nulls)?, *width)
        }
        DataType::Struct(fields) => {
            let DataType::Struct(plain_fields) = plain else { return Ok(AnyValue::Null) };
            let mut values = Vec::with_capacity(fields.len());
            for (field, plain) in fields.iter().zip(plain_fields) {
                values.push(value(g, &field.dtype, &plain.dtype, nulls)?);
            }
            AnyValue::StructOwned(Box::new((values, plain_fields.clone())))
        }
        _ => AnyValue::Null,
    })
}

fn elements(g: &mut Gen, inner: &DataType, plain: &DataType, len: usize, nulls: f64) -> PolarsResult<Series> {
    let values: Vec<AnyValue<'static>> =
        (0..len).map(|_| value(g, inner, plain, nulls * 0.5)).collect::<PolarsResult<_>>()?;
    Series::from_any_values_and_dtype(PlSmallStr::EMPTY, &values, plain, true)
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Milliseconds => 1_000,
        TimeUnit::Microseconds => 1_000_000,
        TimeUnit::Nanoseconds => 1_000_000_000,
    }
}
