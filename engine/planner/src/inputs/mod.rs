//! Cuts what a query reads into the units that tasks read: files, row groups, slices of frames, ranges of a key.

pub(crate) mod estimate;
pub(crate) mod leaves;
pub(crate) mod ranges;
