//! Dates and times of text without a format, where what is none becomes null. The engine's own function takes the format
//! from the first values that have one, as the newer Polars does, but fails where no value has: here all are null then.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use polars::prelude::*;
use polars_plan::dsl::{AnonymousColumnsUdf, ColumnsUdf, Expr, LazySerde, OpaqueColumnUdf, SpecialEq};
use polars_plan::prelude::FunctionOptions;

/// First bytes of such a function in a fragment. The number of its type follows.
pub const MAGIC: &[u8] = b"floe-parsed:";
/// How it is shown in plans.
pub const SHOWN: &str = "parsed";

#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Date,
    Time,
    Milliseconds,
    Microseconds,
    Nanoseconds,
    /// What is no date is an error.
    StrictDate,
    StrictTime,
}

const ALL: [To; 7] =
    [To::Date, To::Time, To::Milliseconds, To::Microseconds, To::Nanoseconds, To::StrictDate, To::StrictTime];

/// The text as this type; `None` where the engine's own function does the same.
pub fn parsed(text: Expr, dtype: &DataType, strict: bool) -> Option<Expr> {
    let to = ALL.into_iter().find(|to| to.dtype() == *dtype && to.is_strict() == strict)?;
    Some(Expr::AnonymousFunction {
        input: vec![text],
        function: to.function(),
        // All rows are looked at for the format: not element by element.
        options: FunctionOptions::length_preserving(),
        fmt_str: Box::new(PlSmallStr::from_static(SHOWN)),
    })
}

/// The function in the bytes of a fragment, if they are one.
pub fn read(bytes: &[u8]) -> Option<OpaqueColumnUdf> {
    match bytes.strip_prefix(MAGIC)? {
        [at] => ALL.get(usize::from(*at)).map(|to| to.function()),
        _ => None,
    }
}

impl To {
    /// One function for each type, because plans compare functions by address.
    fn function(self) -> OpaqueColumnUdf {
        static FUNCTIONS: [OnceLock<Arc<To>>; ALL.len()] = [const { OnceLock::new() }; ALL.len()];
        let one: Arc<dyn AnonymousColumnsUdf> = FUNCTIONS[self as usize].get_or_init(|| Arc::new(self)).clone();
        LazySerde::Deserialized(SpecialEq::new(one))
    }

    fn dtype(self) -> DataType {
        match self {
            To::Date | To::StrictDate => DataType::Date,
            To::Time | To::StrictTime => DataType::Time,
            To::Milliseconds => DataType::Datetime(TimeUnit::Milliseconds, None),
            To::Microseconds => DataType::Datetime(TimeUnit::Microseconds, None),
            To::Nanoseconds => DataType::Datetime(TimeUnit::Nanoseconds, None),
        }
    }

    fn of(self, text: &StringChunked) -> PolarsResult<Series> {
        let parsed = match self {
            To::StrictDate | To::StrictTime => return self.all(text),
            To::Date => text.as_date(None, true).map(IntoSeries::into_series),
            To::Time => self.times(text),
            To::Milliseconds => datetimes(text, TimeUnit::Milliseconds),
            To::Microseconds => datetimes(text, TimeUnit::Microseconds),
            To::Nanoseconds => datetimes(text, TimeUnit::Nanoseconds),
        };
        match parsed {
            // No format fits any value, or one with a time zone does.
            Err(PolarsError::ComputeError(_)) => Ok(Series::full_null(text.name().clone(), text.len(), &self.dtype())),
            parsed => parsed,
        }
    }

    fn is_strict(self) -> bool {
        matches!(self, To::StrictDate | To::StrictTime)
    }

    /// Every text, or an error: the engine's streaming function makes nulls of texts of which none has a format.
    fn all(self, text: &StringChunked) -> PolarsResult<Series> {
        let parsed = match self {
            To::StrictTime => self.times(text)?,
            _ => text.as_date(None, true)?.into_series(),
        };
        if parsed.null_count() == parsed.len() && text.null_count() < text.len() {
            polars_bail!(ComputeError: "could not find an appropriate format to parse times, please define a format");
        }
        if parsed.null_count() != text.null_count() {
            polars_core::utils::handle_casting_failures(&text.clone().into_series(), &parsed)?;
        }
        Ok(parsed)
    }

