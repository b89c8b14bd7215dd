//! Errors about Delta tables. Each names the table and says what to do.

use floe_wire::error::QueryError;

/// The table breaks the protocol, or its files are damaged.
pub fn bad_table(root: &str, what: impl AsRef<str>) -> QueryError {
    let what = what.as_ref();
    QueryError::user(
        "BadTable",
        format!("the Delta table {root} cannot be read: {what}; repair the table, or restore its files from a copy"),
    )
}

/// The table is sound, but uses what Floe does not read.
pub fn unsupported(root: &str, what: impl AsRef<str>, help: &str) -> QueryError {
    let what = what.as_ref();
    QueryError::user("UnsupportedTable", format!("the Delta table {root} cannot be read: {what}; {help}"))
}

/// The table is sound and can be read, but writing to it needs what Floe does not do.
pub fn not_writable(root: &str, what: impl AsRef<str>, help: &str) -> QueryError {
    let what = what.as_ref();
    QueryError::user("UnsupportedTable", format!("the Delta table {root} cannot be written: {what}; {help}"))
}

/// The rows do not fit into the table.
pub fn no_fit(root: &str, what: impl AsRef<str>) -> QueryError {
    let what = what.as_ref();
    QueryError::user("SchemaError", format!("the rows do not fit into the Delta table {root}: {what}"))
}

/// The class of `not_found`.
pub const NOT_FOUND: &str = "TableNotFound";

pub fn not_found(root: &str) -> QueryError {
    QueryError::user(
        NOT_FOUND,
        format!(
            "there is no Delta table at {root}: no commit is in {root}/_delta_log; give the folder that holds \"_delta_log\""
        ),
    )
}

pub fn no_such_version(root: &str, what: impl AsRef<str>, earliest: i64, latest: i64) -> QueryError {
    let what = what.as_ref();
    QueryError::user(
        "NoSuchVersion",
        format!("the Delta table {root} has no {what}; versions {earliest} to {latest} can be read"),
    )
}
