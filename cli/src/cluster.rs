//! Creates, watches and cancels queries on a cluster, through the user's kubeconfig. The operator runs them; nothing here
//! starts a process.

use std::time::Duration;

use floe_api::{DistributedQuery, DistributedQueryStatus, Phase};
use futures::StreamExt as _;
use kube::api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};

use crate::error::Failure;

/// Watches are restarted after this time; the API server ends longer ones.
const WATCH_SECONDS: u32 = 240;
const RETRY: Duration = Duration::from_secs(1);
/// A watch gives up after this many failures in a row.
const RETRIES: u32 = 30;

/// Which cluster and namespace.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ClusterArgs {
    /// Namespace of the query [default: that of the kubeconfig's context]
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig
    #[arg(long)]
    pub context: Option<String>,
}

pub struct Cluster {
    queries: Api<DistributedQuery>,
    pub namespace: String,
}

fn api_failure(what: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => Failure::Cluster(format!("{what}: {}", status.message)),
        other => Failure::Cluster(format!("{what}: {other}")),
    }
}

impl Cluster {
    pub async fn connect(args: &ClusterArgs) -> Result<Cluster, Failure> {
        let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let config = match (&args.context, Config::infer().await) {
            (None, Ok(config)) => config,
            (None, Err(error)) => return Err(Failure::Cluster(format!("no cluster is configured: {error}"))),
            (Some(_), _) => Config::from_kubeconfig(&options)
                .await
                .map_err(|error| Failure::Cluster(format!("the kubeconfig cannot be used: {error}")))?,
        };
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| api_failure("cannot reach the cluster", &error))?;
        Ok(Cluster { queries: Api::namespaced(client, &namespace), namespace })
    }

    /// Returns the query's name.
    pub async fn create(&self, query: &DistributedQuery) -> Result<String, Failure> {
        let created = self.queries.create(&PostParams::default(), query).await;
        let name = query.metadata.name.as_deref().unwrap_or_default();
        let created = created.map_err(|error| api_failure(&format!("cannot create query {name}"), &error))?;
        Ok(created.metadata.name.unwrap_or_default())
    }

    /// Asks the operator to stop the query for good.
    pub async fn cancel(&self, name: &str) -> Result<(), Failure> {
        let patch = Patch::Merge(serde_json::json!({"spec": {"cancel": true}}));
        let patched = self.queries.patch(name, &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(|error| api_failure(&format!("cannot cancel query {name}"), &error))
    }

    /// Calls `tell` with every change until the query has ended; returns its last status.
    pub async fn follow(
        &self,
        name: &str,
        mut tell: impl FnMut(&DistributedQueryStatus),
    ) -> Result<DistributedQueryStatus, Failure> {
        let mut failures = 0;
        loop {
            match self.follow_once(name, &mut tell).await {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => failures = 0,
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    return Err(Failure::Cluster(format!("there is no query {name} in namespace {}", self.namespace)));
                }
                Err(error) if failures >= RETRIES => return Err(api_failure("the cluster does not answer", &error)),
                Err(_) => {
                    failures += 1;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Reads and watches once; `None` if the watch ended before the query.
    async fn follow_once(
        &self,
        name: &str,
        tell: &mut impl FnMut(&DistributedQueryStatus),
    ) -> kube::Result<Option<DistributedQueryStatus>> {
        let query = self.queries.get(name).await?;
        let version = query.metadata.resource_version.clone().unwrap_or_default();
        if let Some(ended) = look(&query, tell) {
            return Ok(Some(ended));
        }
        let only = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
        let mut events = self.queries.watch(&only, &version).await?.boxed();
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(query) | WatchEvent::Modified(query) => {
                    if let Some(ended) = look(&query, tell) {
                        return Ok(Some(ended));
                    }
                }
                WatchEvent::Deleted(_) | WatchEvent::Error(_) => break,
                WatchEvent::Bookmark(_) => {}
            }
        }
        Ok(None)
    }
}

/// Calls `tell` with the status; returns it if it is final.
fn look(query: &DistributedQuery, tell: &mut impl FnMut(&DistributedQueryStatus)) -> Option<DistributedQueryStatus> {
    let status = query.status.as_ref()?;
    tell(status);
    status.phase.is_some_and(Phase::is_terminal).then(|| status.clone())
}
