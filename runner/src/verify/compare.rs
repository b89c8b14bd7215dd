//! Two results of one plan, compared as a user would: column names and their order, dtypes, height, values, and the
//! order of rows where the plan promises one. Nothing here knows where the results come from.
//!
//! Every row becomes a key of bytes (all that must be exact) and a list of finite floats (compared within a
//! tolerance), so that one encoding serves the comparison in order, the comparison as a multiset, and lists without a
//! promised inner order.

use hashbrown::HashMap;
use polars::prelude::{AnyValue, DataFrame, DataType, PlSmallStr, Series};

use super::words::{describe_cell, describe_row, short};

/// Relative tolerance for Float64: summation order changes with the number of partitions.
pub const REL_F64: f64 = 1e-9;
/// Relative tolerance for Float32.
pub const REL_F32: f64 = 1e-5;
/// Relative tolerance for Float16, which has eleven significant bits.
pub const REL_F16: f64 = 4e-3;
/// Differences below these are what cancellation leaves of larger numbers.
const ABS_F64: f64 = 1e-11;
const ABS_F32: f64 = 1e-6;
const ABS_F16: f64 = 1e-3;

/// What the plan promises about the order of the result's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Row by row.
    Exact,
    /// By these columns; rows that are equal in them come in any order.
    By(Vec<PlSmallStr>),
    /// Any order: the rows are a multiset.
    Any,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Equal,
    /// The same rows, but not in the order that the plan promises.
    OrderDiffers(String),
    /// The first difference, in words.
    Differs(String),
}

impl Verdict {
    pub fn is_equal(&self) -> bool {
        matches!(self, Verdict::Equal)
    }
}

/// Compares several frames (a plan with several sinks gives several).
pub fn compare_all(left: &[DataFrame], right: &[DataFrame], order: &Order) -> Verdict {
    if left.len() != right.len() {
        return Verdict::Differs(format!("{} results in Polars, {} in Floe", left.len(), right.len()));
    }
    let mut worst = Verdict::Equal;
    for (i, (l, r)) in left.iter().zip(right).enumerate() {
        let verdict = compare(l, r, order);
        let at = |text: String| if left.len() > 1 { format!("result {i}: {text}") } else { text };
        match verdict {
            Verdict::Equal => {}
            Verdict::OrderDiffers(text) => worst = Verdict::OrderDiffers(at(text)),
            Verdict::Differs(text) => return Verdict::Differs(at(text)),
        }
    }
    worst
}

/// Compares two frames exactly, except for float tolerance and for orders that are not promised.
pub fn compare(left: &DataFrame, right: &DataFrame, order: &Order) -> Verdict {
    if let Some(text) = schema_difference(left, right) {
        return Verdict::Differs(text);
    }
    if left.height() != right.height() {
        return Verdict::Differs(format!("{} rows in Polars, {} in Floe", left.height(), right.height()));
    }
    if left.width() == 0 {
        return Verdict::Equal;
    }
    let (l, r) = (Rows::encode(left, Inner::AsGiven), Rows::encode(right, Inner::AsGiven));
    let Some(first) = l.first_difference(&r) else { return Verdict::Equal };
    let in_order = describe_cell(left, right, first);
    match l.multiset_difference(&r) {
        None => match order {
            Order::Exact => Verdict::OrderDiffers(in_order),
            Order::Any => Verdict::Equal,
            Order::By(keys) => {
                let (Ok(lk), Ok(rk)) = (left.select(keys.iter().cloned()), right.select(keys.iter().cloned())) else {
                    return Verdict::Equal;
                };
                let (a, b) = (Rows::encode(&lk, Inner::AsGiven), Rows::encode(&rk, Inner::AsGiven));
                match a.first_difference(&b) {
                    None => Verdict::Equal,
                    Some(row) => Verdict::OrderDiffers(describe_cell(&lk, &rk, row)),
                }
            }
        },
        Some((a, b)) => match order {
            Order::Any => Verdict::Differs(format!(
                "as sets of rows: row {a} in Polars is {} and has no match in Floe, whose row {b} is {}",
                describe_row(left, a),
                describe_row(right, b)
            )),
            _ => Verdict::Differs(in_order),
        },
    }
}

