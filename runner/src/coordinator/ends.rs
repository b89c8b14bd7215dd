//! What ends a coordinator from outside: signals, a closed stdin, the end of its parent. Each cancels a token.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use floe_wire::error::{QueryError, Result};

/// How often a process checks that its parent is alive.
const PARENT_EVERY: Duration = Duration::from_millis(250);
pub fn watch_signals(cancel: CancellationToken) -> Result<()> {
    let listen = |kind| signal(kind).map_err(|error| QueryError::internal(format!("no signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancel.cancel();
    });
    Ok(())
}

/// Cancels when stdin closes, which means that the parent is gone.
pub fn watch_stdin(cancel: CancellationToken) {
    tokio::spawn(async move {
        let (mut stdin, mut buffer) = (tokio::io::stdin(), [0; 256]);
        while let Ok(1..) = stdin.read(&mut buffer).await {}
        cancel.cancel();
    });
}

/// Detects the parent's death even if its children keep the pipe open.
pub fn watch_parent(parent: u32, cancel: CancellationToken) {
    tokio::spawn(async move {
        while std::os::unix::process::parent_id() == parent {
            tokio::time::sleep(PARENT_EVERY).await;
        }
        cancel.cancel();
    });
}

pub fn stdin_is_pipe() -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata("/dev/stdin").is_ok_and(|meta| meta.file_type().is_fifo())
}
