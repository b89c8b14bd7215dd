//! A tiny query, run and deleted: what no look at objects can tell, such as whether nodes get the image, quotas and admission
//! let pods in, and pods reach each other.

use std::time::Duration;

use floe_api::{DistributedQuery, Phase};
use http_body_util::BodyExt as _;
use serde_json::json;
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
    let query = json!({
        "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
        "metadata": {"generateName": "floe-doctor-", "namespace": cluster.namespace},
        "spec": {
            "plan": {"python": {"script": "result = pl.LazyFrame({\"n\": [1, 2, 3]}).select(pl.col(\"n\").sum())"}},
            "compute": {"workers": 1, "cpus": "50m", "memory": "256Mi", "coordinator": {"cpus": "50m", "memory": "512Mi"}},
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": {"succeeded": TTL_SECONDS, "failed": TTL_SECONDS},
        },
    });
    let name = match cluster.create(&query).await {
        Ok(object) => object.metadata.name.unwrap_or_default(),
        Err(failure) => return vec![Check::fail("run", failure.to_string(), "mend what the message names")],
    };
    let began = Instant::now();
    let mut last: Option<DistributedQuery> = None;
    let ended = tokio::select! {
        ended = follow(cluster, &name, |query| last = Some(query.clone())) => Some(ended),
        () = tokio::time::sleep(timeout) => None,
        _ = tokio::signal::ctrl_c() => None,
    };
    let mut checks = vec![judge(&name, ended, last.as_ref(), began.elapsed())];
    if let Some(query) = last.filter(|query| query.status.as_ref().is_some_and(|s| s.phase == Some(Phase::Succeeded))) {
        checks.push(read(cluster, &query).await);
    }
    if let Err(failure) = delete(cluster, &name).await {
        checks.push(Check::warn(
            "run",
            format!("query {name} is left: {failure}"),
            format!("{} delete {name}", crate::program::name()),
        ));
    }
    checks
}

fn judge(
    name: &str,
    ended: Option<Result<DistributedQuery, Failure>>,
    last: Option<&DistributedQuery>,
    took: Duration,
) -> Check {
    let took = human::duration(took);
    let status = last.and_then(|query| query.status.clone()).unwrap_or_default();
    match ended {
        Some(Ok(_)) if status.phase == Some(Phase::Succeeded) => {
            Check::ok("run", format!("query {name} has run: its pods started and worked together within {took}"))
        }
        Some(Err(failure)) => Check::fail("run", failure.to_string(), "mend what the message names"),
        Some(Ok(_)) | None => {
            let phase = status.phase.map_or("Pending, which nobody has taken up", Phase::as_str);
            let message = status.message.unwrap_or_default();
            let (what, to_do) =
                message.split_once(". To do: ").unwrap_or((&message, "see docs/troubleshooting-cluster.md"));
            let reason = status.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            Check::fail("run", format!("query {name} is {phase}{reason} after {took}: {what}"), to_do)
        }
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

async fn delete(cluster: &Cluster, name: &str) -> Result<(), Failure> {
    cluster.delete(name).await?;
    wait_until_gone(cluster, name, Instant::now() + GONE).await
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
        let check = judge("q", None, Some(&query), Duration::from_secs(120));
        assert_eq!(check.state, State::Fail);
        assert_eq!(check.message, "query q is Starting (Quota) after 2m 00s: no room");
        assert_eq!(check.to_do.as_deref(), Some("ask for less"));
        let check = judge("q", None, None, Duration::from_secs(1));
        assert!(check.message.contains("nobody has taken up"), "{check:?}");
    }
}
