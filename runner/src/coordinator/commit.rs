//! Commits a query's sinks one after the other, or aborts them. Blocks.

use std::time::Duration;

use floe_wire::error::{Category, Result};

use crate::sink;

/// Attempts to commit a sink; each continues where the previous one stopped.
const COMMIT_ATTEMPTS: u32 = 4;

pub fn commit(sinks: &[sink::Plan], staged: &[Vec<Vec<bytes::Bytes>>]) -> Result<Vec<sink::Summary>> {
    let mut done = Vec::with_capacity(sinks.len());
    for (sink, staged) in sinks.iter().zip(staged) {
        let mut attempt = 1;
        let summary = loop {
            match sink::commit(sink, staged) {
                Err(error) if error.category == Category::Io && attempt < COMMIT_ATTEMPTS => {
                    tracing::warn!("the commit is tried again: {error}");
                    std::thread::sleep(Duration::from_millis(200 << attempt));
                    attempt += 1;
                }
                Err(error) => {
                    abort(sinks);
                    return Err(error);
                }
                Ok(summary) => break summary,
            }
        };
        done.push(summary);
    }
    Ok(done)
}

pub fn abort(sinks: &[sink::Plan]) {
    for sink in sinks {
        if let Err(error) = sink::abort(sink) {
            tracing::warn!(uri = sink.uri(), "cannot remove staged files: {error}");
        }
    }
}
