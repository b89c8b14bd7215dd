//! Limits of functions that make much of little: texts of a given length and series of numbers. The engine's own would
//! allocate whatever they are asked for, and the worker would be lost. A function of Floe's own stands before the
//! argument that says how much: it gives that argument, or fails.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use polars::prelude::*;
use polars_plan::dsl::{AnonymousColumnsUdf, ColumnsUdf, Expr, LazySerde, OpaqueColumnUdf, SpecialEq};
use polars_plan::prelude::FunctionOptions;

use floe_wire::error::{QueryError, Result};

/// First bytes of a limit in a fragment. Its number follows.
pub const MAGIC: &[u8] = b"floe-bounded:";
/// How a limit is shown in plans.
pub const SHOWN: &str = "bounded";
/// Most characters of a padded text.
const MOST_CHARACTERS: i128 = 1 << 24;
/// Most numbers of a series.
const MOST_NUMBERS: i128 = 100_000_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Guards one argument, the length.
    PadStart,
    PadEnd,
    /// Guards three arguments: end, start and step.
    Series,
}

const ALL: [Limit; 3] = [Limit::PadStart, Limit::PadEnd, Limit::Series];

/// The first argument, which fails where it asks for too much. Where no argument has a column that is known now.
pub fn bounded(limit: Limit, arguments: Vec<Expr>) -> Result<Expr> {
    let all_known = |expr: &Expr| !expr.into_iter().any(|part| !is_known(part));
    if arguments.iter().all(all_known)
        && let Ok(row) = DataFrame::empty().lazy().select(numbered(&arguments)).collect()
        && let Err(message) = limit.check(row.columns())
    {
        return Err(QueryError::user("QueryTooLarge", message));
    }
    Ok(Expr::AnonymousFunction {
        input: arguments,
        function: limit.function(),
        options: FunctionOptions::elementwise(),
        fmt_str: Box::new(PlSmallStr::from_static(SHOWN)),
    })
}

fn is_known(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(_) | Expr::Cast { .. } | Expr::BinaryExpr { .. } | Expr::Function { .. })
}

fn numbered(arguments: &[Expr]) -> Vec<Expr> {
    arguments.iter().enumerate().map(|(at, argument)| argument.clone().alias(at.to_string())).collect()
}

/// The limit in the bytes of a fragment, if they are one.
pub fn read(bytes: &[u8]) -> Option<OpaqueColumnUdf> {
    match bytes.strip_prefix(MAGIC)? {
        [at] => ALL.get(usize::from(*at)).map(|limit| limit.function()),
        _ => None,
    }
}

impl Limit {
    /// One function for each limit, because plans compare functions by address.
    fn function(self) -> OpaqueColumnUdf {
        static FUNCTIONS: [OnceLock<Arc<Limit>>; ALL.len()] = [const { OnceLock::new() }; ALL.len()];
        let one: Arc<dyn AnonymousColumnsUdf> = FUNCTIONS[self as usize].get_or_init(|| Arc::new(self)).clone();
        LazySerde::Deserialized(SpecialEq::new(one))
    }

    /// Checks the arguments of every row; the error says what is too much.
    fn check(self, columns: &[Column]) -> std::result::Result<(), String> {
        let numbers = columns.iter().map(numbers).collect::<Option<Vec<_>>>();
        // What is no number is the function's own to refuse.
        let Some(numbers) = numbers else { return Ok(()) };
        let height = numbers.iter().map(Int128Chunked::len).max().unwrap_or(0);
        let get = |at: usize, row: usize| {
            let of = numbers.get(at)?;
            of.get(if of.len() == 1 { 0 } else { row })
        };
        for row in 0..height {
            let count = match self {
                Limit::PadStart | Limit::PadEnd => get(0, row),
                Limit::Series => match (get(0, row), get(1, row), get(2, row)) {
                    (Some(end), Some(start), Some(step)) => (end - start).checked_div(step),
                    _ => None,
                },
            };
            self.check_one(count.unwrap_or(0))?;
        }
        Ok(())
    }

