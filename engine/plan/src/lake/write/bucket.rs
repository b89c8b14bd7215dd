//! Iceberg's bucket transform: the 32-bit Murmur3 hash of a value's bytes, its sign left out, modulo the number of buckets.

use std::any::Any;
use std::sync::Arc;

use polars_core::prelude::*;
use polars_plan::dsl::{AnonymousColumnsUdf, ColumnsUdf, Expr, LazySerde, OpaqueColumnUdf, SpecialEq};
use polars_plan::prelude::FunctionOptions;

/// First bytes of the function in a fragment. The number of buckets follows.
pub const MAGIC: &[u8] = b"floe-bucket:";
/// How it is shown in plans.
pub const SHOWN: &str = "bucket";

struct Bucket {
    count: u32,
}

/// The bucket of each value.
pub fn bucket(of: Expr, count: u32) -> Expr {
    Expr::AnonymousFunction {
        input: vec![of],
        function: of_count(count),
        options: FunctionOptions::elementwise(),
        fmt_str: Box::new(PlSmallStr::from_static(SHOWN)),
    }
}

/// The function in the bytes of a fragment, if they are this one.
pub fn read(bytes: &[u8]) -> Option<OpaqueColumnUdf> {
    let count = u32::from_le_bytes(bytes.strip_prefix(MAGIC)?.try_into().ok()?);
    (count > 0).then(|| of_count(count))
}

fn of_count(count: u32) -> OpaqueColumnUdf {
    let function: Arc<dyn AnonymousColumnsUdf> = Arc::new(Bucket { count });
    LazySerde::Deserialized(SpecialEq::new(function))
}

impl Bucket {
    fn of(&self, hash: u32) -> i32 {
        // Less than the number of buckets, which users write in decimal digits: it fits.
        ((hash & 0x7fff_ffff) % self.count) as i32
    }
}

impl ColumnsUdf for Bucket {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn call_udf(&self, columns: &mut [Column]) -> PolarsResult<Column> {
        let [values] = columns else {
            polars_bail!(ComputeError: "{SHOWN} takes one column");
        };
        let name = values.name().clone();
        let buckets: Int32Chunked = match values.dtype() {
            DataType::String => values.str()?.iter().map(|v| v.map(|v| self.of(murmur3(v.as_bytes())))).collect(),
            DataType::Binary => values.binary()?.iter().map(|v| v.map(|v| self.of(murmur3(v)))).collect(),
            DataType::Decimal(..) => {
                let unscaled = values.to_physical_repr();
                unscaled.i128()?.iter().map(|v| v.map(|v| self.of(murmur3(shortest(&v.to_be_bytes()))))).collect()
            }
            _ => {
                let numbers = values.to_physical_repr().cast(&DataType::Int64)?;
                numbers.i64()?.iter().map(|v| v.map(|v| self.of(murmur3(&v.to_le_bytes())))).collect()
            }
        };
        Ok(buckets.with_name(name).into_column())
    }
}

impl AnonymousColumnsUdf for Bucket {
    fn as_column_udf(self: Arc<Self>) -> Arc<dyn ColumnsUdf> {
        self
    }

    fn deep_clone(self: Arc<Self>) -> Arc<dyn AnonymousColumnsUdf> {
        self
    }

    fn try_serialize(&self, out: &mut Vec<u8>) -> PolarsResult<()> {
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.count.to_le_bytes());
        Ok(())
    }

    fn get_field(&self, _: &Schema, fields: &[Field]) -> PolarsResult<Field> {
        let name = fields.first().map_or(PlSmallStr::EMPTY, |field| field.name().clone());
        Ok(Field::new(name, DataType::Int32))
    }
}

/// The least bytes that hold a number in two's complement, the most significant first.
fn shortest(bytes: &[u8]) -> &[u8] {
    let redundant =
        |pair: &[u8]| matches!(pair, [0, next] if next & 0x80 == 0) || matches!(pair, [0xff, next] if next & 0x80 != 0);
    let cut = bytes.windows(2).take_while(|pair| redundant(pair)).count();
    &bytes[cut..]
}

/// Murmur3 in its 32-bit form for x86, with seed 0.
fn murmur3(bytes: &[u8]) -> u32 {
    let mix = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = blocks.iter().fold(0u32, |hash, block| {
        (hash ^ mix(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    let rest = tail.iter().rev().fold(0u32, |rest, byte| rest << 8 | u32::from(*byte));
    if !tail.is_empty() {
        hash ^= mix(rest);
    }
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    use super::{bucket, murmur3, read, shortest};

    /// The hashes in the appendix of Iceberg's specification.
    #[test]
    fn hashes_are_those_of_the_specification() {
        assert_eq!(murmur3(&34i64.to_le_bytes()), 2_017_239_379);
        assert_eq!(murmur3(shortest(&1420i128.to_be_bytes())) as i32, -500_754_589);
        assert_eq!(murmur3(&17_486i64.to_le_bytes()) as i32, -653_330_422);
        assert_eq!(murmur3(&1_510_871_468_000_000i64.to_le_bytes()) as i32, -2_047_944_441);
        assert_eq!(murmur3(b"iceberg"), 1_210_000_089);
        assert_eq!(murmur3(&[0, 1, 2, 3]) as i32, -188_683_207);
        assert_eq!(shortest(&[0, 0]), [0]);
        assert_eq!(shortest(&(-1i128).to_be_bytes()), [0xff]);
        assert_eq!(shortest(&128i128.to_be_bytes()), [0, 128]);
    }

    #[test]
    fn buckets_are_the_same_after_the_wire() {
        let rows = df!["n" => [Some(34i64), None], "s" => ["iceberg", ""]].unwrap().lazy();
        let buckets = rows.clone().select([bucket(col("n"), 16), bucket(col("s"), 16)]).collect().unwrap();
        assert_eq!(buckets.column("n").unwrap().i32().unwrap().to_vec(), [Some(3), None]);
        assert_eq!(buckets.column("s").unwrap().i32().unwrap().get(0), Some(9));
        let Expr::AnonymousFunction { input, function, options, fmt_str } = bucket(col("n"), 16) else { panic!() };
        let mut bytes = vec![];
        function.materialize().unwrap().try_serialize(&mut bytes).unwrap();
        let again = Expr::AnonymousFunction { input, function: read(&bytes).unwrap(), options, fmt_str };
        let again = rows.select([again]).collect().unwrap();
        assert_eq!(again.column("n").unwrap().i32().unwrap().to_vec(), [Some(3), None]);
        assert!(read(b"floe-bucket:1").is_none());
    }
}
