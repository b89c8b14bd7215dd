//! The product of two decimals with the scale that the newer Polars gives it. The engine's own products keep the scale of
//! their sides: both would be cast to the scale of the result, and each product be divided by a power of ten. Here integers
//! are multiplied in one pass where that is exact, which is wherever the result has the digits of both sides.

use std::any::Any;
use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use polars_core::chunked_array::ops::arity::broadcast_binary_elementwise_values;
use polars_core::prelude::*;
use polars_plan::dsl::{AnonymousColumnsUdf, ColumnsUdf, Expr, LazySerde, OpaqueColumnUdf, SpecialEq};
use polars_plan::prelude::FunctionOptions;

const PRECISION: usize = 38;
/// First bytes of a product in a fragment. The scale follows.
pub const MAGIC: &[u8] = b"floe-decimal-product:";
/// How a product is shown in plans.
pub const SHOWN: &str = "decimal_mul";

struct Product {
    scale: usize,
}

/// `left * right` as a decimal of this scale.
pub fn product(left: Expr, right: Expr, scale: usize) -> Option<Expr> {
    Some(Expr::AnonymousFunction {
        input: vec![left, right],
        function: of_scale(scale)?,
        options: FunctionOptions::elementwise(),
        fmt_str: Box::new(PlSmallStr::from_static(SHOWN)),
    })
}

/// The function in the bytes of a fragment, if they are a product.
pub fn read(bytes: &[u8]) -> Option<OpaqueColumnUdf> {
    match bytes.strip_prefix(MAGIC)? {
        [scale] => of_scale(usize::from(*scale)),
        _ => None,
    }
}

/// One function for each scale, because plans compare functions by address.
fn of_scale(scale: usize) -> Option<OpaqueColumnUdf> {
    static ALL: [OnceLock<Arc<Product>>; PRECISION + 1] = [const { OnceLock::new() }; PRECISION + 1];
    let one: Arc<dyn AnonymousColumnsUdf> = ALL.get(scale)?.get_or_init(|| Arc::new(Product { scale })).clone();
    Some(LazySerde::Deserialized(SpecialEq::new(one)))
}

impl Product {
    fn dtype(&self) -> DataType {
        DataType::Decimal(PRECISION, self.scale)
    }

    fn of(&self, left: &Series, right: &Series) -> PolarsResult<Series> {
        match self.exact(left, right)? {
            Some(product) => Ok(product),
            // Rounds, or fails with the engine's own message.
            None => &left.strict_cast(&self.dtype())? * &right.strict_cast(&self.dtype())?,
        }
    }

    /// `None` where the result has fewer digits than both sides have, or does not fit.
    fn exact(&self, left: &Series, right: &Series) -> PolarsResult<Option<Series>> {
        let (Some((left, left_scale)), Some((right, right_scale))) = (units(left)?, units(right)?) else {
            return Ok(None);
        };
        if left_scale + right_scale != self.scale {
            return Ok(None);
        }
        let fits = Cell::new(true);
        let product: Int128Chunked = broadcast_binary_elementwise_values(&left, &right, |a: i128, b: i128| {
            if let (Ok(a), Ok(b)) = (i64::try_from(a), i64::try_from(b)) {
                return i128::from(a) * i128::from(b);
            }
            // Where a side is null its number may be anything; what fails here is then computed again.
            let product = a.checked_mul(b).filter(|product| product.unsigned_abs() < 10u128.pow(PRECISION as u32));
            fits.set(fits.get() && product.is_some());
            product.unwrap_or(0)
        });
        Ok(fits.get().then(|| product.into_decimal_unchecked(PRECISION, self.scale).into_series()))
    }
}

/// The unscaled numbers of a decimal or integer, and their scale.
fn units(series: &Series) -> PolarsResult<Option<(Int128Chunked, usize)>> {
    Ok(match series.dtype() {
        DataType::Decimal(_, scale) => Some((series.decimal()?.physical().clone(), *scale)),
        dtype if dtype.is_integer() => Some((series.strict_cast(&DataType::Int128)?.i128()?.clone(), 0)),
        _ => None,
    })
}

/// A column's values; one value for all that are equal.
fn values(column: &Column) -> Series {
    match column.as_scalar_column() {
        Some(scalar) if !scalar.is_empty() => scalar.as_single_value_series(),
        _ => column.as_materialized_series().clone(),
    }
}

