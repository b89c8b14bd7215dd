//! The error function and its complement, which the engine lacks: element by element, in double precision.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use polars::prelude::*;
use polars_plan::dsl::{AnonymousColumnsUdf, ColumnsUdf, Expr, LazySerde, OpaqueColumnUdf, SpecialEq};
use polars_plan::prelude::FunctionOptions;

/// First bytes of such a function in a fragment. Its number follows.
pub const MAGIC: &[u8] = b"floe-gauss:";
/// How it is shown in plans.
pub const SHOWN: &str = "gauss";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gauss {
    Erf,
    Erfc,
}

const ALL: [Gauss; 2] = [Gauss::Erf, Gauss::Erfc];

/// The function in the bytes of a fragment, if they are one.
pub fn read(bytes: &[u8]) -> Option<OpaqueColumnUdf> {
    match bytes.strip_prefix(MAGIC)? {
        [at] => ALL.get(usize::from(*at)).map(|gauss| gauss.function()),
        _ => None,
    }
}

impl Gauss {
    pub fn of(self, number: Expr) -> Expr {
        Expr::AnonymousFunction {
            input: vec![number],
            function: self.function(),
            options: FunctionOptions::elementwise(),
            fmt_str: Box::new(PlSmallStr::from_static(SHOWN)),
        }
    }

    /// One function for each, because plans compare functions by address.
    fn function(self) -> OpaqueColumnUdf {
        static FUNCTIONS: [OnceLock<Arc<Gauss>>; ALL.len()] = [const { OnceLock::new() }; ALL.len()];
        let one: Arc<dyn AnonymousColumnsUdf> = FUNCTIONS[self as usize].get_or_init(|| Arc::new(self)).clone();
        LazySerde::Deserialized(SpecialEq::new(one))
    }

    fn at(self, x: f64) -> f64 {
        match self {
            Gauss::Erf => libm::erf(x),
            Gauss::Erfc => libm::erfc(x),
        }
    }
}

/// Single precision stays, all other numbers become doubles.
fn dtype_for(input: &DataType) -> DataType {
    match input {
        DataType::Float32 => DataType::Float32,
        _ => DataType::Float64,
    }
}

impl ColumnsUdf for Gauss {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn call_udf(&self, columns: &mut [Column]) -> PolarsResult<Column> {
        let [column] = columns else {
            polars_bail!(ComputeError: "the error function has one argument");
        };
        let numbers = column.as_materialized_series().strict_cast(&DataType::Float64)?;
        let values = numbers.f64()?.apply_values(|x| self.at(x));
        Ok(values.into_series().strict_cast(&dtype_for(column.dtype()))?.into_column())
    }
}

impl AnonymousColumnsUdf for Gauss {
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
        let [field] = fields else {
            polars_bail!(ComputeError: "the error function has one argument");
        };
        Ok(Field::new(field.name().clone(), dtype_for(field.dtype())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_and_types() {
        let frame = df!("x" => [Some(1.0), None, Some(f64::INFINITY), Some(-0.5)], "i" => [1, 0, -2, 3]).unwrap();
        let exprs = [
            Gauss::Erf.of(col("x")),
            Gauss::Erfc.of(col("x")).alias("c"),
            Gauss::Erf.of(col("x").cast(DataType::Float32)).alias("s"),
            Gauss::Erf.of(col("i")).alias("i"),
        ];
        let out = frame.lazy().select(exprs).collect().unwrap();
        assert_eq!(out.dtypes(), [DataType::Float64, DataType::Float64, DataType::Float32, DataType::Float64]);
        let got: Vec<Option<f64>> = out.column("x").unwrap().f64().unwrap().iter().collect();
        assert_eq!((got[0], got[1], got[2]), (Some(0.842_700_792_949_714_9), None, Some(1.0)));
        assert!((got[3].unwrap() + 0.520_499_877_813_046_5).abs() < 1e-15);
        assert_eq!(out.column("c").unwrap().f64().unwrap().get(2), Some(0.0));
    }

    #[test]
    fn the_function_travels() {
        for gauss in ALL {
            let mut bytes = vec![];
            gauss.function().materialize().unwrap().try_serialize(&mut bytes).unwrap();
            assert!(read(&bytes).unwrap() == gauss.function());
        }
        assert!(read(b"floe-gauss:\x02").is_none());
    }
}
