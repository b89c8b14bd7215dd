//! `floe run`: runs queries on this machine, one after another.

use std::process::ExitCode;
use std::time::Duration;

use floe_api::DistributedQuery;
use floe_api::report::{Category, RunError};

use crate::args::{Output, RunArgs};
use crate::error::Failure;
use crate::local::{self, End};
use crate::trace::Trace;
use crate::{print, process, query, render};

pub fn run(args: RunArgs) -> Result<ExitCode, Failure> {
    // Check all queries before running the first, so that an error in the last one does not show an hour later.
    let mut queries = Vec::new();
    for (what, loaded) in query::load_all(&args.files, &args.query) {
        match loaded.and_then(|query| prepare(query, &args)) {
            Ok(prepared) => queries.push(prepared),
            Err(failure) => return Ok(refuse(&what, &failure, args.output)),
        }
    }
    let runner = process::find_runner()?;
    super::setup::before(&runner, queries.iter().map(|query| &query.job))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::io("cannot start the event loop", e))?;
    let options = local::Options { runner: &runner, scratch: args.scratch.as_deref(), verbose: args.verbose };
    let mut code = 0;
    for prepared in &mut queries {
        let mut render = render::for_stderr(args.quiet || args.output == Output::Json);
        let failed = match runtime.block_on(traced(prepared, &options, render.as_mut())) {
            Ok(End::Done(outcome)) => {
                render::print_outcome(&prepared.job.name, &outcome, args.output, args.quiet);
                None
            }
            Ok(End::Failed(error)) => {
                render::print_error(&prepared.job.name, &error, args.output);
                Some(error.category)
            }
            Err(failure) => {
                refuse(&prepared.job.name, &failure, args.output);
                Some(failure.category())
            }
        };
        if let Some(failed) = failed {
            let cancelled = failed == Category::Cancelled;
            // The first of several failures determines the code; a cancellation stops them all.
            code = if code == 0 || cancelled { failed.exit_code() } else { code };
            if !args.keep_going || cancelled {
                break;
            }
        }
    }
    Ok(ExitCode::from(code))
}

/// Runs a query within a trace span, if tracing is enabled.
async fn traced(
    prepared: &mut query::Prepared,
    options: &local::Options<'_>,
    render: &mut dyn render::Render,
) -> Result<End, Failure> {
    let job = &mut prepared.job;
    let trace = Trace::begin(&job.name, &job.id, job.traceparent.as_deref());
    if let Some(traceparent) = trace.traceparent() {
        job.traceparent = Some(traceparent);
    }
    let end = local::run(prepared, options, render).await;
    let error = match &end {
        Ok(End::Done(_)) => None,
        Ok(End::Failed(error)) => Some(format!("{}: {}", error.class, error.message)),
        Err(failure) => Some(failure.to_string()),
    };
    trace.end(error).await;
    end
}

fn prepare(mut query: DistributedQuery, args: &RunArgs) -> Result<query::Prepared, Failure> {
    if let Some(timeout) = args.timeout {
        // Never exceed the query's own deadline.
        let seconds = u32::try_from(timeout.max(Duration::from_secs(1)).as_secs()).unwrap_or(u32::MAX);
        let allowed = query.spec.active_deadline_seconds.unwrap_or(u32::MAX);
        query.spec.active_deadline_seconds = Some(seconds.min(allowed));
    }
    query::prepare(query, &args.query)
}

fn refuse(name: &str, failure: &Failure, output: Output) -> ExitCode {
    if output == Output::Json {
        let class = "BadSpec".to_owned();
        let error = RunError { category: failure.category(), class, message: failure.lines().join("\n") };
        print::out(render::error_json(name, &error));
    }
    failure.print();
    failure.exit_code()
}
