//! The constants of a membership (`is_in`) in a filter that is handed to a source.

use polars_core::prelude::*;
use polars_plan::plans::LiteralValue;

/// Longer lists are not handed on.
const MOST_VALUES: usize = 10_000;

/// The values of a list without its nulls, which match nothing; nothing if it is no list of constants, or too long.
pub fn values(list: &LiteralValue) -> Option<Series> {
    let series = match list {
        LiteralValue::Series(series) => (**series).clone(),
        LiteralValue::Scalar(scalar) => match scalar.as_any_value() {
            AnyValue::List(series) => series,
            _ => return None,
        },
        _ => return None,
    };
    let series = match series.dtype() {
        DataType::List(_) if series.len() == 1 => series.list().ok()?.get_as_series(0)?,
        _ => series,
    };
    (series.len() <= MOST_VALUES).then(|| series.drop_nulls())
}
