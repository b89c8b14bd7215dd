//! Errors of a catalog in the words of a user: which catalog, what it said, what to do.

use std::error::Error;

use floe_wire::error::{QueryError, Result};
use reqwest_tls::Url;
use serde::Deserialize;
use serde_json::Value;

use crate::auth::Credentials;
use crate::http::Answer;

/// Characters of a server's message that are repeated.
const SAID: usize = 500;

/// An address without its query.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// An error and what caused it.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(source) = at {
        let cause = source.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        at = source.source();
    }
    text
}

/// No answer.
pub fn silent(name: &str, url: &Url, error: &reqwest_tls::Error) -> QueryError {
    // The innermost cause says what happened; those around it say where, which is told already.
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let why = match error.is_timeout() {
        true => "did not answer in time".to_owned(),
        false => format!("does not answer: {cause}"),
    };
    QueryError::io(format!("catalog {name}: {} {why}", shown(url)))
}

pub fn no_token(name: &str, url: &Url, why: &str) -> QueryError {
    QueryError::io(format!("catalog {name}: no token of {}: {why}", shown(url)))
}

pub fn token_refused(name: &str, url: &Url, status: u16, body: &[u8]) -> QueryError {
    let message = format!(
        "catalog {name}: {} gives no token for the client credentials (credential): {}",
        shown(url),
        Said::of(body).with_status(status)
    );
    match status {
        429 | 500.. => QueryError::io(message),
        _ => QueryError::user("PermissionError", message),
    }
}

/// What a server says of an error.
pub struct Said {
    /// `NoSuchTableException` and the like; may be empty.
    pub kind: String,
    message: String,
}

impl Said {
    pub fn of(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Envelope {
            error: Value,
            #[serde(default)]
            error_description: Option<String>,
        }
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, message) = match serde_json::from_slice::<Envelope>(body) {
            Ok(Envelope { error: Value::String(kind), error_description }) => {
                (kind, error_description.unwrap_or_default())
            }
            Ok(Envelope { error, .. }) => (text(error.get("type")), text(error.get("message"))),
            Err(_) => {
                let text = String::from_utf8_lossy(body);
                let is_page = text.trim_start().starts_with('<');
                (String::new(), if is_page { String::new() } else { text.into_owned() })
            }
        };
        let line: String = message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SAID).collect();
        Self { kind, message: line }
    }

    pub fn with_status(&self, status: u16) -> String {
        let parts = [format!("HTTP {status}"), self.kind.clone(), self.message.clone()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
    }
}

/// An answer that is no success. `what`: what was asked for.
pub fn refused(name: &str, credentials: &Credentials, what: &str, answer: &Answer) -> QueryError {
    let said = Said::of(&answer.body).with_status(answer.status);
    match answer.status {
        401 | 419 => QueryError::user(
            "PermissionError",
            format!("catalog {name}: {what}: it does not accept the credentials: {said}; {}", credentials.described()),
        ),
        403 => QueryError::user(
            "PermissionError",
            format!("catalog {name}: {what}: the credentials do not allow it: {said}; {}", credentials.described()),
        ),
        429 | 500.. => QueryError::io(format!("catalog {name}: {what}: {said}")),
        _ => QueryError::user("CatalogError", format!("catalog {name}: {what}: {said}")),
    }
}

/// Reads an answer.
pub fn parse<'a, T: Deserialize<'a>>(name: &str, what: &str, body: &'a [u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("catalog {name}: {what}: its answer cannot be understood: {error}");
        QueryError::user("BadCatalog", message)
    })
}

/// Reads a table's metadata. `what` names the catalog and the table.
pub fn parse_metadata<'a, T: Deserialize<'a>>(what: &str, metadata: &'a [u8]) -> Result<T> {
    serde_json::from_slice(metadata)
        .map_err(|error| QueryError::user("BadCatalog", format!("{what}: its metadata cannot be understood: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_becomes_one_line() {
        let said = |body: &str, status| Said::of(body.as_bytes()).with_status(status);
        let body = r#"{"error":{"message":"Table does not\n exist: a.b","type":"NoSuchTableException","code":404}}"#;
        assert_eq!(said(body, 404), "HTTP 404: NoSuchTableException: Table does not exist: a.b");
        let body = r#"{"error":"invalid_client","error_description":"unknown client"}"#;
        assert_eq!(said(body, 401), "HTTP 401: invalid_client: unknown client");
        assert_eq!(said("<html>Bad gateway</html>", 502), "HTTP 502");
        assert_eq!(said("nope", 400), "HTTP 400: nope");
        assert_eq!(said("", 400), "HTTP 400");
        assert!(said(&"x".repeat(10_000), 400).len() < 600);
    }

    #[test]
    fn an_address_is_shown_without_its_query() {
        assert_eq!(shown(&Url::parse("https://c/v1/config?warehouse=w#x").unwrap()), "https://c/v1/config");
    }
}
