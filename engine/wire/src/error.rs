//! What can go wrong with a query, typed where it happens and never reduced to a string: the category decides
//! whether a task is tried again, the class and message are what the user reads.

use serde::{Deserialize, Serialize};

pub use floe_api::report::Category;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    pub category: Category,
    /// Polars' error class as Python names it (`ColumnNotFoundError`, `ComputeError`, …), or a Floe reason (`BadSpec`).
    pub class: String,
    pub message: String,
}

impl QueryError {
    pub fn new(category: Category, class: impl Into<String>, message: impl Into<String>) -> Self {
        Self { category, class: class.into(), message: message.into() }
    }
    pub fn user(class: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Category::User, class, message)
    }
    pub fn io(message: impl Into<String>) -> Self {
        Self::new(Category::Io, "IOError", message)
    }
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Category::Internal, "InternalError", message)
    }
}

pub type Result<T, E = QueryError> = std::result::Result<T, E>;
