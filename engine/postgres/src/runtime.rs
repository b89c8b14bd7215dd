//! The runtime for connections, so that callers can block on them from any thread. It outlives all of them: a connection
//! that holds a snapshot is silent for as long as a query takes.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use floe_wire::error::{Category, QueryError, Result};
use tokio::runtime::{Builder, Runtime};

/// How often a caller that waits looks whether it is still wanted.
const POLL: Duration = Duration::from_millis(50);

fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread().worker_threads(2).thread_name("floe-postgres").enable_all().build().ok()
        })
        .as_ref()
        .ok_or_else(|| QueryError::io("cannot start the threads that talk to databases"))
}

/// Runs a future and blocks until it ends, or until `stopped`: then it is dropped, which ends its statement on the server,
/// too. Unlike `block_on`, this also works inside async code.
pub fn wait<T: Send + 'static>(
    future: impl Future<Output = Result<T>> + Send + 'static,
    stopped: &dyn Fn() -> bool,
) -> Result<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let task = runtime()?.spawn(async move {
        // The receiver is gone only if nobody waits any more.
        let _ = sender.send(future.await);
    });
    loop {
        match receiver.recv_timeout(POLL) {
            Ok(done) => return done,
            Err(RecvTimeoutError::Timeout) if !stopped() => {}
            Err(RecvTimeoutError::Timeout) => {
                task.abort();
                return Err(QueryError::new(Category::Cancelled, "Cancelled", "the task was cancelled"));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(QueryError::internal("a connection to a database ended without an answer"));
            }
        }
    }
}
