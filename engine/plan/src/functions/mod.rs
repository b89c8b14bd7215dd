//! Python functions in a plan (`map_elements`, `map_batches`, `map_groups`, `fold`, IO plugins …). They run in child
//! processes with the client's own Polars, never inside the engine.
//!
//! How a function travels: `carry` finds it in the client's bytes and turns it into a Polars expression with a
//! serializable payload (`payload`). `put_in` makes the decoded plan callable (`call`). Fragments carry the payload to
//! the workers, where `arm` makes it callable again, and `bind` binds the calls to a task, so that they end with it. A
//! call sends columns to a child (`child`, `function_host.py`), and the query keeps its children warm (`pool`). IO
//! plugins are scans until the plan is optimized, and get columns, filters and limits (`sources`, `pushed`).
//!
//! Polars' flags decide where a function runs: element-wise functions run wherever rows are, others where all rows of
//! their frame or group are together. Group functions get many groups per call (`groups`). Where rows or groups are
//! independent, a call takes as many as it can process in about a second (`pace`), and several children share the work
//! (`slices`).

mod call;
mod carry;
mod child;
mod groups;
mod pace;
mod payload;
mod pool;
mod pushed;
mod put;
mod slices;
mod sources;

use std::path::PathBuf;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use crate::own;
use crate::python::Choice;

pub use call::{SHOWN, Task, arm, bind};
pub use pool::release;

pub(crate) use carry::{Carried, carry};
pub(crate) use put::{check_placed, put_in};
pub(crate) use sources::call_sources;
pub use sources::{has_source, is_source};

/// How this process calls functions.
#[derive(Clone, Debug)]
pub struct Settings {
    pub allowed: bool,
    /// Children per query at the same time.
    pub children: usize,
    /// Memory limit of a child, on top of Python and Polars.
    pub memory_bytes: u64,
    /// Time limit of one call.
    pub call_limit: Duration,
    /// Whether to keep a started child ready for the next query.
    pub spare: bool,
    pub python: Choice,
    /// Parent of the children's directories. Its owner removes it even if this process is killed. `None`: the directory
    /// for temporary files.
    pub dir: Option<PathBuf>,
    /// Names of environment variables that functions may see, set by the query.
    pub variables: Vec<String>,
    /// Packages that functions import, as lines of a requirements file.
    pub requirements: Vec<String>,
}

impl Settings {
    /// Settings from the environment: `FLOE_PYTHON_FUNCTIONS` (allow, deny), `FLOE_FUNCTIONS_PYTHON` (else
    /// `FLOE_PYTHON`), `FLOE_FUNCTION_SECONDS`, `FLOE_FUNCTION_ENV` (variable names, comma-separated) and
    /// `FLOE_REQUIREMENTS` (lines).
    pub fn of_environment() -> Settings {
        let own = std::env::var_os("FLOE_FUNCTIONS_PYTHON").filter(|python| !python.is_empty());
        let names = std::env::var("FLOE_FUNCTION_ENV").unwrap_or_default();
        let requirements = std::env::var("FLOE_REQUIREMENTS").unwrap_or_default();
        let seconds = std::env::var("FLOE_FUNCTION_SECONDS").ok().and_then(|text| text.parse().ok());
        Settings {
            allowed: std::env::var("FLOE_PYTHON_FUNCTIONS").map_or(true, |word| word != "deny"),
            children: 1,
            memory_bytes: 4 << 30,
            call_limit: Duration::from_secs(seconds.unwrap_or(600)),
            spare: false,
            dir: None,
            variables: names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            python: own.map_or_else(Choice::of_environment, |python| Choice::Given(python.into())),
            requirements: requirements.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect(),
        }
    }
}

/// Whether the function of an expression was put there by `carry`, or is one of the engine's own.
pub(crate) fn is_known(function: &crate::msgpack::Node<'_>) -> bool {
    function.head_bytes(payload::MARK.len()).is_some_and(|head| head == payload::MARK) || own::is(Some(function))
}

static SETTINGS: OnceLock<RwLock<Settings>> = OnceLock::new();

fn cell() -> &'static RwLock<Settings> {
    SETTINGS.get_or_init(|| RwLock::new(Settings::of_environment()))
}

/// Changes the settings of this process.
pub fn configure(settings: Settings) {
    *cell().write().unwrap_or_else(PoisonError::into_inner) = settings;
}

pub fn settings() -> Settings {
    cell().read().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests;
