//! Which rows of a scan are not deleted, by their numbers: Delta's deletion vectors and Iceberg's position deletes.

use std::any::Any;
use std::sync::Arc;

use polars_core::prelude::*;
use polars_plan::dsl::{AnonymousColumnsUdf, ColumnsUdf, Expr, LazySerde, OpaqueColumnUdf, SpecialEq};
use polars_plan::prelude::FunctionOptions;
use roaring::RoaringBitmap;

/// First bytes of the function in a fragment. The bitmap follows.
pub const MAGIC: &[u8] = b"floe-not-deleted:";
/// How it is shown in plans.
pub const SHOWN: &str = "not_deleted";

struct NotDeleted {
    deleted: RoaringBitmap,
}

/// Whether the row with this number is not among the deleted ones.
pub fn not_deleted(number: Expr, deleted: RoaringBitmap) -> Expr {
    Expr::AnonymousFunction {
        input: vec![number],
        function: of(deleted),
        options: FunctionOptions::elementwise(),
        fmt_str: Box::new(PlSmallStr::from_static(SHOWN)),
    }
}

/// The function in the bytes of a fragment, if they are this one.
pub fn read(bytes: &[u8]) -> Option<OpaqueColumnUdf> {
    RoaringBitmap::deserialize_from(bytes.strip_prefix(MAGIC)?).ok().map(of)
}

fn of(deleted: RoaringBitmap) -> OpaqueColumnUdf {
    let function: Arc<dyn AnonymousColumnsUdf> = Arc::new(NotDeleted { deleted });
    LazySerde::Deserialized(SpecialEq::new(function))
}

impl ColumnsUdf for NotDeleted {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn call_udf(&self, columns: &mut [Column]) -> PolarsResult<Column> {
        let [numbers] = columns else {
            polars_bail!(ComputeError: "{SHOWN} takes the numbers of rows");
        };
        let name = numbers.name().clone();
        let kept = numbers.idx()?.iter().map(|number| number.map(|number| !self.deleted.contains(number)));
        Ok(BooleanChunked::from_iter_options(name, kept).into_column())
    }
}

impl AnonymousColumnsUdf for NotDeleted {
    fn as_column_udf(self: Arc<Self>) -> Arc<dyn ColumnsUdf> {
        self
    }

    fn deep_clone(self: Arc<Self>) -> Arc<dyn AnonymousColumnsUdf> {
        self
    }

    fn try_serialize(&self, out: &mut Vec<u8>) -> PolarsResult<()> {
        out.extend_from_slice(MAGIC);
        self.deleted.serialize_into(out).map_err(PolarsError::from)
    }

    fn get_field(&self, _: &Schema, fields: &[Field]) -> PolarsResult<Field> {
        let name = fields.first().map_or(PlSmallStr::EMPTY, |field| field.name().clone());
        Ok(Field::new(name, DataType::Boolean))
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;
    use roaring::RoaringBitmap;

    use super::{not_deleted, read};

    #[test]
    fn rows_are_kept_by_their_numbers_also_after_the_wire() {
        let expr = not_deleted(col("n"), RoaringBitmap::from([1, 70_000]));
        let frame = df!("n" => [0u32, 1, 2, 70_000, 70_001]).unwrap().lazy();
        let kept = frame.clone().filter(expr.clone()).collect().unwrap();
        assert_eq!(kept.column("n").unwrap().u32().unwrap().to_vec(), [Some(0), Some(2), Some(70_001)]);

        let Expr::AnonymousFunction { input, function, options, fmt_str } = expr else { panic!() };
        let mut bytes = vec![];
        function.materialize().unwrap().try_serialize(&mut bytes).unwrap();
        let again = Expr::AnonymousFunction { input, function: read(&bytes).unwrap(), options, fmt_str };
        assert!(frame.filter(again).collect().unwrap().equals(&kept));
        assert!(read(b"floe-not-deleted:x").is_none());
    }
}
