//! The engine's own functions in plans: what Polars has no expression for and SQL or tables need. They travel as a mark
//! and their arguments, and compute the same each time.

use polars_plan::dsl::OpaqueColumnUdf;

use crate::crossing::{bounded, gauss, parsed, product};
use crate::lake::deleted;
use crate::lake::write::bucket;
use crate::msgpack::Node;

/// The function in the bytes of a plan or fragment, if they are one of the engine's own.
pub(crate) fn read(bytes: &[u8]) -> Option<OpaqueColumnUdf> {
    let all = [product::read, bounded::read, gauss::read, parsed::read, deleted::read, bucket::read];
    all.into_iter().find_map(|read| read(bytes))
}

/// Whether the function of an expression in a plan's document is one of the engine's own. Those in documents come from
/// plans that were written again after their SQL was resolved.
pub(crate) fn is(function: Option<&Node<'_>>) -> bool {
    let begins_with = |mark: &[u8]| function.and_then(|f| f.head_bytes(mark.len())).is_some_and(|head| head == mark);
    [product::MAGIC, bounded::MAGIC, gauss::MAGIC, parsed::MAGIC].into_iter().any(begins_with)
}

/// Whether a function that is shown so in plans is one of the engine's own.
pub fn is_shown(shown: &str) -> bool {
    [product::SHOWN, bounded::SHOWN, gauss::SHOWN, parsed::SHOWN, deleted::SHOWN, bucket::SHOWN].contains(&shown)
}
