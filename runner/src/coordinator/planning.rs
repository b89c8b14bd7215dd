//! Plans a query within its deadline, on a thread of its own, a few queries at once.

use std::sync::Arc;

use floe_api::execution::Mode;
use floe_api::job::Job;
use floe_wire::error::{Category, QueryError, Result};
use tokio::sync::SemaphorePermit;

use super::admission::Admission;
use super::commit::abort;
use super::prepare::{Prepared, Taking, load, prepare_loaded};
use super::run::{Query, cancelled};

impl Query<'_> {
    pub(super) async fn prepare(&self, place: &Admission, mode: Mode) -> Result<Prepared> {
        self.prepare_job(place, self.job.clone(), mode).await
    }

    /// Prepares on a thread of its own. A query that is stopped meanwhile ends at once, unless its sinks are being
    /// taken: then it waits for that, and aborts them.
    pub(super) async fn prepare_job(&self, place: &Admission, job: Arc<Job>, mode: Mode) -> Result<Prepared> {
        let (context, loading) = (self.engine.context(), job.clone());
        let turn = self.turn_to_plan().await?;
        let loaded = self.in_time(self.blocking(move || load(&loading, &context), drop)).await?;
        // Recursive rounds run on the workers: let others plan meanwhile.
        drop(turn);
        let loaded = self.with_recursive_tables(place, loaded, &job, mode).await?;
        let context = self.engine.context();
        let _turn = self.turn_to_plan().await?;
        let taking = Arc::new(Taking::default());
        let take = taking.clone();
        let undo = |prepared: Result<Prepared>| {
            if let Ok(prepared) = prepared {
                abort(&prepared.sinks);
            }
        };
        let planning = self.blocking(move || prepare_loaded(loaded, &job, &context, mode, Some(&take)), undo);
        tokio::pin!(planning);
        let error = tokio::select! {
            planned = &mut planning => return planned?,
            error = self.stopped("was planned") => error,
        };
        // This process may end with the query, and would leave behind what the thread is writing to a store.
        if !taking.give_up() {
            let prepared = planning.await?;
            self.blocking(move || undo(prepared), drop).await?;
        }
        Err(error)
    }

    /// Waits for a planning permit, within the query's deadline.
    async fn turn_to_plan(&self) -> Result<SemaphorePermit<'_>> {
        let closed = |_| QueryError::internal("the engine plans no more");
        self.in_time(async { Ok(self.engine.planning.acquire().await.map_err(closed)) }).await
    }

    /// Gives up on planning when the query is cancelled or past its deadline.
    pub(super) async fn in_time<T>(&self, planning: impl Future<Output = Result<Result<T>>>) -> Result<T> {
        tokio::select! {
            planned = planning => planned?,
            error = self.stopped("was planned") => Err(error),
        }
    }

    /// Waits until the query is cancelled or past its deadline.
    pub(super) async fn stopped(&self, what: &str) -> QueryError {
        let deadline = self.deadline.map(tokio::time::Instant::from_std);
        tokio::select! {
            () = self.cancel.cancelled() => cancelled(),
            () = async { tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)).await },
                if deadline.is_some() => late(what),
        }
    }
}

fn late(what: &str) -> QueryError {
    let message = format!("activeDeadlineSeconds passed while the query {what}");
    QueryError::new(Category::Deadline, "DeadlineExceeded", message)
}
