//! Tables that are written and read back.
