//! What a store said, as the user reads it: not found and denied are the user's to mend and name the URI, the rest is
//! tried again.

use std::{io, path::Path};

use crate::error::QueryError;

/// `uri` must hold no secrets (see `display_uri`).
pub fn object_error(uri: &str, error: &object_store::Error) -> QueryError {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => not_found(uri),
        E::PermissionDenied { .. } => denied(uri, "the credentials do not allow it"),
        E::Unauthenticated { .. } => denied(uri, "the credentials are missing or not valid"),
        E::InvalidPath { source } => QueryError::user("BadUri", format!("{uri}: {source}")),
        E::UnknownConfigurationKey { key, .. } => {
            QueryError::user("BadStorage", format!("{uri}: unknown storage option '{key}'"))
        }
        // The client's text can name the address of a server, never a key.
        other => QueryError::io(format!("{uri}: {}", chain(other))),
    }
}

pub fn path_error(path: &Path, error: &io::Error) -> QueryError {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => not_found(&shown.to_string()),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => denied(&shown.to_string(), error),
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            QueryError::user("OSError", format!("{shown}: {error}"))
        }
        _ => QueryError::io(format!("{shown}: {error}")),
    }
}

fn not_found(uri: &str) -> QueryError {
    QueryError::user("FileNotFoundError", format!("{uri}: no such file or directory"))
}

fn denied(uri: &str, why: impl std::fmt::Display) -> QueryError {
    QueryError::user("PermissionError", format!("{uri}: access denied ({why})"))
}

/// An error with its sources, since the outer one often says only that a request failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}
