//! The children that functions are called in: some for each query, kept while it may call again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use polars_core::prelude::*;

use super::call::Task;
use super::child::{Call, FunctionChild};
use super::payload::Payload;
use floe_wire::error::{Category, QueryError, Result};

/// A child that nobody has called for so long goes.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// The spare one stays longer: someone may be at work with queries.
const SPARE_LIMIT: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often a call that waits for a child looks whether it still has to.
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
    /// One that nobody has used, for the next query: importing Polars is most of what its first call would wait for.
    spare: Mutex<Option<(FunctionChild, Instant)>>,
}

static POOL: std::sync::LazyLock<Pool> = std::sync::LazyLock::new(Pool::default);
static REAPER: Once = Once::new();

impl Pool {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Children>> {
        self.of_queries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What ends a call before its time.
#[derive(Clone, Copy)]
pub struct Stops<'s> {
    pub cancel: &'s AtomicBool,
    /// Raised when another call for the same rows has failed.
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

/// Calls a function with columns, in a child of the query's. `returns` is the declared type.
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

/// The same, with what the call took once it had a child.
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
        // One of another version makes room.
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

/// The spare one, or a new one.
fn fresh(release: &str, cancel: &AtomicBool) -> Result<FunctionChild> {
    let spare = POOL.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
    match spare.filter(|(child, _)| child.release() == release && child.is_well()) {
        Some((child, _)) => Ok(child),
        None => FunctionChild::start(release, cancel),
    }
}

/// Keeps a child for the next call, unless it has ended or its query has.
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

/// A query is over: its children go. Another one takes their place for the next query, now that its start keeps nobody
/// waiting.
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
    // Without it, the next query waits a little.
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
        // Ending a child takes a moment, which nobody waits for.
        drop::<Vec<Vec<(FunctionChild, Instant)>>>(gone);
    };
    // Without it, children stay until their query ends.
    let _ = std::thread::Builder::new().name("floe-functions".into()).spawn(look);
}
