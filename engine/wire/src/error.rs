//! What can go wrong with a query, typed where it happens and never reduced to a string: the category decides
//! whether a task is tried again, the class and message are what the user reads.

use serde::{Deserialize, Serialize};

pub use floe_api::report::Category;

use crate::chunk::OutputId;

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

/// How an attempt at a task ends without an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TaskError {
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Outputs of earlier tasks cannot be read: they are made again, then the task is retried.
    #[error("{message}")]
    Lost { outputs: Vec<OutputId>, message: String },
}

impl TaskError {
    pub fn category(&self) -> Category {
        match self {
            TaskError::Query(error) => error.category,
            TaskError::Lost { .. } => Category::LostWorker,
        }
    }

    /// Polars' error class or a reason of Floe.
    pub fn class(&self) -> &str {
        match self {
            TaskError::Query(error) => &error.class,
            TaskError::Lost { .. } => LOST_OUTPUT,
        }
    }
}

const LOST_OUTPUT: &str = "LostOutput";

/// For readers of a result, who cannot ask for lost outputs to be recomputed.
impl From<TaskError> for QueryError {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Query(error) => error,
            TaskError::Lost { outputs: _, message } => QueryError::new(Category::LostWorker, LOST_OUTPUT, message),
        }
    }
}

pub type Result<T, E = QueryError> = std::result::Result<T, E>;
