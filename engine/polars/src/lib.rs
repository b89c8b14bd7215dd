//! Shared by all crates that use Polars: conversion of errors and panics to `QueryError`s, warnings, and frames as IPC.

mod carried;
mod errors;
mod frames;
pub mod warnings;

pub use errors::{contain_panics, io_error, on_big_stack, panics_as_polars, polars_error};
pub use frames::{concat_frames, frame_from_ipc, frame_from_stream, frame_to_ipc, write_ipc, write_stream};