    fn check_one(self, count: i128) -> std::result::Result<(), String> {
        let (name, what, most) = match self {
            Limit::PadStart => ("LPAD makes texts", "characters", MOST_CHARACTERS),
            Limit::PadEnd => ("RPAD makes texts", "characters", MOST_CHARACTERS),
            Limit::Series => ("GENERATE_SERIES or RANGE makes lists", "numbers", MOST_NUMBERS),
        };
        match count > most {
            true => Err(format!("{name} of {count} {what}; at most {most} are made")),
            false => Ok(()),
        }
    }
}

/// A column of integers; one number for all that are equal.
fn numbers(column: &Column) -> Option<Int128Chunked> {
    let series = match column.as_scalar_column() {
        Some(scalar) if !scalar.is_empty() => scalar.as_single_value_series(),
        _ => column.as_materialized_series().clone(),
    };
    if !series.dtype().is_integer() {
        return None;
    }
    series.cast(&DataType::Int128).ok()?.i128().ok().cloned()
}

impl ColumnsUdf for Limit {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn call_udf(&self, columns: &mut [Column]) -> PolarsResult<Column> {
        self.check(columns).map_err(|message| polars_err!(ComputeError: "{message}"))?;
        let Some(first) = columns.first() else {
            polars_bail!(ComputeError: "a limit has an argument");
        };
        let height = columns.iter().map(Column::len).find(|len| *len != 1).unwrap_or(1);
        Ok(if first.len() == height { first.clone() } else { first.new_from_index(0, height) })
    }
}

impl AnonymousColumnsUdf for Limit {
    fn as_column_udf(self: Arc<Self>) -> Arc<dyn ColumnsUdf> {
        self
    }

    fn deep_clone(self: Arc<Self>) -> Arc<dyn AnonymousColumnsUdf> {
        self
    }

    fn try_serialize(&self, out: &mut Vec<u8>) -> PolarsResult<()> {
        out.extend_from_slice(MAGIC);
        out.push(*self as u8);
        Ok(())
    }

    fn get_field(&self, _: &Schema, fields: &[Field]) -> PolarsResult<Field> {
        let mut field = fields.first().cloned().ok_or_else(|| polars_err!(ComputeError: "a limit has an argument"))?;
        // That of a number in the text is not known before it is used.
        field.coerce(field.dtype().clone().materialize_unknown(true)?);
        Ok(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(limit: Limit, arguments: Vec<Expr>) -> std::result::Result<DataFrame, String> {
        let end = [Some(3), None, Some(0), Some(400_000_000)];
        let frame = df!("end" => end, "step" => [1, 1, 0, 5], "long" => [1, 2, 3, 1 << 30]).unwrap().lazy();
        let expr = bounded(limit, arguments).map_err(|error| error.message)?;
        frame.select([expr.alias("x")]).collect().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_too_much_is_refused_at_once_or_when_it_is_seen() {
        let series = |end: Expr, step: Expr| run(Limit::Series, vec![end, lit(0i64), step]);
        assert_eq!(series(col("end"), col("step")).unwrap().height(), 4);
        let error = series(col("end"), lit(1)).unwrap_err();
        assert!(error.contains("makes lists of 400000000 numbers; at most 100000000 are made"), "{error}");
        assert_eq!(series(lit(1i64 << 40), lit(-1)).unwrap().height(), 1);
        for step in [lit(1i64), lit(2i32) - lit(1i32)] {
            assert!(series(lit(1i64 << 40), step).unwrap_err().starts_with("GENERATE_SERIES or RANGE makes lists"));
        }
        assert!(series(lit(i64::MAX), lit(i64::MAX)).is_ok());
        let error = run(Limit::PadEnd, vec![col("long").cast(DataType::UInt64)]).unwrap_err();
        assert!(error.contains("RPAD makes texts of 1073741824 characters; at most 16777216 are made"), "{error}");
        assert_eq!(run(Limit::PadStart, vec![lit(1u64 << 24)]).unwrap().height(), 1);
        assert!(run(Limit::PadStart, vec![lit((1u64 << 24) + 1)]).unwrap_err().starts_with("LPAD makes texts"));
    }

    #[test]
    fn limits_travel() {
        for limit in ALL {
            let mut bytes = vec![];
            limit.function().materialize().unwrap().try_serialize(&mut bytes).unwrap();
            assert!(read(&bytes).unwrap() == limit.function());
        }
        assert!(read(b"floe-bounded:").is_none() && read(b"floe-bounded:\x09").is_none());
    }
}
