//! The runtime for requests, so that callers can block on them from any thread.

use std::{
    future::Future,
    sync::{OnceLock, mpsc},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};

use floe_wire::error::{QueryError, Result};

/// Longer than all retries of any request; reached only if something is stuck.
const REQUEST_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Two threads suffice: requests wait for the network and do not compute.
pub(crate) fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread().worker_threads(2).thread_name("floe-storage").enable_all().build().ok()
        })
        .as_ref()
        .ok_or_else(|| QueryError::io("cannot start the threads that talk to stores"))
}

/// Runs a future and blocks until it ends. Unlike `block_on`, this also works inside async code, where Polars calls its
/// writers.
pub fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Result<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let task = runtime()?.spawn(async move {
        // The receiver is gone only if the limit has passed.
        let _ = sender.send(future.await);
    });
    receiver.recv_timeout(REQUEST_LIMIT).map_err(|_| {
        task.abort();
        QueryError::io("a store did not answer in time")
    })
}
