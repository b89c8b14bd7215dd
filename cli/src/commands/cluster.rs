//! `floe submit`, `floe watch` and `floe cancel`: queries on a cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use floe_api::report::Category;
use floe_api::{DistributedQuery, DistributedQueryStatus, Phase};

use crate::args::{CancelArgs, Output, SubmitArgs, WatchArgs};
use crate::cluster::Cluster;
use crate::error::Failure;
use crate::{human, print, query};

/// The API server takes objects of about 1.5 MB; base64 makes four bytes of three.
const MAX_INLINE_BYTES: usize = 1_000_000;
/// Exit code of a query that failed on a cluster.
const FAILED: u8 = 1;

fn block_on(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::io("cannot start the event loop", e))?
        .block_on(work)
}

pub fn submit(args: SubmitArgs) -> Result<ExitCode, Failure> {
    // All are checked before the first one is created.
    let queries = args.files.iter().map(|file| query::load(file, &args.query)).collect::<Result<Vec<_>, _>>()?;
    block_on(async {
        let mut code = 0;
        for loaded in queries {
            let mut object = with_plan_inside(loaded)?;
            // As in kubectl: the option, else the object, else the context.
            let mut at = args.cluster.clone();
            at.namespace = at.namespace.or_else(|| object.metadata.namespace.clone());
            let cluster = Cluster::connect(&at).await?;
            object.metadata.namespace = Some(cluster.namespace.clone());
            let name = cluster.create(&object).await?;
            print::err(format_args!("query {name} created in namespace {}", cluster.namespace));
            if !args.detach {
                let ended = follow(&cluster, &name, args.output).await?;
                code = if code == 0 { ended } else { code };
            }
        }
        Ok(ExitCode::from(code))
    })
}

/// Puts a plan from a file on this machine into the object.
fn with_plan_inside(mut query: DistributedQuery) -> Result<DistributedQuery, Failure> {
    let Some(dsl) = &mut query.spec.plan.dsl else { return Ok(query) };
    let Some(path) = dsl.path.take() else { return Ok(query) };
    let path = PathBuf::from(path);
    let bytes = std::fs::read(&path).map_err(|source| Failure::Read { path: path.clone(), source })?;
    if bytes.len() > MAX_INLINE_BYTES {
        return Err(Failure::Usage(format!(
            "{}: a plan of {} is too large for an object; put it in a store and write its address in spec.plan.dsl.uri",
            path.display(),
            human::bytes(bytes.len() as u64)
        )));
    }
    dsl.inline = Some(STANDARD.encode(&bytes));
    Ok(query)
}

pub fn watch(args: WatchArgs) -> Result<ExitCode, Failure> {
    block_on(async {
        let cluster = Cluster::connect(&args.cluster).await?;
        follow(&cluster, &args.name, args.output).await.map(ExitCode::from)
    })
}

pub fn cancel(args: CancelArgs) -> Result<ExitCode, Failure> {
    block_on(async {
        let cluster = Cluster::connect(&args.cluster).await?;
        cluster.cancel(&args.name).await?;
        print::err(format_args!("query {} is being cancelled", args.name));
        Ok(ExitCode::SUCCESS)
    })
}

/// Prints the progress of a query until it ends or the user interrupts.
async fn follow(cluster: &Cluster, name: &str, output: Output) -> Result<u8, Failure> {
    let mut last = String::new();
    let tell = |status: &DistributedQueryStatus| {
        let now = line(status);
        if now != last && output == Output::Table {
            print::err(&now);
        }
        last = now;
    };
    let status = tokio::select! {
        ended = cluster.follow(name, tell) => ended?,
        _ = tokio::signal::ctrl_c() => {
            print::err(format_args!("query {name} goes on; `floe watch {name}` looks again, `floe cancel {name}` stops it"));
            return Ok(Category::Cancelled.exit_code());
        }
    };
    match output {
        Output::Json => print::out(serde_json::json!({"name": name, "status": status})),
        Output::Table => {
            if let Some(uri) = &status.result_uri {
                print::out(uri);
            }
        }
    }
    Ok(match status.phase {
        Some(Phase::Succeeded) => 0,
        Some(Phase::Cancelled) => Category::Cancelled.exit_code(),
        _ => FAILED,
    })
}

/// A status on one line.
fn line(status: &DistributedQueryStatus) -> String {
    let mut words = vec![status.phase.map_or("Pending", Phase::as_str).to_owned()];
    words.extend(status.progress.clone());
    words.extend(status.workers.as_ref().and_then(|workers| workers.summary.as_ref()).map(|w| format!("workers {w}")));
    words.extend(status.stages_summary.as_ref().map(|stages| format!("stages {stages}")));
    let ended = status.phase.is_some_and(Phase::is_terminal);
    if ended {
        words.extend(status.rows.map(|rows| format!("{} rows", human::count(rows))));
        words.extend(status.duration.as_ref().map(|took| format!("in {took}")));
    }
    let mut line = words.join(", ");
    if let (Some(reason), true) = (&status.reason, status.phase != Some(Phase::Succeeded)) {
        line.push_str(&format!(" ({reason}{})", status.message.as_ref().map(|m| format!(": {m}")).unwrap_or_default()));
    }
    line
}

#[cfg(test)]
mod tests {
    use floe_api::WorkerCounts;

    use super::*;

    #[test]
    fn a_status_is_one_line() {
        let mut status = DistributedQueryStatus {
            phase: Some(Phase::Running),
            progress: Some("45%".into()),
            workers: Some(WorkerCounts {
                ready: 3,
                desired: 4,
                summary: Some("3/4".into()),
                ..WorkerCounts::default()
            }),
            stages_summary: Some("1/3".into()),
            ..DistributedQueryStatus::default()
        };
        assert_eq!(line(&status), "Running, 45%, workers 3/4, stages 1/3");
        status.phase = Some(Phase::Failed);
        status.reason = Some("OutOfMemory".into());
        status.message = Some("worker 2 needs more".into());
        assert_eq!(line(&status), "Failed, 45%, workers 3/4, stages 1/3 (OutOfMemory: worker 2 needs more)");
    }
}
