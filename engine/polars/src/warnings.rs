//! Assigns the warnings that Polars raises while it plans and runs to queries. Polars passes them to one function per
//! process, on any thread. A warning on a thread with a listener of its own belongs to that listener. One from the
//! engine's threads belongs to all running tasks, which are nearly always those of one query.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use polars_error::PolarsWarning;

use floe_wire::task::Warning;

/// Distinct warnings to keep per task; the first ones matter most.
const MAX_WARNINGS: usize = 16;
const MAX_WARNING_BYTES: usize = 1024;

#[derive(Default)]
struct Collector(Mutex<Vec<Warning>>);

impl Collector {
    fn add(&self, text: &str, sure: bool) {
        let mut all = lock(&self.0);
        let more = all.len() < MAX_WARNINGS;
        match all.iter_mut().find(|warning| warning.text == text) {
            Some(warning) => warning.sure |= sure,
            None if more => all.push(Warning { text: text.to_string(), sure }),
            None => {}
        }
    }

    fn take(&self) -> Vec<Warning> {
        std::mem::take(&mut *lock(&self.0))
    }
}

struct Task {
    query: String,
    collector: Arc<Collector>,
}

static TASKS: Mutex<Vec<Task>> = Mutex::new(Vec::new());

thread_local! {
    static THREAD_COLLECTOR: RefCell<Option<Arc<Collector>>> = const { RefCell::new(None) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes a warning of Polars to its listeners. Registered with Polars as the process's warning function.
pub fn hear(message: &str, kind: &PolarsWarning) {
    let text = worded(message, kind);
    if let Some(collector) = THREAD_COLLECTOR.with_borrow(Clone::clone) {
        return collector.add(&text, true);
    }
    let tasks = lock(&TASKS);
    let sure = tasks.windows(2).all(|pair| pair[0].query == pair[1].query);
    tasks.iter().for_each(|task| task.collector.add(&text, sure));
}

/// The warning as one line of limited length.
fn worded(message: &str, kind: &PolarsWarning) -> String {
    let kind = match kind {
        PolarsWarning::Deprecation => "Polars, deprecated: ",
        PolarsWarning::UserWarning
        | PolarsWarning::CategoricalRemappingWarning
        | PolarsWarning::MapWithoutReturnDtypeWarning => "Polars: ",
    };
    let mut text = String::from(kind);
    for word in message.split_whitespace() {
        if text.len() + word.len() >= MAX_WARNING_BYTES {
            text.push_str(" …");
            break;
        }
        if !text.ends_with(' ') {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

/// Runs `f`; returns its result and the warnings raised on this thread and on those that `on_big_stack` starts from it.
pub fn listening<T>(f: impl FnOnce() -> T) -> (T, Vec<Warning>) {
    let collector = Arc::new(Collector::default());
    let scope = ThreadScope::enter(Some(collector.clone()));
    let done = f();
    drop(scope);
    (done, collector.take())
}

/// Sets the collector of this thread, and restores the former one when dropped.
pub(crate) struct ThreadScope(Option<Arc<Collector>>);

impl ThreadScope {
    fn enter(collector: Option<Arc<Collector>>) -> ThreadScope {
        ThreadScope(THREAD_COLLECTOR.replace(collector))
    }
}

impl Drop for ThreadScope {
    fn drop(&mut self) {
        THREAD_COLLECTOR.set(self.0.take());
    }
}

/// The collector of this thread, to be passed to another thread.
pub(crate) struct Inherited(Option<Arc<Collector>>);

impl Inherited {
    pub(crate) fn of_this_thread() -> Inherited {
        Inherited(THREAD_COLLECTOR.with_borrow(Clone::clone))
    }

    pub(crate) fn enter(self) -> ThreadScope {
        ThreadScope::enter(self.0)
    }
}

/// A running task: receives the warnings from the engine's threads.
pub struct Listener(Arc<Collector>);

impl Listener {
    pub fn of_task(query: &str) -> Listener {
        let collector = Arc::new(Collector::default());
        lock(&TASKS).push(Task { query: query.to_string(), collector: collector.clone() });
        Listener(collector)
    }

    pub fn take(&self) -> Vec<Warning> {
        self.0.take()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&TASKS).retain(|task| !Arc::ptr_eq(&task.collector, &self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: PolarsWarning = PolarsWarning::UserWarning;

    fn texts(all: &[Warning]) -> Vec<(&str, bool)> {
        all.iter().map(|warning| (warning.text.as_str(), warning.sure)).collect()
    }

    // One test, because the tasks of the process are in one list.
    #[test]
    fn warnings_go_to_the_tasks_that_run() {
        hear("nobody listens", &KIND);
        let (first, second) = (Listener::of_task("q"), Listener::of_task("q"));
        hear("of one query\n  in two lines", &KIND);
        hear("of one query in two lines", &KIND);
        let ((), here) = listening(|| hear("of a thread", &PolarsWarning::Deprecation));
        assert_eq!(texts(&here), [("Polars, deprecated: of a thread", true)]);
        let other = Listener::of_task("r");
        hear("of one of two", &KIND);
        drop(other);
        let expected = [("Polars: of one query in two lines", true), ("Polars: of one of two", false)];
        assert_eq!(texts(&first.take()), expected);
        assert_eq!(texts(&second.take()), expected);
        for i in 0..100 {
            hear(&format!("{i} {}", "long ".repeat(1000)), &KIND);
        }
        let all = first.take();
        assert!(all.len() == MAX_WARNINGS && all.iter().all(|warning| warning.text.len() < MAX_WARNING_BYTES + 8));
        drop(first);
        second.take();
        hear("of the other task", &KIND);
        assert_eq!(texts(&second.take()), [("Polars: of the other task", true)]);
        drop(second);
        assert!(lock(&TASKS).is_empty());
    }
}
