//! The vocabulary that planner, scheduler, executor and the processes around them share: the stage graph, what a task
//! is given and what it reports, typed errors. Plain data that travels as msgpack; no Polars, no IO.

pub mod catalog;
pub mod check;
pub mod chunk;
pub mod error;
pub mod facts;
pub mod graph;
pub mod task;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use error::{QueryError, Result};

/// Encodes a value for a message.
pub fn pack<T: Serialize>(value: &T) -> Result<Bytes> {
    rmp_serde::to_vec_named(value)
        .map(Bytes::from)
        .map_err(|error| QueryError::internal(format!("cannot encode {}: {error}", std::any::type_name::<T>())))
}

pub fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    rmp_serde::from_slice(bytes)
        .map_err(|error| QueryError::internal(format!("cannot decode {}: {error}", std::any::type_name::<T>())))
}
