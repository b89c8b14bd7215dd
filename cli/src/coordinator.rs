//! Reaches a query's coordinator through the API server: a port-forward to its pod, like that of `kubectl
//! port-forward`, and HTTP with the query's token over it. NetworkPolicies allow it, and no ingress is needed.

use std::time::Duration;

use floe_api::report::RunError;
use floe_api::{DistributedQuery, Phase};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::cluster::Cluster;
use crate::error::Failure;
use crate::program;

const PORT: u16 = 7071;
const ANSWER: Duration = Duration::from_secs(30);
/// Maximum size of a plan, a graph or an error; results are streamed.
const MAX_ANSWER_BYTES: usize = 64 << 20;

pub struct Coordinator {
    sender: SendRequest<Empty<Bytes>>,
    query: String,
    id: String,
    token: String,
}

impl Coordinator {
    /// Fails with `Missing` if the query has no coordinator now.
    pub async fn reach(cluster: &Cluster, query: &DistributedQuery) -> Result<Coordinator, Failure> {
        let name = query.metadata.name.clone().unwrap_or_default();
        let id = query.metadata.uid.clone().unwrap_or_default();
        let attempt = query.status.as_ref().and_then(|status| status.attempt).unwrap_or(1);
        let seat = query.status.as_ref().and_then(|status| status.context.as_ref());
        let pod = seat.map_or_else(|| format!("{name}-{attempt}-c"), |seat| seat.coordinator.clone());
        let running =
            cluster.ask(&format!("cannot read pod {pod} of query {name}"), cluster.pods().get_opt(&pod)).await?;
        let phase = running.and_then(|pod| pod.status).and_then(|status| status.phase);
        if phase.as_deref() != Some("Running") {
            return Err(Failure::Missing(gone(query, &name)));
        }
        // The operator includes the query's UID in the name: an earlier query of the same name has other Secrets.
        let secret = format!("{name}-floe-{attempt}-{}", id.split('-').next().unwrap_or_default());
        let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let what = format!("cannot read Secret {secret}, which holds the token of query {name}");
        let token = cluster.ask(&what, secrets.get_opt(&secret)).await?.and_then(|secret| secret.data?.remove("token"));
        let token = token.and_then(|token| String::from_utf8(token.0).ok()).ok_or_else(|| {
            Failure::Missing(format!("the token of query {name} (Secret {secret}) is gone, and its result with it"))
        })?;
        let what = format!("cannot forward a port to pod {pod} of query {name}");
        let mut forwarder = cluster.ask(&what, cluster.pods().portforward(&pod, &[PORT])).await?;
        let stream = forwarder
            .take_stream(PORT)
            .ok_or_else(|| Failure::Internal(format!("{what}: the forwarded port has no stream")))?;
        let silent = |error: hyper::Error| Failure::Cluster(format!("{what}: {error}"));
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(silent)?;
        tokio::spawn(async move {
            // If the connection fails, the pending answers report it.
            let _ = connection.await;
            drop(forwarder);
        });
        Ok(Coordinator { sender, query: name, id, token })
    }

    /// Requests something about the query; the body is yet to be read.
    pub async fn ask(&mut self, rest: &str) -> Result<Incoming, Failure> {
        let what = format!("the coordinator of query {}", self.query);
        let request = http::Request::builder()
            .method(Method::GET)
            .uri(format!("/api/v1/queries/{}{rest}", self.id))
            .header(http::header::HOST, "coordinator")
            .header(http::header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Empty::new())
            .map_err(|error| Failure::Internal(format!("no request can be made: {error}")))?;
        let answer = match tokio::time::timeout(ANSWER, self.sender.send_request(request)).await {
            Err(_) => return Err(Failure::Cluster(format!("{what} has not answered within {} s", ANSWER.as_secs()))),
            Ok(Err(error)) => return Err(Failure::Cluster(format!("{what} does not answer: {error}"))),
            Ok(Ok(answer)) => answer,
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(answer.into_body());
        }
        let body = self.whole(answer.into_body()).await?;
        let message = serde_json::from_slice::<RunError>(&body).map(|error| error.message);
        let message = message.unwrap_or_else(|_| String::from_utf8_lossy(&body).trim().to_owned());
        let told = format!("{what}: {message}");
        Err(match status {
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::CONFLICT => Failure::Missing(told),
            _ => Failure::Cluster(told),
        })
    }

    pub async fn text(&mut self, rest: &str) -> Result<String, Failure> {
        let body = self.ask(rest).await?;
        let whole = self.whole(body).await?;
        Ok(String::from_utf8_lossy(&whole).into_owned())
    }

    async fn whole(&self, body: Incoming) -> Result<Bytes, Failure> {
        let what = format!("the answer of the coordinator of query {}", self.query);
        let read = Limited::new(body, MAX_ANSWER_BYTES).collect();
        match tokio::time::timeout(ANSWER, read).await {
            Err(_) => Err(Failure::Cluster(format!("{what} has not come within {} s", ANSWER.as_secs()))),
            Ok(Err(error)) => Err(Failure::Cluster(format!("{what} broke off: {error}"))),
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
        }
    }
}

/// Why there is no coordinator to ask.
fn gone(query: &DistributedQuery, name: &str) -> String {
    let status = query.status.as_ref();
    match status.and_then(|status| status.phase) {
        None | Some(Phase::Pending | Phase::Starting) => {
            format!("query {name} has not started yet: `{} watch {name}` waits for it", program::name())
        }
        Some(Phase::Suspended) => format!("query {name} is suspended: `{} resume {name}` starts it", program::name()),
        Some(Phase::Succeeded) => {
            format!(
                "query {name} has ended and its coordinator is gone. A result without a sink is kept for ten minutes (or \
                 ttlSecondsAfterFinished.succeeded): write a sink to keep results"
            )
        }
        Some(Phase::Failed | Phase::Cancelled) => {
            format!("query {name} has ended without a result, and its coordinator is gone")
        }
        Some(Phase::Planning | Phase::Running | Phase::Committing) => {
            format!("the coordinator of query {name} is not running: another attempt may be about to start")
        }
    }
}