    /// The engine takes the format of times from the first value only, the newer Polars from the first that has one.
    fn times(self, text: &StringChunked) -> PolarsResult<Series> {
        let has_format = |at: &usize| text.get(*at).is_some() && text.slice(*at as i64, 1).as_time(None, false).is_ok();
        let Some(first) = (0..text.len()).find(has_format) else {
            return Ok(Series::full_null(text.name().clone(), text.len(), &self.dtype()));
        };
        let mut all = Series::full_null(text.name().clone(), first, &self.dtype());
        all.append(&text.slice(first as i64, text.len() - first).as_time(None, true)?.into_series())?;
        Ok(all)
    }
}

fn datetimes(text: &StringChunked, unit: TimeUnit) -> PolarsResult<Series> {
    // Without a time zone no time is ambiguous.
    let ambiguous = StringChunked::from_slice("".into(), &["raise"]);
    Ok(text.as_datetime(None, unit, true, false, None, &ambiguous)?.into_series())
}

impl ColumnsUdf for To {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn call_udf(&self, columns: &mut [Column]) -> PolarsResult<Column> {
        let [text] = columns else {
            polars_bail!(ComputeError: "one column is parsed");
        };
        Ok(self.of(text.str()?)?.into_column())
    }
}

impl AnonymousColumnsUdf for To {
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
        let name = fields.first().map_or(PlSmallStr::EMPTY, |field| field.name().clone());
        Ok(Field::new(name, self.dtype()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nulls(dtype: DataType, text: &[Option<&str>]) -> Vec<bool> {
        let frame = df!("s" => text).unwrap().lazy();
        let out = frame.select([parsed(col("s"), &dtype, false).unwrap()]).collect().unwrap();
        assert_eq!(out.dtypes(), [dtype]);
        out.columns()[0].is_null().iter().map(|null| null.unwrap()).collect()
    }

    #[test]
    fn what_is_no_time_is_null() {
        let at = DataType::Datetime(TimeUnit::Microseconds, None);
        assert_eq!(nulls(at.clone(), &[Some("x"), Some("2024-01-01 10:00:00"), None]), [true, false, true]);
        assert_eq!(nulls(at.clone(), &[Some("x"), Some("y")]), [true, true]);
        assert_eq!(nulls(at.clone(), &[Some("2024-01-01T10:00:00Z"), Some("2024-01-01 10:00:00")]), [true, true]);
        assert_eq!(nulls(at.clone(), &[Some("2024-01-01"), Some("02/01/2024")]), [false, true]);
        assert_eq!(nulls(at, &[]), [false; 0]);
        assert_eq!(nulls(DataType::Date, &[None, Some("x")]), [true, true]);
        assert_eq!(nulls(DataType::Date, &[Some("x"), Some("2024-01-31")]), [true, false]);
        assert_eq!(nulls(DataType::Time, &[None, Some("x"), Some("10:11:12"), Some("10")]), [true, true, false, true]);
        assert_eq!(nulls(DataType::Time, &[Some("x")]), [true]);
        assert!(parsed(col("s"), &DataType::Int64, false).is_none());
    }

    #[test]
    fn what_is_no_date_is_an_error_where_it_is_to_be_one() {
        let dates = |text: &[Option<&str>]| {
            let frame = df!("s" => text).unwrap().lazy();
            frame.select([parsed(col("s"), &DataType::Date, true).unwrap()]).collect()
        };
        assert_eq!(dates(&[None, Some("2024-01-31")]).unwrap().columns()[0].null_count(), 1);
        assert_eq!(dates(&[None]).unwrap().columns()[0].null_count(), 1);
        assert!(dates(&[Some("x")]).is_err() && dates(&[Some("2024-01-31"), Some("x")]).is_err());
        let at = DataType::Datetime(TimeUnit::Microseconds, None);
        assert!(parsed(col("s"), &at, true).is_none());
    }

    #[test]
    fn the_function_travels() {
        for to in ALL {
            let mut bytes = vec![];
            to.function().materialize().unwrap().try_serialize(&mut bytes).unwrap();
            assert!(read(&bytes).unwrap() == to.function());
        }
        assert!(read(b"floe-parsed:\x07").is_none());
    }
}
