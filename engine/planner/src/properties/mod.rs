//! Tracks what is known of relations and expressions: where rows are and in what order (`rel`), which expressions are
//! row-wise (`expr`), which columns rise, what may differ from run to run, which functions can be split over tasks.

pub(crate) mod categories;
pub(crate) mod expr;
pub(crate) mod rel;
pub(crate) mod repeat;
pub(crate) mod rising;
pub(crate) mod rounding;
pub(crate) mod running;
