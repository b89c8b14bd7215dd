//! Maps the categories and classes of failures to reasons of the status. Pure.

use floe_api::Reason;
use floe_api::report::{Category, RunError};

/// What a failure means for the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The query is at fault: it fails at once.
    Final(Reason),
    /// It was stopped.
    Stopped,
    /// The infrastructure is at fault: another attempt may succeed.
    Again(Reason),
}

pub fn meaning(error: &RunError, planned: bool) -> Meaning {
    match error.category {
        Category::User => Meaning::Final(user_reason(error, planned)),
        Category::Io => Meaning::Final(store_reason(&error.message).unwrap_or(Reason::StorageFailed)),
        Category::OutOfMemory => Meaning::Final(Reason::OutOfMemory),
        Category::Deadline => Meaning::Final(Reason::Deadline),
        Category::Cancelled => Meaning::Stopped,
        Category::LostWorker => Meaning::Again(Reason::WorkerLost),
        Category::Internal => Meaning::Again(Reason::Internal),
    }
}

/// Classifies what a store answered. Polars passes such answers on as text, under any class.
fn store_reason(message: &str) -> Option<Reason> {
    const MISSING: [&str; 5] =
        ["404 Not Found", "NoSuchBucket", "NoSuchKey", "expanded paths were empty", "No such file or directory"];
    const DENIED: [&str; 6] = [
        "403 Forbidden",
        "401 Unauthorized",
        "AccessDenied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "Permission denied",
    ];
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&DENIED) {
        Some(Reason::AccessDenied)
    } else if says(&MISSING) {
        Some(Reason::MissingData)
    } else {
        None
    }
}

/// A class is a Python exception name of Polars, or one of Floe's own.
fn user_reason(error: &RunError, planned: bool) -> Reason {
    // A script can raise anything.
    if error.message.starts_with("the plan script") {
        return Reason::BadScript;
    }
    match error.class.as_str() {
        "FileNotFoundError" | "NotADirectoryError" | "IsADirectoryError" => Reason::MissingData,
        "PermissionError" => Reason::AccessDenied,
        "SinkExists" | "FileExistsError" => Reason::SinkExists,
        "BadSpec" | "BadUri" | "BadSink" | "BadStorage" => Reason::BadSpec,
        "NotSupported" => Reason::Unsupported,
        "BadPlan"
        | "UnsupportedPlan"
        | "UnsupportedVersion"
        | "PythonInPlan"
        | "SqlInPlan"
        | "SingleWorkerForbidden"
        | "WarningAsError" => Reason::BadPlan,
        class if class.starts_with("Script") => Reason::BadScript,
        // Any other class of Polars: its meaning depends on when it was raised.
        _ => store_reason(&error.message).unwrap_or(if planned { Reason::QueryFailed } else { Reason::BadPlan }),
    }
}

/// `Class: message`.
pub fn words(error: &RunError) -> String {
    match (error.class.as_str(), error.message.trim()) {
        ("", message) => message.to_owned(),
        (class, "") => class.to_owned(),
        (class, message) => format!("{class}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_reason() {
        let cases = [
            (Category::User, "FileNotFoundError", true, Meaning::Final(Reason::MissingData)),
            (Category::User, "PermissionError", false, Meaning::Final(Reason::AccessDenied)),
            (Category::User, "ColumnNotFoundError", false, Meaning::Final(Reason::BadPlan)),
            (Category::User, "InvalidOperationError", true, Meaning::Final(Reason::QueryFailed)),
            (Category::User, "ComputeError", true, Meaning::Final(Reason::QueryFailed)),
            (Category::User, "ComputeError", false, Meaning::Final(Reason::BadPlan)),
            (Category::User, "ScriptTimeout", false, Meaning::Final(Reason::BadScript)),
            (Category::User, "BadUri", false, Meaning::Final(Reason::BadSpec)),
            (Category::User, "SinkExists", true, Meaning::Final(Reason::SinkExists)),
            (Category::Io, "IOError", true, Meaning::Final(Reason::StorageFailed)),
            (Category::OutOfMemory, "OutOfMemory", true, Meaning::Final(Reason::OutOfMemory)),
            (Category::Deadline, "DeadlineExceeded", true, Meaning::Final(Reason::Deadline)),
            (Category::Cancelled, "Cancelled", true, Meaning::Stopped),
            (Category::LostWorker, "NoWorkers", true, Meaning::Again(Reason::WorkerLost)),
            (Category::Internal, "InternalError", true, Meaning::Again(Reason::Internal)),
        ];
        for (category, class, planned, want) in cases {
            let error = RunError { category, class: class.into(), message: "m".into() };
            assert_eq!(meaning(&error, planned), want, "{class}");
        }
        let said = [
            (Category::User, "the plan script failed\nTraceback", Reason::BadScript),
            (Category::User, "expanded paths were empty (path expansion input: 's3://b/x/*')", Reason::MissingData),
            (Category::Io, "Client error with status 404 Not Found: <Code>NoSuchBucket</Code>", Reason::MissingData),
            (Category::Io, "Client error with status 403 Forbidden", Reason::AccessDenied),
            (Category::Io, "connection refused", Reason::StorageFailed),
        ];
        for (category, message, want) in said {
            let error = RunError { category, class: "ComputeError".into(), message: message.into() };
            assert_eq!(meaning(&error, false), Meaning::Final(want), "{message}");
        }
    }
}
