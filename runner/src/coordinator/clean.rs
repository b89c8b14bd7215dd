//! Removes what a query left behind when its coordinator could not clean up: staged files, unfinished uploads and
//! shuffle objects of all attempts. A finished commit is not undone. Blocks.

use floe_api::execution::Mode;
use floe_api::job::Job;

use crate::sink;
use floe_wire::error::{Category, Result};

use super::{Context, prepare, run};

pub fn clean(job: &Job, context: &Context) -> Result<()> {
    run::remove_shuffle(job);
    let planned = match prepare::spec_sinks(job)? {
        Some(sinks) => sinks,
        // The sinks are in the plan. If it cannot be read, nothing was ever written.
        None => match prepare(job, context, Mode::SingleNode) {
            Ok(prepared) => prepared.sinks.to_vec(),
            Err(error) if error.category == Category::User => Vec::new(),
            Err(error) => return Err(error),
        },
    };
    // Try all of them, even if one fails.
    let tried: Vec<Result<()>> = planned.iter().map(sink::sweep).collect();
    tried.into_iter().collect()
}
