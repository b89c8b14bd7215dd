//! `floe cancel`, `suspend`, `resume` and `delete`: change queries on a cluster by name.

use std::process::ExitCode;
use std::time::Duration;

use floe_api::{DistributedQuery, Phase};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::cluster::{DeleteArgs, NamesArgs};
use crate::cluster::Cluster;
use crate::error::Failure;
use crate::follow::has_ended;
use crate::{block_on, print, program};

const LOOK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Cancel,
    Suspend,
    Resume,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Change::Cancel => "cancel",
            Change::Suspend => "suspend",
            Change::Resume => "resume",
        }
    }

    /// `cancel` and `suspend` are mutually exclusive in an object.
    fn spec(self) -> Value {
        match self {
            Change::Cancel => json!({"cancel": true, "suspend": false}),
            Change::Suspend => json!({"suspend": true}),
            Change::Resume => json!({"suspend": false}),
        }
    }

    /// Why the change can have no effect.
    fn refuse(self, query: &DistributedQuery, again: &str) -> Option<String> {
        let name = query.metadata.name.as_deref().unwrap_or_default();
        let phase = query.status.as_ref().and_then(|status| status.phase);
        let program = program::name();
        match (self, phase) {
            (Change::Cancel, Some(Phase::Cancelled)) => None,
            (_, Some(phase)) if has_ended(query) => Some(format!(
                "cannot {} query {name}: it has ended ({}); to run it again, `{program} delete {name}{again}` and submit it anew",
                self.word(),
                phase.as_str()
            )),
            (Change::Suspend | Change::Resume, _) if query.spec.cancel => {
                Some(format!("cannot {} query {name}: it is being cancelled, which is final", self.word()))
            }
            (Change::Resume, _) if !query.spec.suspend => {
                Some(format!("query {name} is not suspended: there is nothing to resume"))
            }
            (Change::Cancel | Change::Suspend | Change::Resume, _) => None,
        }
    }

    fn done(self) -> &'static str {
        match self {
            Change::Cancel => "is being cancelled",
            Change::Suspend => "is suspended: its pods go, and it begins anew when it is resumed",
            Change::Resume => "is resumed and begins anew",
        }
    }
}

/// Changes all queries that can be changed; the first refusal determines the exit code.
pub fn run(args: NamesArgs, change: Change) -> Result<ExitCode, Failure> {
    block_on(async {
        let cluster = Cluster::connect(&args.cluster).await?;
        let mut first = None;
        for name in &args.names {
            match set(&cluster, name, change).await {
                Ok(()) => print::err(format_args!("query {name} {}", change.done())),
                Err(failure) if args.names.len() == 1 => return Err(failure),
                Err(failure) => {
                    failure.print();
                    first = first.or(Some(failure));
                }
            }
        }
        Ok(first.map_or(ExitCode::SUCCESS, |failure| failure.exit_code()))
    })
}

async fn set(cluster: &Cluster, name: &str, change: Change) -> Result<(), Failure> {
    let query = cluster.get(name).await?;
    match change.refuse(&query, &cluster.args.again()) {
        Some(why) => Err(Failure::Usage(why)),
        None => cluster.set(name, change.spec()).await.map(drop),
    }
}

pub fn delete(args: DeleteArgs) -> Result<ExitCode, Failure> {
    block_on(async {
        let cluster = Cluster::connect(&args.queries.cluster).await?;
        let mut missing = None;
        let mut going = Vec::new();
        for name in &args.queries.names {
            if cluster.delete(name).await? {
                going.push(name.as_str());
            } else {
                let failure = cluster.missing(name);
                failure.print();
                missing = Some(failure);
            }
        }
        let deadline = Instant::now() + args.timeout;
        for name in going {
            if !args.no_wait {
                wait_until_gone(&cluster, name, deadline).await?;
            }
            print::err(format_args!("query {name} {}", if args.no_wait { "is being deleted" } else { "deleted" }));
        }
        Ok(missing.map_or(ExitCode::SUCCESS, |failure| failure.exit_code()))
    })
}

pub async fn wait_until_gone(cluster: &Cluster, name: &str, deadline: Instant) -> Result<(), Failure> {
    let what = format!("cannot see whether query {name} is gone");
    while cluster.ask(&what, cluster.queries().get_metadata_opt(name)).await?.is_some() {
        if Instant::now() > deadline {
            return Err(Failure::Waited(format!(
                "query {name} is marked for deletion and not gone yet: the operator removes what it left outside of the \
                 cluster first. To do: see whether the operator runs (`{} doctor`)",
                program::name()
            )));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(spec: Value, phase: &str) -> DistributedQuery {
        let mut spec = spec;
        spec["plan"] = json!({"sql": "x"});
        serde_json::from_value(json!({"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
            "metadata": {"name": "q"}, "spec": spec, "status": {"phase": phase}}))
        .unwrap()
    }

    #[test]
    fn changes_without_effect_are_refused_by_name() {
        let running = query(json!({}), "Running");
        for (change, query, told) in [
            (Change::Cancel, &running, None),
            (Change::Suspend, &running, None),
            (Change::Resume, &running, Some("is not suspended")),
            (Change::Resume, &query(json!({"suspend": true}), "Suspended"), None),
            (Change::Cancel, &query(json!({"suspend": true}), "Suspended"), None),
            (Change::Cancel, &query(json!({}), "Succeeded"), Some("it has ended (Succeeded)")),
            (Change::Cancel, &query(json!({"cancel": true}), "Cancelled"), None),
            (Change::Suspend, &query(json!({}), "Failed"), Some("`floe delete q -n a` and submit it anew")),
            (Change::Suspend, &query(json!({"cancel": true}), "Running"), Some("which is final")),
        ] {
            let why = change.refuse(query, " -n a");
            assert_eq!(why.is_some(), told.is_some(), "{change:?} {why:?}");
            assert!(why.unwrap_or_default().contains(told.unwrap_or_default()), "{change:?}");
        }
    }
}
