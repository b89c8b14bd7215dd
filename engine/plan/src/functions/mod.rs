//! Python functions in a plan (`map_elements`, `map_batches`, `map_groups`, `fold`, IO plugins …): called in children of
//! this process that have the client's own Polars, never inside the engine.
//!
//! The way of a function: `carry` finds it in the client's bytes and makes it an expression of Polars with a payload that
//! travels (`payload`); `put_in` gives the decoded plan something to call (`call`); fragments carry the payload to the
//! workers, where `arm` does the same again and `bind` ties the calls of a task to its end. A call sends columns to a child
//! (`child`, `function_host.py`) that the query keeps warm (`pool`).
//!
//! What a function does to rows is what Polars says of it: element-wise ones run wherever rows are, others where all rows
//! of their frame or group are together. Those of groups get many groups in one call (`groups`). Where rows, or groups, do
//! not depend on each other, a call takes as many of them as it works on for about a second (`pace`), and several children
//! share the work (`slices`).

mod call;
mod carry;
mod child;
mod groups;
mod pace;
mod payload;
mod pool;
mod put;
mod slices;

use std::path::PathBuf;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use crate::python::Choice;

pub use call::{SHOWN, Task, arm, bind};
pub use pool::release;

pub(crate) use carry::{Carried, carry};
pub(crate) use put::{check_placed, put_in};

/// Whether and how functions are called by this process.
#[derive(Clone, Debug)]
pub struct Settings {
    pub allowed: bool,
    /// Children of one query at once.
    pub children: usize,
    /// What a child may take on top of Python and Polars.
    pub memory_bytes: u64,
    /// How long one call may take.
    pub call_limit: Duration,
    /// Whether to have a child ready for the next query.
    pub spare: bool,
    pub python: Choice,
    /// Where children have their directories, which go with whoever owns this one even if this process is killed. Left out,
    /// that of temporary files.
    pub dir: Option<PathBuf>,
    /// Variables of this process that functions see: those that the query gives itself.
    pub variables: Vec<String>,
    /// Packages that functions import, as a requirements file names them.
    pub requirements: Vec<String>,
}

impl Settings {
    /// What the environment says: `FLOE_PYTHON_FUNCTIONS` (allow, deny), `FLOE_FUNCTIONS_PYTHON` (else `FLOE_PYTHON`),
    /// `FLOE_FUNCTION_SECONDS`, `FLOE_FUNCTION_ENV` (names of variables, with commas) and `FLOE_REQUIREMENTS` (lines).
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

/// Whether the function of an expression is one that `carry` put there.
pub(crate) fn is_carried(function: &crate::msgpack::Node<'_>) -> bool {
    function.head_bytes(payload::MARK.len()).is_some_and(|head| head == payload::MARK)
}

static SETTINGS: OnceLock<RwLock<Settings>> = OnceLock::new();

fn cell() -> &'static RwLock<Settings> {
    SETTINGS.get_or_init(|| RwLock::new(Settings::of_environment()))
}

/// Says how functions are called from now on.
pub fn configure(settings: Settings) {
    *cell().write().unwrap_or_else(PoisonError::into_inner) = settings;
}

pub fn settings() -> Settings {
    cell().read().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests;