impl ColumnsUdf for Product {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn call_udf(&self, columns: &mut [Column]) -> PolarsResult<Column> {
        let [left, right] = columns else {
            polars_bail!(ComputeError: "a product has two sides");
        };
        let height = if left.len() == 1 { right.len() } else { left.len() };
        let product = self.of(&values(left), &values(right))?.with_name(left.name().clone());
        Ok(if product.len() == height {
            product.into_column()
        } else {
            product.into_column().new_from_index(0, height)
        })
    }
}

impl AnonymousColumnsUdf for Product {
    fn as_column_udf(self: Arc<Self>) -> Arc<dyn ColumnsUdf> {
        self
    }

    fn deep_clone(self: Arc<Self>) -> Arc<dyn AnonymousColumnsUdf> {
        self
    }

    fn try_serialize(&self, out: &mut Vec<u8>) -> PolarsResult<()> {
        out.extend_from_slice(MAGIC);
        out.push(self.scale as u8);
        Ok(())
    }

    fn get_field(&self, _: &Schema, fields: &[Field]) -> PolarsResult<Field> {
        let name = fields.first().map_or(PlSmallStr::EMPTY, |field| field.name().clone());
        Ok(Field::new(name, self.dtype()))
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    use super::{product, read};

    fn decimals(name: &str, values: &[Option<i128>], scale: usize) -> Column {
        let values = Int128Chunked::from_iter_options(name.into(), values.iter().copied());
        values.into_decimal(38, scale).unwrap().into_series().into_column()
    }

    /// The product by the engine's own operations.
    fn by_casts(left: Expr, right: Expr, scale: usize) -> Expr {
        let to = DataType::Decimal(38, scale);
        left.strict_cast(to.clone()) * right.strict_cast(to)
    }

    #[test]
    fn products_are_those_of_the_engine_at_the_same_scale() {
        let big = 10i128.pow(18) + 7;
        let left = [Some(12345), None, Some(-99), Some(0), Some(big), Some(-big), Some(i128::from(i64::MIN))];
        let right = [Some(-5), Some(3), None, Some(7), Some(99), Some(big), Some(i128::from(i64::MAX))];
        let frame = DataFrame::new(7, vec![decimals("a", &left, 2), decimals("b", &right, 3)]).unwrap().lazy();
        let one = || lit(7).cast(DataType::Decimal(38, 1));
        for (left, right, scales) in [
            (col("a"), col("b"), [5, 4, 3]),
            (col("b"), one(), [4, 3, 6]),
            (one(), col("a"), [3, 2, 4]),
            (one(), one(), [2, 1, 3]),
        ] {
            for scale in scales {
                let got = product(left.clone(), right.clone(), scale).unwrap();
                let want = by_casts(left.clone(), right.clone(), scale);
                let both = frame.clone().select([got.alias("got"), want.alias("want")]).collect();
                let Ok(both) = both else {
                    // What overflows does so in both.
                    let of = |expr: Expr| frame.clone().select([expr]).collect().is_err();
                    assert!(of(product(left.clone(), right.clone(), scale).unwrap()), "{scale}");
                    assert!(of(by_casts(left.clone(), right.clone(), scale)), "{scale}");
                    continue;
                };
                let [got, want] = ["got", "want"].map(|name| both.column(name).unwrap().as_materialized_series());
                assert_eq!(got.dtype(), &DataType::Decimal(38, scale));
                assert!(got.equals_missing(want), "{scale}: {both}");
            }
        }
    }

    #[test]
    fn nothing_times_something_is_nothing() {
        let frame = DataFrame::new(0, vec![decimals("a", &[], 2)]).unwrap().lazy();
        let out = frame.select([product(col("a"), col("a"), 4).unwrap()]).collect().unwrap();
        assert_eq!((out.height(), out.dtypes()), (0, vec![DataType::Decimal(38, 4)]));
    }

    #[test]
    fn a_product_is_one_function_also_after_the_wire() {
        let Expr::AnonymousFunction { function, .. } = product(col("a"), col("b"), 4).unwrap() else { panic!() };
        let mut bytes = vec![];
        function.clone().materialize().unwrap().try_serialize(&mut bytes).unwrap();
        assert!(read(&bytes).unwrap() == function);
        assert!(product(col("a"), col("b"), 4) == product(col("a"), col("b"), 4));
        assert!(read(b"floe-decimal-product:").is_none() && product(col("a"), col("b"), 39).is_none());
    }
}