/// As `compare`, but the elements of lists may come in any order, too (lists gathered from groups without an order).
pub fn compare_loose(left: &DataFrame, right: &DataFrame) -> Verdict {
    if let Some(text) = schema_difference(left, right) {
        return Verdict::Differs(text);
    }
    if left.height() != right.height() {
        return Verdict::Differs(format!("{} rows in Polars, {} in Floe", left.height(), right.height()));
    }
    let (l, r) = (Rows::encode(left, Inner::Sorted), Rows::encode(right, Inner::Sorted));
    match l.multiset_difference(&r) {
        None => Verdict::Equal,
        Some((a, b)) => Verdict::Differs(format!(
            "as sets of rows, lists sorted: row {a} in Polars is {} and has no match in Floe, whose row {b} is {}",
            describe_row(left, a),
            describe_row(right, b)
        )),
    }
}

/// A row that is not among `all`, in words.
pub fn foreign_row(all: &DataFrame, rows: &DataFrame) -> Option<String> {
    if schema_difference(all, rows).is_some() || rows.width() == 0 {
        return None;
    }
    let (known, given) = (Rows::encode(all, Inner::AsGiven), Rows::encode(rows, Inner::AsGiven));
    let foreign = known.lacks(&given)?;
    Some(format!("row {foreign} in Floe is {}", describe_row(rows, foreign)))
}

/// The columns of two frames of one schema that hold the same values, in any order of rows.
pub fn agreeing_columns(left: &DataFrame, right: &DataFrame) -> Vec<PlSmallStr> {
    if schema_difference(left, right).is_some() || left.height() != right.height() {
        return Vec::new();
    }
    let mut names = Vec::new();
    for (l, r) in left.columns().iter().zip(right.columns()) {
        let (Ok(lf), Ok(rf)) =
            (DataFrame::new(left.height(), vec![l.clone()]), DataFrame::new(right.height(), vec![r.clone()]))
        else {
            continue;
        };
        if compare(&lf, &rf, &Order::Any).is_equal() {
            names.push(l.name().clone());
        }
    }
    names
}

/// The first difference in names, order or dtypes of the columns.
pub fn schema_difference(left: &DataFrame, right: &DataFrame) -> Option<String> {
    let (lc, rc) = (left.columns(), right.columns());
    let names = |f: &DataFrame| f.columns().iter().map(|c| c.name().to_string()).collect::<Vec<_>>();
    let (ln, rn) = (names(left), names(right));
    if ln != rn {
        let (mut ls, mut rs) = (ln.clone(), rn.clone());
        ls.sort();
        rs.sort();
        let what = if ls == rs { "column order" } else { "columns" };
        return Some(format!("{what}: {} in Polars, {} in Floe", short(&ln.join(", ")), short(&rn.join(", "))));
    }
    for (l, r) in lc.iter().zip(rc) {
        if !same_dtype(l.dtype(), r.dtype()) {
            return Some(format!("dtype of `{}`: {:?} in Polars, {:?} in Floe", l.name(), l.dtype(), r.dtype()));
        }
    }
    None
}

/// Equality of dtypes as a user sees it: categories by their names, not by where they live in memory.
fn same_dtype(left: &DataType, right: &DataType) -> bool {
    match (left, right) {
        (DataType::Categorical(l, _), DataType::Categorical(r, _)) => {
            l.name() == r.name() && l.namespace() == r.namespace() && l.physical() == r.physical()
        }
        (DataType::Enum(l, _), DataType::Enum(r, _)) => l.categories() == r.categories(),
        (DataType::List(l), DataType::List(r)) => same_dtype(l, r),
        (DataType::Array(l, n), DataType::Array(r, m)) => n == m && same_dtype(l, r),
        (DataType::Struct(l), DataType::Struct(r)) => {
            l.len() == r.len() && l.iter().zip(r).all(|(a, b)| a.name == b.name && same_dtype(&a.dtype, &b.dtype))
        }
        _ => left == right,
    }
}

/// How the elements of lists are encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inner {
    AsGiven,
    Sorted,
}

/// The rows of a frame: the exact part as bytes, finite floats beside it.
struct Rows {
    rows: Vec<Row>,
}

#[derive(Clone, Default, PartialEq, Debug)]
struct Row {
    key: Vec<u8>,
    floats: Vec<Float>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Float {
    value: f64,
    relative: f64,
    absolute: f64,
}

impl Float {
    fn close(self, other: Float) -> bool {
        let gap = (self.value - other.value).abs();
        gap <= self.absolute || gap <= self.relative * self.value.abs().max(other.value.abs())
    }
}

impl Row {
    fn same(&self, other: &Row) -> bool {
        self.key == other.key
            && self.floats.len() == other.floats.len()
            && self.floats.iter().zip(&other.floats).all(|(a, b)| a.close(*b))
    }

