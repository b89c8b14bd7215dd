//! Writes a context's status if it is worth it, based on the resource version that it was computed from.

use std::time::Duration;

use floe_api::{ComputeContext, ComputeContextStatus};
use jiff::Timestamp;
use kube::Api;

use super::facts::Seen;
use super::{Context, lock, observe};
use crate::query::error::StatusError;
use crate::query::write::patch;

/// Write changes of counts at most this often; anything else at once.
const COUNTS_EVERY: Duration = Duration::from_secs(2);

/// Returns when to try again if only counts have changed and they were written a moment ago.
pub async fn write(
    context: &Context,
    seen: &Seen,
    new: &ComputeContextStatus,
    now: Timestamp,
) -> Result<Option<Duration>, StatusError> {
    let Ok((key, uid)) = observe::identity(&seen.context) else { return Ok(None) };
    if *new == seen.status {
        return Ok(None);
    }
    let memory = context.memory(&uid);
    let (written_at, known) = {
        let memory = lock(&memory);
        (memory.written_at, memory.written.as_ref().map(|(version, _)| version.clone()))
    };
    if without_counts(new) == without_counts(&seen.status) {
        let since = written_at.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
        if let Some(since) = since.filter(|since| *since < COUNTS_EVERY) {
            return Ok(Some(COUNTS_EVERY - since));
        }
    }
    let version = known.or_else(|| seen.context.metadata.resource_version.clone());
    let api: Api<ComputeContext> = Api::namespaced(context.shared.client.clone(), &key.0);
    let patched = patch(&api, (&key.1, &uid), version, &seen.status, new).await.inspect_err(|_| {
        // The status remembered as the newest may be outdated.
        lock(&memory).written = None;
    })?;
    if let Some(version) = patched {
        let mut memory = lock(&memory);
        memory.written_at = Some(now);
        memory.written = Some((version, new.clone()));
    }
    Ok(None)
}

fn without_counts(status: &ComputeContextStatus) -> ComputeContextStatus {
    let mut status = status.clone();
    (status.queries_running, status.queries_waiting, status.tasks_waiting) = (None, None, None);
    status.memory = None;
    status.message = None;
    status.conditions.iter_mut().for_each(|condition| condition.message.clear());
    status
}
