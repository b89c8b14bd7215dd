//! The children that call functions: a few per query, kept as long as the query may call again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use polars_core::prelude::*;

use super::call::Task;
use super::child::{Call, FunctionChild};
use super::payload::Payload;
use floe_wire::error::{Category, QueryError, Result};

/// Stop a process that has been idle this long.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Stop the spare process that has been idle this long; longer than `IDLE_LIMIT`, because a user may be working
/// interactively.
const SPARE_LIMIT: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often a call that waits for a child checks for cancellation.
const WAIT: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Children {
    idle: Vec<(FunctionChild, Instant)>,
    busy: usize,
}

#[derive(Default)]
struct Pool {
    of_queries: Mutex<HashMap<String, Children>>,
    given_back: Condvar,
    /// An unused child for the next query, because importing Polars takes most of the time of a query's first call.
    spare: Mutex<Option<(FunctionChild, Instant)>>,
}

static POOL: std::sync::LazyLock<Pool> = std::sync::LazyLock::new(Pool::default);
static REAPER: Once = Once::new();

impl Pool {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Children>> {
        self.of_queries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Flags that stop a call early.
#[derive(Clone, Copy)]
pub struct Stops<'s> {
    pub cancel: &'s AtomicBool,
    /// Set when another call for the same rows has failed.
    pub failed: Option<&'s AtomicBool>,
}

impl Stops<'_> {
    pub fn check(self) -> Result<()> {
        let raised = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        if raised(self.cancel) || self.failed.is_some_and(raised) {
            return Err(QueryError::new(Category::Cancelled, "Cancelled", "the task was cancelled"));
        }
        Ok(())
    }
}

/// Calls a function with columns, in a child of the query. `returns` is the declared type.
pub fn call(
    payload: &Payload,
    key: u64,
    columns: &[Series],
    returns: Option<&DataType>,
    task: &Task,
) -> Result<Series> {
    let stops = Stops { cancel: &task.cancel, failed: None };
    timed(payload, key, columns, returns, &task.query, stops).map(|(given, _)| given)
}

/// Like `call`; also returns the time of the call itself, without the wait for a child.
pub fn timed(
    payload: &Payload,
    key: u64,
    columns: &[Series],
    returns: Option<&DataType>,
    query: &str,
    stops: Stops<'_>,
) -> Result<(Series, Duration)> {
    let settings = super::settings();
    if !settings.allowed {
        return Err(QueryError::user("PythonInPlan", "Python functions are switched off here (pythonFunctions: deny)"));
    }
    let mut child = take(payload, query, stops, settings.children.max(1))?;
    let begun = Instant::now();
    let answer = child.call(&Call { payload, key, columns, returns, stops, limit: settings.call_limit });
    let took = begun.elapsed();
    give_back(query, child);
    answer.map(|given| (given, took))
}

fn take(payload: &Payload, query: &str, stops: Stops<'_>, most: usize) -> Result<FunctionChild> {
    REAPER.call_once(reap);
    let mut queries = POOL.lock();
    loop {
        let children = queries.entry(query.to_owned()).or_default();
        if let Some(at) = children.idle.iter().position(|(child, _)| child.release() == payload.polars) {
            let (child, _) = children.idle.swap_remove(at);
            children.busy += 1;
            return Ok(child);
        }
        // Replace an idle child of another Polars release.
        if children.busy + children.idle.len() >= most && !children.idle.is_empty() {
            children.idle.swap_remove(0);
        }
        if children.busy + children.idle.len() < most {
            children.busy += 1;
            drop(queries);
            let child = fresh(&payload.polars, stops.cancel);
            let child = child.and_then(|child| child.suits(payload).map(|()| child));
            return child.inspect_err(|_| forget_one(query));
        }
        queries = POOL.given_back.wait_timeout(queries, WAIT).unwrap_or_else(PoisonError::into_inner).0;
        stops.check()?;
    }
}

/// Takes the spare child, or starts a new one.
fn fresh(release: &str, cancel: &AtomicBool) -> Result<FunctionChild> {
    let spare = POOL.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
    match spare.filter(|(child, _)| child.release() == release && child.is_well()) {
        Some((child, _)) => Ok(child),
        None => FunctionChild::start(release, cancel),
    }
}

/// Keeps a child for the next call, unless the child or its query has ended.
fn give_back(query: &str, child: FunctionChild) {
    let mut queries = POOL.lock();
    if let Some(children) = queries.get_mut(query) {
        children.busy = children.busy.saturating_sub(1);
        if child.is_well() {
            children.idle.push((child, Instant::now()));
        }
    }
    POOL.given_back.notify_one();
}

fn forget_one(query: &str) {
    if let Some(children) = POOL.lock().get_mut(query) {
        children.busy = children.busy.saturating_sub(1);
    }
    POOL.given_back.notify_one();
}

/// Stops the children of a finished query, and starts a spare child for the next one, while no query waits for it.
pub fn release(query: &str) {
    let Some(children) = POOL.lock().remove(query) else { return };
    let used = children.idle.first().map(|(child, _)| child.release().to_owned());
    drop(children);
    let Some(release) = used.filter(|_| super::settings().spare) else { return };
    if POOL.spare.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
        return;
    }
    let start = move || {
        if let Ok(child) = FunctionChild::start(&release, &AtomicBool::new(false)) {
            let before = POOL.spare.lock().unwrap_or_else(PoisonError::into_inner).replace((child, Instant::now()));
            drop(before);
        }
    };
    // If this fails, the next query starts its own child.
    let _ = std::thread::Builder::new().name("floe-functions".into()).spawn(start);
}

fn reap() {
    let look = || loop {
        std::thread::sleep(LOOK_EVERY);
        let mut gone = Vec::new();
        let mut spare = POOL.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.as_ref().is_some_and(|(_, since)| since.elapsed() >= SPARE_LIMIT) {
            gone.extend(spare.take().map(|old| vec![old]));
        }
        drop(spare);
        POOL.lock().retain(|_, children| {
            let (kept, old) = children.idle.drain(..).partition(|(_, since)| since.elapsed() < IDLE_LIMIT);
            children.idle = kept;
            gone.push(old);
            children.busy > 0 || !children.idle.is_empty()
        });
        // Drop after the locks are released: stopping a child takes a moment.
        drop::<Vec<Vec<(FunctionChild, Instant)>>>(gone);
    };
    // If this fails, children stay until their query ends.
    let _ = std::thread::Builder::new().name("floe-functions".into()).spawn(look);
}
