//! The database's and the network's errors as the engine's: the category decides whether a task is tried again.

use std::error::Error as _;

use floe_wire::error::{Category, QueryError};
use tokio_postgres::error::{DbError, SqlState};
use tokio_rustls::rustls;

/// The class of what the database itself says.
const CLASS: &str = "DatabaseError";

/// An error of the client while `doing` ("connecting to …", "reading …").
pub(crate) fn of(error: &tokio_postgres::Error, doing: &str) -> QueryError {
    if let Some(said) = error.as_db_error() {
        return of_database(said, doing);
    }
    let mut text = format!("{doing}: {error}");
    let mut next = error.source();
    let mut category = Category::Io;
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        if is_certificate(cause) {
            category = Category::User;
        }
        next = cause.source();
    }
    let class = if category == Category::User { CLASS } else { "IOError" };
    QueryError::new(category, class, text)
}

/// A certificate that is not accepted stays so.
fn is_certificate(cause: &(dyn std::error::Error + 'static)) -> bool {
    let inner = cause.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
    let tls = cause.downcast_ref::<rustls::Error>().or_else(|| inner.and_then(|inner| inner.downcast_ref()));
    matches!(tls, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

fn of_database(said: &DbError, doing: &str) -> QueryError {
    let mut text = format!("{doing}: {} (SQLSTATE {})", said.message(), said.code().code());
    for more in [said.detail(), said.hint()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(more);
    }
    let category = category(said.code());
    QueryError::new(category, if category == Category::Io { "IOError" } else { CLASS }, text)
}

/// By the class of the SQLSTATE: what the server could not do now is tried again, everything else is the query's or
/// the data's fault.
fn category(code: &SqlState) -> Category {
    // A timeout of the server's own, or an administrator who cancels the statement: both would be met again.
    if *code == SqlState::QUERY_CANCELED {
        return Category::User;
    }
    match code.code().get(..2) {
        // Connection exception, transaction rollback (conflicts on a standby), insufficient resources, operator intervention,
        // system error.
        Some("08" | "40" | "53" | "57" | "58") => Category::Io,
        _ => Category::User,
    }
}

/// Whether the server may let a connection in a little later.
pub(crate) fn is_busy(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| *code == SqlState::TOO_MANY_CONNECTIONS || *code == SqlState::CANNOT_CONNECT_NOW)
}

/// A fault of the spec, in the field as the table has it.
pub(crate) fn spec(field: &str, text: impl std::fmt::Display) -> QueryError {
    QueryError::user("BadSpec", format!("{field}: {text}"))
}

/// Bytes that are not what the protocol says.
pub(crate) fn protocol(text: impl std::fmt::Display) -> QueryError {
    QueryError::io(format!("reading rows from PostgreSQL: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (code, expected) in [
            (SqlState::TOO_MANY_CONNECTIONS, Category::Io),
            (SqlState::ADMIN_SHUTDOWN, Category::Io),
            (SqlState::T_R_SERIALIZATION_FAILURE, Category::Io),
            (SqlState::CONNECTION_FAILURE, Category::Io),
            (SqlState::QUERY_CANCELED, Category::User),
            (SqlState::UNDEFINED_COLUMN, Category::User),
            (SqlState::INVALID_PASSWORD, Category::User),
            (SqlState::DIVISION_BY_ZERO, Category::User),
        ] {
            assert_eq!(category(&code), expected, "{code:?}");
        }
    }
}
