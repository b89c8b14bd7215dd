//! What ends a command early, and how it is told. A query's own failure comes from the coordinator with its category;
//! everything else is found here before a process starts.

use std::path::PathBuf;
use std::process::ExitCode;

use floe_api::FieldError;

/// Exit codes that are not a query's own; those are the coordinator's.
pub const USER: u8 = 2;
pub const IO: u8 = 3;
pub const INTERNAL: u8 = 70;
pub const CANCELLED: u8 = 130;

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
    /// What the API server said, or that it said nothing.
    #[error("{0}")]
    Cluster(String),
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Failure::Io { what: what.into(), source }
    }

    pub fn code(&self) -> u8 {
        match self {
            Failure::Spec { .. } | Failure::Read { .. } | Failure::Usage(_) => USER,
            Failure::Io { .. } | Failure::Cluster(_) => IO,
            Failure::NoRunner(_) | Failure::Internal(_) => INTERNAL,
        }
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    pub fn category(&self) -> &'static str {
        match self.code() {
            USER => "user",
            IO => "io",
            _ => "internal",
        }
    }

    /// The whole message: for a spec, every fault on a line of its own.
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
