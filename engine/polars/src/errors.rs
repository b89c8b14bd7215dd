//! Converts Polars' errors and panics to `QueryError`: the class that Python users know, the plain message, and the
//! category that decides whether a retry can help.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use polars_error::PolarsError;

use super::warnings::Inherited;
use floe_wire::error::{Category, QueryError, Result};

/// The class and message that Python Polars raises for the same error.
pub fn polars_error(error: PolarsError) -> QueryError {
    use PolarsError as E;
    let (class, message) = match error {
        E::AssertionError(msg) => ("AssertionError", msg),
        E::ColumnNotFound(msg) => ("ColumnNotFoundError", msg),
        E::ComputeError(msg) => {
            if msg.starts_with("OOM: ") {
                return QueryError::new(Category::OutOfMemory, "ComputeError", msg.to_string());
            }
            ("ComputeError", msg)
        }
        E::Duplicate(msg) => ("DuplicateError", msg),
        E::InvalidOperation(msg) => ("InvalidOperationError", msg),
        E::NoData(msg) => ("NoDataError", msg),
        E::OutOfBounds(msg) => ("OutOfBoundsError", msg),
        E::SchemaFieldNotFound(msg) => ("SchemaFieldNotFoundError", msg),
        E::SchemaMismatch(msg) => ("SchemaError", msg),
        E::ShapeMismatch(msg) => ("ShapeError", msg),
        E::SQLInterface(msg) => ("SQLInterfaceError", msg),
        E::SQLSyntax(msg) => ("SQLSyntaxError", msg),
        E::StringCacheMismatch(msg) => ("StringCacheMismatchError", msg),
        E::StructFieldNotFound(msg) => ("StructFieldNotFoundError", msg),
        E::IO { error, msg } => {
            // If a reader wrapped an error of Polars, Python raises the inner one.
            let mut source = error.source();
            while let Some(inner) = source {
                if let Some(inner) = inner.downcast_ref::<PolarsError>() {
                    return polars_error(inner.clone());
                }
                source = inner.source();
            }
            let message = msg.map_or_else(|| error.to_string(), |msg| msg.to_string());
            return io_error(error.kind(), message);
        }
        E::Context { .. } | E::ExprContext { .. } => return polars_error(error.context_trace()),
        // Features that other crates of the build may switch on add variants.
        #[allow(unreachable_patterns)]
        other => return QueryError::user("ComputeError", other.to_string()),
    };
    QueryError::user(class, message.to_string())
}

/// Missing files and denied access stay that way; other errors of files and stores may be temporary.
pub fn io_error(kind: ErrorKind, message: String) -> QueryError {
    let (category, class) = match kind {
        ErrorKind::NotFound => (Category::User, "FileNotFoundError"),
        ErrorKind::PermissionDenied => (Category::User, "PermissionError"),
        ErrorKind::AlreadyExists => (Category::User, "FileExistsError"),
        ErrorKind::IsADirectory => (Category::User, "IsADirectoryError"),
        ErrorKind::NotADirectory => (Category::User, "NotADirectoryError"),
        ErrorKind::OutOfMemory => (Category::OutOfMemory, "MemoryError"),
        _ => (Category::Io, "OSError"),
    };
    QueryError::new(category, class, message)
}

