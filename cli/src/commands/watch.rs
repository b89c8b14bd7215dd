//! `floe watch`: the progress of a query on a cluster until it ends.

use std::process::ExitCode;
use std::time::Duration;

use floe_api::report::Category;
use floe_api::{DistributedQuery, Phase};
use serde_json::json;

use crate::args::Output;
use crate::args::cluster::WatchArgs;
use crate::cluster::Cluster;
use crate::error::Failure;
use crate::follow::follow as follow_query;
use crate::render::cluster::{self as render, Progress};
use crate::{block_on, human, print, program};

/// Exit code if a query failed on a cluster, or a check of doctor.
pub const FAILED: u8 = 1;
/// Exit code if the user stops watching: the query continues.
pub const INTERRUPTED: u8 = Category::Cancelled.exit_code();

/// What to print about a query that is being followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Progress to standard error, the result's URI to standard output.
    Words,
    /// Progress to standard error.
    Progress,
    /// Every change as a JSON object on a line.
    Changes,
    /// Only the final state as a JSON object on a line.
    End,
}

pub fn run(args: WatchArgs) -> Result<ExitCode, Failure> {
    block_on(async {
        let cluster = Cluster::connect(&args.cluster).await?;
        let shown = if args.output == Output::Json { Shown::Changes } else { Shown::Words };
        follow(&cluster, &args.name, args.timeout, shown).await.map(ExitCode::from)
    })
}

/// Shows the progress of a query until it ends or the user interrupts; returns the exit code.
pub async fn follow(cluster: &Cluster, name: &str, timeout: Option<Duration>, shown: Shown) -> Result<u8, Failure> {
    let mut progress: Box<dyn Progress> = match shown {
        Shown::Words | Shown::Progress => render::for_stderr(),
        Shown::Changes => Box::new(Changes { last: None }),
        Shown::End => Box::new(Silent),
    };
    let patience = timeout.unwrap_or(Duration::MAX);
    let ended = tokio::select! {
        ended = follow_query(cluster, name, |query| progress.tell(query)) => Some(ended),
        () = tokio::time::sleep(patience) => None,
        _ = tokio::signal::ctrl_c() => {
            progress.finish();
            print::err(goes_on(cluster, name));
            return Ok(INTERRUPTED);
        }
    };
    progress.finish();
    let Some(ended) = ended else {
        let waited = human::duration(patience);
        return Err(Failure::Waited(format!("query {name} has not ended within {waited}. {}", goes_on(cluster, name))));
    };
    let query = ended?;
    let status = query.status.clone().unwrap_or_default();
    if shown == Shown::End {
        print::out(object(&query));
    }
    if matches!(shown, Shown::Words | Shown::Progress) {
        // On a terminal the bars are gone by now; elsewhere the lines have said it.
        use std::io::IsTerminal as _;
        if std::io::stderr().is_terminal() {
            print::err(format_args!("{name}: {}", render::line(&status)));
        }
        for warning in &status.warnings {
            print::err(format_args!("  warning: {warning}"));
        }
        match &status.result_uri {
            Some(uri) if shown == Shown::Words => print::out(uri),
            None if status.phase == Some(Phase::Succeeded) && query.spec.sink.is_none() => {
                let (program, again) = (program::name(), cluster.args.again());
                print::err(format_args!("  `{program} result {name}{again}` shows the result"));
            }
            Some(_) | None => {}
        }
    }
    Ok(match status.phase {
        Some(Phase::Succeeded) => 0,
        Some(Phase::Cancelled) => Category::Cancelled.exit_code(),
        _ => FAILED,
    })
}

/// Tells a user who stops watching how to continue.
fn goes_on(cluster: &Cluster, name: &str) -> String {
    let (program, again) = (program::name(), cluster.args.again());
    format!(
        "query {name} goes on; `{program} watch {name}{again}` looks again, `{program} cancel {name}{again}` stops it"
    )
}

fn object(query: &DistributedQuery) -> serde_json::Value {
    json!({"name": query.metadata.name, "namespace": query.metadata.namespace, "status": query.status})
}

struct Changes {
    last: Option<serde_json::Value>,
}

impl Progress for Changes {
    fn tell(&mut self, query: &DistributedQuery) {
        let now = object(query);
        if self.last.as_ref() != Some(&now) {
            print::out(&now);
            self.last = Some(now);
        }
    }

    fn finish(&mut self) {}
}

struct Silent;

impl Progress for Silent {
    fn tell(&mut self, _: &DistributedQuery) {}

    fn finish(&mut self) {}
}
