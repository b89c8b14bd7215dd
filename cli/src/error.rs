//! Errors of a command, and how they are printed. A failed query comes from the coordinator with its category; all
//! other errors are found here before a process starts.

use std::path::PathBuf;
use std::process::ExitCode;

use floe_api::FieldError;
use floe_api::report::Category;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{what} is not a valid query")]
    Spec { what: String, faults: Vec<FieldError> },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Usage(String),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("floe-runner is not where floe looks for it: {0}")]
    NoRunner(String),
    /// The API server returned an error, or does not answer.
    #[error("{0}")]
    Cluster(String),
    /// Credentials or rights are missing.
    #[error("{0}")]
    Denied(String),
    /// A query, or something of it, that does not exist on the cluster (any more).
    #[error("{0}")]
    Missing(String),
    /// The client stopped waiting; what it waited for continues.
    #[error("{0}")]
    Waited(String),
    #[error("{message}")]
    Catalog { message: String, category: Category },
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Failure::Io { what: what.into(), source }
    }

    pub fn category(&self) -> Category {
        match self {
            Failure::Spec { .. } | Failure::Read { .. } | Failure::Usage(_) | Failure::Missing(_) => Category::User,
            Failure::Io { .. } | Failure::Cluster(_) | Failure::Denied(_) => Category::Io,
            Failure::Waited(_) => Category::Deadline,
            Failure::NoRunner(_) | Failure::Internal(_) => Category::Internal,
            Failure::Catalog { category, .. } => *category,
        }
    }

    pub fn code(&self) -> u8 {
        self.category().exit_code()
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// The whole message; for an invalid spec, with one line per fault.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.to_string()];
        if let Failure::Spec { faults, .. } = self {
            lines.extend(faults.iter().map(|fault| format!("  {fault}")));
        }
        lines
    }

    pub fn print(&self) {
        crate::print::err(format_args!("error: {}", self.lines().join("\n")));
    }
}