thread_local! {
    static CONTAINED: Cell<u32> = const { Cell::new(0) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f`; a panic becomes an error of Python's class for it (`PanicException`) instead of output on stderr.
pub fn contain_panics<T>(what: &str, f: impl FnOnce() -> Result<T>) -> Result<T> {
    contained(f).unwrap_or_else(|Panic { place, text }| {
        Err(QueryError::user("PanicException", format!("Polars panicked while {what}{place}: {text}")))
    })
}

/// Like `contain_panics`, for operations where single-node Polars would panic in the same way: the message is the
/// panic's own text.
pub fn panics_as_polars<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    contained(f).unwrap_or_else(|Panic { place, text }| {
        tracing::warn!("Polars panicked{place}: {text}");
        Err(QueryError::user("PanicException", text))
    })
}

struct Panic {
    /// " (file:line)", or nothing.
    place: String,
    text: String,
}

/// Unwind safety: after a panic, nothing that `f` changed is used, except the caller's data.
fn contained<T>(f: impl FnOnce() -> Result<T>) -> std::result::Result<Result<T>, Panic> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if CONTAINED.get() == 0 {
                before(info);
            } else {
                PLACE.set(info.location().map(|place| format!("{}:{}", file_name(place.file()), place.line())));
            }
        }));
    });
    CONTAINED.set(CONTAINED.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(f));
    CONTAINED.set(CONTAINED.get() - 1);
    outcome.map_err(|panic| Panic {
        place: PLACE.take().map(|place| format!(" ({place})")).unwrap_or_default(),
        text: text_of(&*panic).to_owned(),
    })
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Runs `f` on a thread whose stack is large enough for any plan that can be parsed. Only touched pages of the stack
/// take memory.
pub fn on_big_stack<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    const STACK_BYTES: usize = 512 << 20;
    let (span, inherited) = (tracing::Span::current(), Inherited::of_this_thread());
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("floe-plan".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || {
                let _scope = inherited.enter();
                span.in_scope(f)
            })
            .map_err(|e| QueryError::internal(format!("cannot start a thread to read the plan: {e}")))?
            .join()
            .unwrap_or_else(|panic| Err(QueryError::internal(format!("reading the plan failed: {}", text_of(&*panic)))))
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn classes_are_those_of_python() {
        let io = |kind: ErrorKind| PolarsError::from(io::Error::new(kind, "text"));
        let wrapped = io::Error::other(PolarsError::NoData("empty CSV".into()).context("reading".into()));
        let nested = PolarsError::IO { error: std::sync::Arc::new(wrapped), msg: None };
        let cases = [
            (PolarsError::ColumnNotFound("x".into()), "ColumnNotFoundError", "x", Category::User),
            (PolarsError::SchemaMismatch("x".into()), "SchemaError", "x", Category::User),
            (PolarsError::ShapeMismatch("x".into()), "ShapeError", "x", Category::User),
            (PolarsError::Duplicate("x".into()), "DuplicateError", "x", Category::User),
            (PolarsError::NoData("x".into()), "NoDataError", "x", Category::User),
            (PolarsError::ComputeError("OOM: x".into()), "ComputeError", "OOM: x", Category::OutOfMemory),
            (io(ErrorKind::NotFound), "FileNotFoundError", "text", Category::User),
            (io(ErrorKind::PermissionDenied), "PermissionError", "text", Category::User),
            (io(ErrorKind::ConnectionReset), "OSError", "text", Category::Io),
            (nested, "NoDataError", "empty CSV", Category::User),
            (
                PolarsError::OutOfBounds("x".into()).context("reading".into()),
                "OutOfBoundsError",
                "x\n\nThis error occurred with the following context stack:\n\t[1] reading\n",
                Category::User,
            ),
        ];
        for (error, class, message, category) in cases {
            let got = polars_error(error);
            assert_eq!((got.class.as_str(), got.message.as_str(), got.category), (class, message, category));
        }
    }

    #[test]
    fn panics_become_errors() {
        let number = std::hint::black_box(7);
        let error = contain_panics("testing", || -> Result<()> { panic!("seven is {number}") }).unwrap_err();
        assert_eq!(error.class, "PanicException");
        assert!(error.message.starts_with("Polars panicked while testing (errors.rs:"), "{error}");
        assert!(error.message.ends_with("): seven is 7"), "{error}");
        let error = panics_as_polars(|| -> Result<()> { panic!("seven is {number}") }).unwrap_err();
        assert_eq!((error.class.as_str(), error.message.as_str()), ("PanicException", "seven is 7"));
        assert_eq!(on_big_stack(|| Ok(3)), Ok(3));
    }
}
