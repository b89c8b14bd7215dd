//! Computes recursive SQL tables round by round: runs the anchor and each step as queries without a sink, collects
//! their rows here, and puts them into the query's plan as frames.

use std::sync::Arc;

use floe_api::execution::Mode;
use floe_api::job::Job;
use floe_plan::recursion::{MOST_BYTES, MOST_ROUNDS, as_anchor};
use floe_plan::{Loaded, Written, placed};
use floe_wire::chunk::{OutputId, Pass, RunId};
use floe_wire::error::{QueryError, Result};
use polars_core::frame::DataFrame;
use polars_plan::dsl::DslPlan;

use super::admission::Admission;
use super::prepare::{Taking, prepare_loaded};
use super::result::ResultHandle;
use super::run::Query;

impl Query<'_> {
    /// Puts the rows of recursive tables into a plan.
    pub(super) async fn with_recursive_tables(
        &self,
        place: &Admission,
        mut loaded: Loaded,
        job: &Arc<Job>,
        mode: Mode,
    ) -> Result<Loaded> {
        // EXPLAIN runs nothing.
        while let Some(recursion) = loaded.recursions.first().cloned() {
            if loaded.explain {
                loaded.fill(&recursion.whole.rows())?;
                continue;
            }
            let mut working = self.rows(place, recursion.anchor.clone(), &loaded.texts, job, mode).await?;
            let schema = working.schema().clone();
            let mut all = working.clone();
            let mut rounds = 0;
            while working.height() > 0 {
                rounds += 1;
                if rounds > MOST_ROUNDS {
                    return Err(recursion.endless);
                }
                working =
                    as_anchor(self.rows(place, recursion.over(&working)?, &loaded.texts, job, mode).await?, &schema)?;
                all.vstack_mut(&working).map_err(floe_polars::polars_error)?;
                if all.estimated_size() > MOST_BYTES {
                    return Err(recursion.large);
                }
            }
            all.rechunk_mut();
            loaded.fill(&all)?;
        }
        Ok(loaded)
    }

    /// Runs a plan and reads its rows into this process.
    async fn rows(
        &self,
        place: &Admission,
        plan: DslPlan,
        texts: &Written,
        job: &Arc<Job>,
        mode: Mode,
    ) -> Result<DataFrame> {
        let texts = texts.clone();
        let mut job = Job::clone(job);
        job.spec.sink = None;
        let context = self.engine.context();
        let loaded = Loaded { texts, ..Loaded::of(plan) };
        let prepare = move || prepare_loaded(loaded, &job, &context, mode, Some(&Taking::default()));
        let prepared = self.in_time(self.blocking(prepare, drop)).await?;
        // A name of its own, so that outputs of rounds never mix.
        let nonce = uuid::Uuid::new_v4().as_u64_pair().0;
        let run = RunId { query: self.job.id.clone(), attempt: self.job.attempt, pass: Pass::First, nonce };
        let (driven, reader) = self.drive(place, &prepared, &run, &|_, _| {}).await?;
        let driven = driven.map_err(|error| placed(&prepared.texts, error))?;
        let mut rows = vec![];
        for won in driven.outputs.iter().flatten() {
            let id = OutputId { task: won.task, attempt: won.attempt };
            rows.extend(won.output.chunks.all().iter().map(|chunk| won.output.portion(id, vec![*chunk])));
        }
        let handle = ResultHandle::new(rows, prepared.schema.clone(), reader, driven.hold);
        if handle.bytes() > MOST_BYTES as u64 {
            return Err(QueryError::user("QueryTooLarge", "a round of the recursive table is too large"));
        }
        self.blocking(move || handle.read(), drop).await?
    }
}
