//! A query that is run and deleted to see what no look at objects can tell. The tiny one shows whether nodes get the image, quotas
//! and admission let pods in, and pods reach each other.

use std::time::Duration;

use floe_api::{DistributedQuery, Phase};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Check;
use crate::cluster::Cluster;
use crate::commands::change::wait_until_gone;
use crate::coordinator::Coordinator;
use crate::error::Failure;
use crate::follow::follow;
use crate::human;

/// The operator deletes it after this time if nobody else does.
const TTL_SECONDS: u32 = 300;
const GONE: Duration = Duration::from_secs(60);

pub async fn checks(cluster: &Cluster, timeout: Duration) -> Vec<Check> {
    let spec = json!({
        "plan": {"python": {"script": "result = pl.LazyFrame({\"n\": [1, 2, 3]}).select(pl.col(\"n\").sum())"}},
        "compute": {"workers": 1, "cpus": "50m", "memory": "256Mi", "coordinator": {"cpus": "50m", "memory": "512Mi"}},
    });
    let trial = match Trial::run(cluster, spec, timeout).await {
        Ok(trial) => trial,
        Err(failure) => return vec![Check::fail("run", failure.to_string(), "mend what the message names")],
    };
    let mut checks = vec![trial.judge("run", "its pods started and worked together")];
    if let Some(query) = trial.succeeded() {
        checks.push(read(cluster, query).await);
    }
    checks.extend(trial.delete(cluster, "run").await);
    checks
}

/// A query that was tried, until it ended or there was no more time.
pub struct Trial {
    name: String,
    ended: Option<Result<DistributedQuery, Failure>>,
    last: Option<DistributedQuery>,
    took: Duration,
}

impl Trial {
    pub async fn run(cluster: &Cluster, mut spec: Value, timeout: Duration) -> Result<Trial, Failure> {
        spec["backoffLimit"] = 0.into();
        spec["ttlSecondsAfterFinished"] = json!({"succeeded": TTL_SECONDS, "failed": TTL_SECONDS});
        let query = json!({
            "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
            "metadata": {"generateName": "floe-doctor-", "namespace": cluster.namespace},
            "spec": spec,
        });
        let name = cluster.create(&query).await?.metadata.name.unwrap_or_default();
        let began = Instant::now();
        let mut last: Option<DistributedQuery> = None;
        let ended = tokio::select! {
            ended = follow(cluster, &name, |query| last = Some(query.clone())) => Some(ended),
            () = tokio::time::sleep(timeout) => None,
            _ = tokio::signal::ctrl_c() => None,
        };
        Ok(Trial { name, ended, last, took: began.elapsed() })
    }

    pub fn succeeded(&self) -> Option<&DistributedQuery> {
        let phase = |query: &&DistributedQuery| query.status.as_ref().and_then(|status| status.phase);
        self.last.as_ref().filter(|query| phase(query) == Some(Phase::Succeeded))
    }

    /// `good`: what it shows if it has succeeded.
    pub fn judge(&self, check: &str, good: &str) -> Check {
        let (name, took) = (&self.name, human::duration(self.took));
        let status = self.last.as_ref().and_then(|query| query.status.clone()).unwrap_or_default();
        match &self.ended {
            Some(Ok(_)) if status.phase == Some(Phase::Succeeded) => {
                Check::ok(check, format!("query {name} has run: {good} within {took}"))
            }
            Some(Err(failure)) => Check::fail(check, failure.to_string(), "mend what the message names"),
            Some(Ok(_)) | None => {
                let phase = status.phase.map_or("Pending, which nobody has taken up", Phase::as_str);
                let message = status.message.unwrap_or_default();
                let (what, to_do) =
                    message.split_once(". To do: ").unwrap_or((&message, "see docs/troubleshooting-cluster.md"));
                let reason = status.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                Check::fail(check, format!("query {name} is {phase}{reason} after {took}: {what}"), to_do)
            }
        }
    }

    /// Tells if it stays.
    pub async fn delete(self, cluster: &Cluster, check: &str) -> Option<Check> {
        let name = &self.name;
        let gone = async {
            cluster.delete(name).await?;
            wait_until_gone(cluster, name, Instant::now() + GONE).await
        };
        let failure = gone.await.err()?;
        let to_do = format!("{} delete {name}", crate::program::name());
        Some(Check::warn(check, format!("query {name} is left: {failure}"), to_do))
    }
}

/// Reads its result, as `floe result` does.
async fn read(cluster: &Cluster, query: &DistributedQuery) -> Check {
    let to_do =
        "`result` needs get on pods and secrets, and get and create on pods/portforward; pods stay for ten minutes";
    let whole = async {
        let body = Coordinator::reach(cluster, query).await?.ask("/result").await?;
        body.collect().await.map_err(|error| Failure::Cluster(format!("it broke off: {error}")))
    };
    match tokio::time::timeout(GONE, whole).await {
        Ok(Ok(rows)) => {
            Check::ok("result", format!("it came through the API server ({} bytes)", rows.to_bytes().len()))
        }
        Ok(Err(failure)) => Check::warn("result", failure.to_string(), to_do),
        Err(_) => Check::warn("result", format!("it has not come within {} s", GONE.as_secs()), to_do),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn what_holds_the_trial_up_is_told() {
        let query: DistributedQuery = serde_json::from_value(json!({"apiVersion": "floe.dev/v1alpha1",
            "kind": "DistributedQuery", "metadata": {"name": "q"}, "spec": {"plan": {"sql": "x"}},
            "status": {"phase": "Starting", "reason": "Quota", "message": "no room. To do: ask for less"}}))
        .unwrap();
        let trial = |last: Option<DistributedQuery>, seconds| {
            let took = Duration::from_secs(seconds);
            Trial { name: "q".to_owned(), ended: None, last, took }.judge("run", "all is well")
        };
        let check = trial(Some(query), 120);
        assert_eq!(check.state, State::Fail);
        assert_eq!(check.message, "query q is Starting (Quota) after 2m 00s: no room");
        assert_eq!(check.to_do.as_deref(), Some("ask for less"));
        let check = trial(None, 1);
        assert!(check.message.contains("nobody has taken up"), "{check:?}");
    }
}