    fn order(&self, other: &Row) -> std::cmp::Ordering {
        self.key.cmp(&other.key).then_with(|| {
            for (a, b) in self.floats.iter().zip(&other.floats) {
                match a.value.total_cmp(&b.value) {
                    std::cmp::Ordering::Equal => {}
                    unequal => return unequal,
                }
            }
            std::cmp::Ordering::Equal
        })
    }

    fn append(&mut self, other: Row) {
        self.key.extend_from_slice(&other.key);
        self.floats.extend_from_slice(&other.floats);
    }
}

impl Rows {
    fn encode(frame: &DataFrame, inner: Inner) -> Rows {
        let mut rows = vec![Row::default(); frame.height()];
        for column in frame.columns() {
            let series = column.as_materialized_series().to_storage().rechunk();
            for (row, value) in rows.iter_mut().zip(series.iter()) {
                encode_value(&value, row, inner);
            }
        }
        Rows { rows }
    }

    fn first_difference(&self, other: &Rows) -> Option<usize> {
        self.rows.iter().zip(&other.rows).position(|(l, r)| !l.same(r))
    }

    /// A row on the left and a row on the right that are left over after equal rows were paired.
    fn multiset_difference(&self, other: &Rows) -> Option<(usize, usize)> {
        let mut groups: HashMap<&[u8], (Vec<usize>, Vec<usize>)> = HashMap::with_capacity(self.rows.len());
        for (i, row) in self.rows.iter().enumerate() {
            groups.entry(&row.key).or_default().0.push(i);
        }
        for (i, row) in other.rows.iter().enumerate() {
            groups.entry(&row.key).or_default().1.push(i);
        }
        let (mut left_over, mut right_over) = (None::<usize>, None::<usize>);
        for (_, (mut l, mut r)) in groups {
            l.sort_by(|a, b| self.rows[*a].order(&self.rows[*b]));
            r.sort_by(|a, b| other.rows[*a].order(&other.rows[*b]));
            let paired = l.len() == r.len() && l.iter().zip(&r).all(|(a, b)| self.rows[*a].same(&other.rows[*b]));
            if paired {
                continue;
            }
            let (a, b) = self.unpaired(other, &l, r);
            // The smallest indices keep the report the same from run to run.
            left_over = a.into_iter().chain(left_over).min();
            right_over = b.into_iter().chain(right_over).min();
        }
        match (left_over, right_over) {
            (None, None) => None,
            (a, b) => Some((a.unwrap_or(0), b.unwrap_or(0))),
        }
    }

    /// The first row of others that is not among these, each of which counts once.
    fn lacks(&self, others: &Rows) -> Option<usize> {
        let mut left: HashMap<&[u8], Vec<&Row>> = HashMap::with_capacity(self.rows.len());
        for row in &self.rows {
            left.entry(&row.key).or_default().push(row);
        }
        others.rows.iter().position(|row| {
            let Some(same_key) = left.get_mut(row.key.as_slice()) else { return true };
            let at = same_key.iter().position(|known| known.same(row));
            at.map(|at| same_key.swap_remove(at)).is_none()
        })
    }

