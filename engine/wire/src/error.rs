//! What can go wrong with a query, typed where it happens and never reduced to a string: the category decides
//! whether a task is tried again, the class and message are what the user reads.

use serde::{Deserialize, Serialize};

/// Bounded set: metric labels, condition reasons and exit codes are made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Category {
    /// The plan, the spec or the data do not allow it: never retried.
    User,
    /// A file or store did not answer or answered wrongly: retried with backoff within a budget.
    Io,
    /// A worker went away with the task or with outputs that are needed.
    LostWorker,
    /// The task ran out of memory: retried alone on a worker, with smaller partitions where possible.
    OutOfMemory,
    /// `activeDeadlineSeconds` passed.
    Deadline,
    /// The user asked for it.
    Cancelled,
    /// A fault of Floe's own.
    Internal,
}

impl Category {
    pub fn as_str(self) -> &'static str {
        match self {
            Category::User => "user",
            Category::Io => "io",
            Category::LostWorker => "lost-worker",
            Category::OutOfMemory => "out-of-memory",
            Category::Deadline => "deadline",
            Category::Cancelled => "cancelled",
            Category::Internal => "internal",
        }
    }

    /// The exit code of `floe run` and of the coordinator.
    pub fn exit_code(self) -> u8 {
        match self {
            Category::User => 2,
            Category::Io => 3,
            Category::LostWorker => 4,
            Category::OutOfMemory => 5,
            Category::Deadline => 6,
            Category::Cancelled => 130,
            Category::Internal => 70,
        }
    }
}

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
