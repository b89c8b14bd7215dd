//! The runtime for requests, so that callers can block on them from any thread.

use std::future::Future;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use floe_wire::error::{QueryError, Result};
use tokio::runtime::{Builder, Runtime};

/// Longer than all retries of any request; reached only if something is stuck.
const REQUEST_LIMIT: Duration = Duration::from_secs(15 * 60);

fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread().worker_threads(1).thread_name("floe-catalog").enable_all().build().ok()
        })
        .as_ref()
        .ok_or_else(|| QueryError::io("cannot start the thread that talks to catalogs"))
}

/// Runs a future and blocks until it ends. Unlike `block_on`, this also works inside async code.
pub fn wait<T: Send + 'static>(future: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let task = runtime()?.spawn(async move {
        // The receiver is gone only if the limit has passed.
        let _ = sender.send(future.await);
    });
    receiver.recv_timeout(REQUEST_LIMIT).unwrap_or_else(|_| {
        task.abort();
        Err(QueryError::io("a catalog did not answer in time"))
    })
}