    /// Greedy pairing within rows of one key: sorting by floats can misplace rows that are equal within tolerance.
    fn unpaired(&self, other: &Rows, left: &[usize], mut right: Vec<usize>) -> (Option<usize>, Option<usize>) {
        /// For more rows of one key, pairing all with all would take too long to be worth it.
        const MAX_ROWS_PER_KEY: usize = 5_000;
        if left.len() > MAX_ROWS_PER_KEY {
            return (left.first().copied(), right.first().copied());
        }
        let mut lonely = None;
        for a in left {
            match right.iter().position(|b| self.rows[*a].same(&other.rows[*b])) {
                Some(at) => {
                    right.remove(at);
                }
                None => lonely = lonely.or(Some(*a)),
            }
        }
        (lonely, right.first().copied())
    }
}

fn put(row: &mut Row, bytes: &[u8]) {
    row.key.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    row.key.extend_from_slice(bytes);
}

fn put_float(row: &mut Row, value: f64, relative: f64, absolute: f64) {
    let class = match value {
        v if v.is_nan() => 2,
        f64::INFINITY => 3,
        f64::NEG_INFINITY => 4,
        _ => 5,
    };
    row.key.push(class);
    if class == 5 {
        // -0.0 equals 0.0.
        row.floats.push(Float { value: value + 0.0, relative, absolute });
    }
}

/// Equality of two values of one dtype, floats within tolerance.
pub(super) fn same_value(left: &AnyValue<'_>, right: &AnyValue<'_>) -> bool {
    let (mut l, mut r) = (Row::default(), Row::default());
    encode_value(left, &mut l, Inner::AsGiven);
    encode_value(right, &mut r, Inner::AsGiven);
    l.same(&r)
}

fn encode_value(value: &AnyValue<'_>, row: &mut Row, inner: Inner) {
    if value.is_null() {
        row.key.push(0);
        return;
    }
    row.key.push(1);
    match value {
        AnyValue::Null => {}
        AnyValue::Boolean(v) => row.key.push(u8::from(*v)),
        AnyValue::UInt8(v) => row.key.extend_from_slice(&v.to_le_bytes()),
        AnyValue::UInt16(v) => row.key.extend_from_slice(&v.to_le_bytes()),
        AnyValue::UInt32(v) => row.key.extend_from_slice(&v.to_le_bytes()),
        AnyValue::UInt64(v) => row.key.extend_from_slice(&v.to_le_bytes()),
        AnyValue::UInt128(v) => row.key.extend_from_slice(&v.to_le_bytes()),
        AnyValue::Int8(v) => row.key.extend_from_slice(&v.to_le_bytes()),
        AnyValue::Int16(v) => row.key.extend_from_slice(&v.to_le_bytes()),
        AnyValue::Int32(v) => row.key.extend_from_slice(&v.to_le_bytes()),
        AnyValue::Int64(v) => row.key.extend_from_slice(&v.to_le_bytes()),
        AnyValue::Int128(v) => row.key.extend_from_slice(&v.to_le_bytes()),
        AnyValue::Float16(v) => put_float(row, f64::from(f32::from(*v)), REL_F16, ABS_F16),
        AnyValue::Float32(v) => put_float(row, f64::from(*v), REL_F32, ABS_F32),
        AnyValue::Float64(v) => put_float(row, *v, REL_F64, ABS_F64),
        AnyValue::String(v) => put(row, v.as_bytes()),
        AnyValue::StringOwned(v) => put(row, v.as_bytes()),
        AnyValue::Binary(v) => put(row, v),
        AnyValue::BinaryOwned(v) => put(row, v),
        AnyValue::Date(v) => row.key.extend_from_slice(&v.to_le_bytes()),
        AnyValue::Datetime(v, _, _)
        | AnyValue::DatetimeOwned(v, _, _)
        | AnyValue::Duration(v, _)
        | AnyValue::Time(v) => {
            row.key.extend_from_slice(&v.to_le_bytes());
        }
        AnyValue::Decimal(v, _, _) => row.key.extend_from_slice(&v.to_le_bytes()),
        AnyValue::Categorical(cat, mapping) | AnyValue::Enum(cat, mapping) => {
            put(row, mapping.cat_to_str(*cat).unwrap_or_default().as_bytes());
        }
        AnyValue::CategoricalOwned(cat, mapping) | AnyValue::EnumOwned(cat, mapping) => {
            put(row, mapping.cat_to_str(*cat).unwrap_or_default().as_bytes());
        }
        AnyValue::List(series) | AnyValue::Array(series, _) => encode_list(series, row, inner),
        AnyValue::Struct(_, _, fields) => {
            row.key.extend_from_slice(&(fields.len() as u64).to_le_bytes());
            for field in value._iter_struct_av() {
                encode_value(&field, row, inner);
            }
        }
        AnyValue::StructOwned(parts) => {
            row.key.extend_from_slice(&(parts.0.len() as u64).to_le_bytes());
            for field in &parts.0 {
                encode_value(field, row, inner);
            }
        }
        #[allow(unreachable_patterns, reason = "objects exist only with a feature that this build leaves out")]
        other => put(row, format!("{other:?}").as_bytes()),
    }
}

fn encode_list(series: &Series, row: &mut Row, inner: Inner) {
    row.key.extend_from_slice(&(series.len() as u64).to_le_bytes());
    if series.is_empty() {
        return;
    }
    let series = series.to_storage().rechunk();
    match inner {
        Inner::AsGiven => series.iter().for_each(|value| encode_value(&value, row, inner)),
        Inner::Sorted => {
            let mut elements: Vec<Row> = series
                .iter()
                .map(|value| {
                    let mut element = Row::default();
                    encode_value(&value, &mut element, inner);
                    element
                })
                .collect();
            elements.sort_by(Row::order);
            elements.into_iter().for_each(|element| row.append(element));
        }
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
