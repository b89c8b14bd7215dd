//! Follows a query on a cluster to its end, over watches that break off and servers that come back.

use std::time::Duration;

use floe_api::{DistributedQuery, Phase};
use futures::StreamExt as _;
use kube::api::{WatchEvent, WatchParams};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::error::Failure;

/// Watches are begun anew after this time; the API server ends longer ones.
const WATCH_SECONDS: u32 = 240;
/// A watch that says nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(270);
const ANSWER: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);
/// How long a cluster that has answered before may be away.
const AWAY: Duration = Duration::from_secs(60);

/// Calls `tell` with the query at every change until it has ended; returns it as it was then.
pub async fn follow(
    cluster: &Cluster,
    name: &str,
    mut tell: impl FnMut(&DistributedQuery),
) -> Result<DistributedQuery, Failure> {
    let what = format!("cannot follow query {name}");
    // Of the query that was found first: another one of its name is none of ours.
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
                // What is refused stays so; a server that is away may come back, if it was ever there.
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
    /// The watch is over and the query goes on.
    Broken,
    Gone,
}

/// Reads and watches once. An error without content is a server that did not answer in time.
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
    while let Ok(Some(event)) = tokio::time::timeout(SILENCE, events.next()).await {
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
