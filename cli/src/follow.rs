//! Follows a query on a cluster to its end, across watches that break off and servers that come back.

use std::time::Duration;

use floe_api::{DistributedQuery, Phase};
use futures::StreamExt as _;
use kube::api::{WatchEvent, WatchParams};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::error::Failure;

/// Restart watches after this time; the API server ends longer ones.
const WATCH_SECONDS: u32 = 240;
/// A watch without any event for this long is dead.
const WATCH_TIMEOUT: Duration = Duration::from_secs(270);
const ANSWER: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);
/// How long a cluster that has answered before may be unavailable.
const AWAY: Duration = Duration::from_secs(60);

/// Calls `tell` with the query at every change until it has ended; returns its final state.
pub async fn follow(
    cluster: &Cluster,
    name: &str,
    mut tell: impl FnMut(&DistributedQuery),
) -> Result<DistributedQuery, Failure> {
    let what = format!("cannot follow query {name}");
    // UID of the query first found: another one of the same name is not followed.
    let mut uid: Option<String> = None;
    let mut well_at: Option<Instant> = None;
    loop {
        let mut heard = |query: &DistributedQuery| {
            well_at = Some(Instant::now());
            tell(query);
        };
        match once(cluster, name, &mut uid, &mut heard).await {
            Ok(Seen::Ended(query)) => return Ok(*query),
            Ok(Seen::Broken) => well_at = Some(Instant::now()),
            Ok(Seen::Gone) if uid.is_some() => {
                return Err(Failure::Missing(format!("query {name} was deleted before it ended")));
            }
            Ok(Seen::Gone) => return Err(cluster.missing(name)),
            Err(error) => {
                let failure = match error {
                    Some(error) => cluster.refused.tell(&what, &error),
                    None => cluster.refused.silent(&what, ANSWER),
                };
                // A refusal is permanent; a server that is unavailable may come back, if it ever answered.
                let may_pass = matches!(failure, Failure::Cluster(_)) && well_at.is_some_and(|at| at.elapsed() < AWAY);
                if !may_pass {
                    return Err(failure);
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

enum Seen {
    Ended(Box<DistributedQuery>),
    /// The watch has ended but the query has not.
    Broken,
    Gone,
}

/// Reads and watches once. An error without content means that the server did not answer in time.
async fn once(
    cluster: &Cluster,
    name: &str,
    uid: &mut Option<String>,
    tell: &mut impl FnMut(&DistributedQuery),
) -> Result<Seen, Option<kube::Error>> {
    let queries = cluster.queries();
    let found = tokio::time::timeout(ANSWER, queries.get_opt(name)).await.map_err(|_| None)?;
    let Some(query) = found.map_err(Some)? else { return Ok(Seen::Gone) };
    if uid.is_some() && *uid != query.metadata.uid {
        return Ok(Seen::Gone);
    }
    *uid = query.metadata.uid.clone();
    let version = query.metadata.resource_version.clone().unwrap_or_default();
    tell(&query);
    if has_ended(&query) {
        return Ok(Seen::Ended(Box::new(query)));
    }
    let only = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
    let watch = tokio::time::timeout(ANSWER, queries.watch(&only, &version)).await.map_err(|_| None)?;
    let mut events = watch.map_err(Some)?.boxed();
    while let Ok(Some(event)) = tokio::time::timeout(WATCH_TIMEOUT, events.next()).await {
        match event.map_err(Some)? {
            WatchEvent::Added(query) | WatchEvent::Modified(query) => {
                tell(&query);
                if has_ended(&query) {
                    return Ok(Seen::Ended(Box::new(query)));
                }
            }
            WatchEvent::Deleted(_) => return Ok(Seen::Gone),
            WatchEvent::Error(_) => break,
            WatchEvent::Bookmark(_) => {}
        }
    }
    Ok(Seen::Broken)
}

pub fn has_ended(query: &DistributedQuery) -> bool {
    query.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::is_terminal)
}
