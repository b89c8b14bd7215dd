//! Converts errors of stores: "not found" and "denied" are user errors that name the URI; all others can be retried.

use std::{io, path::Path};

use floe_wire::error::QueryError;

/// `uri` must not contain secrets (see `display_uri`).
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
        other => by_status(uri, &chain(other)),
    }
}

/// For some requests, above all lists, the server's answer is only text. Use only its code and message: the rest may
/// repeat the request, with key ids and signatures.
fn by_status(uri: &str, text: &str) -> QueryError {
    let Some((_, answer)) = text.split_once("status code: ") else {
        return QueryError::io(format!("{uri}: {}", text.split("<?xml").next().unwrap_or(text)));
    };
    let status: u16 = answer.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let tag = |name: &str| {
        let inside = answer.split_once(&format!("<{name}>"))?.1.split_once(&format!("</{name}>"))?.0;
        Some(inside.to_owned())
    };
    let said = match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) => format!("HTTP {status}, {code}: {message}"),
        (Some(code), None) => format!("HTTP {status}, {code}"),
        _ => format!("HTTP {status}"),
    };
    match status {
        401 | 403 => denied(uri, said),
        404 => not_found(uri),
        _ => QueryError::io(format!("{uri}: {said}")),
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

/// An error with its sources, since the outer one often only says that a request failed.
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

#[cfg(test)]
mod tests {
    use super::*;
    use floe_wire::error::Category;

    #[test]
    fn errors_follow_the_status_and_hide_the_request() {
        let text = "Server returned non-2xx status code: 403 Forbidden: <?xml?><Error><Code>SignatureDoesNotMatch</Code>\
                    <Message>no</Message><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>";
        let error = by_status("s3://b/x", text);
        assert_eq!((error.category, error.class.as_str()), (Category::User, "PermissionError"));
        assert_eq!(error.message, "s3://b/x: access denied (HTTP 403, SignatureDoesNotMatch: no)");
        assert_eq!(by_status("u", "status code: 404 Not Found").class, "FileNotFoundError");
        assert_eq!(by_status("u", "status code: 503 Slow Down").category, Category::Io);
        assert_eq!(by_status("u", "connection refused").message, "u: connection refused");
    }
}
