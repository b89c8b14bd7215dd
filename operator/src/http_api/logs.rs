//! What the pods of a query log, together and in order, as `floe logs` has it: all of its own pods, the lines that name it of the pods
//! of a context. Of each pod no more than its share of an answer that is bounded: the newest lines.

mod tail;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use floe_api::logline::{Line, Source};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams, LogParams};
use kube::{Api as Objects, Client};

use super::auth::{Act, Allowed, Resource};
use super::call::{self, Call};
use super::params::Params;
use super::problem::{Kind, Problem};
use super::{Api, object, view};
use crate::context::names::LABEL_CONTEXT;
use crate::query::kubelet::MAIN;
use crate::query::names::{LABEL_INDEX, LABEL_QUERY, LABEL_ROLE};
use crate::query::observe::is_owned;

pub const COMPLETE: HeaderName = HeaderName::from_static("floe-log-complete");
pub const FORMATS: &[&str] = &["json", "text"];
pub const ROLES: &[&str] = &["coordinator", "worker"];
/// Default number of lines per pod.
const TAIL: u64 = 1000;
pub const MOST_TAIL: u64 = 10_000;
const MOST_PODS: usize = 64;
/// Maximum bytes of a whole answer, as the pods wrote them.
const MOST_BYTES: usize = 1 << 20;
/// Pods that are asked at the same time.
const AT_ONCE: usize = 8;
/// Time allowed to read one pod's log.
const POD: Duration = Duration::from_secs(10);
/// How far the clock of a node may be behind that of the API server.
const CLOCKS: SignedDuration = SignedDuration::from_secs(10);

pub async fn read(api: Arc<Api>, call: Call) -> Result<Response, Problem> {
    let allowed = call::further(&api, &call.allowed, Resource::Pods, Act::Logs).await?;
    let chosen = chosen(&call.params)?;
    let query = object::get(&api.client, &call.allowed).await?;
    let whose = Whose::of(&query, call.allowed.name());
    let _slot = api.logs.take(&call.allowed.user().name).map_err(|_| {
        let mut problem = Problem::new(Kind::TooManyRequests, "too many logs are read at the same time");
        problem.retry_after_seconds = Some(2);
        problem
    })?;
    let found = pods(&api.client, &allowed, &whose, &format!("{}{chosen}", whose.selector)).await?;
    if found.pods.is_empty() {
        return Err(Problem::new(Kind::NoLogs, whose.none(!chosen.is_empty())));
    }
    let share = MOST_BYTES / found.pods.len();
    let how = whose.params(&call.params);
    let lines = tail::Most { bytes: share, lines: tail(&call.params) };
    let asked =
        found.pods.into_iter().map(|(pod, source)| one(&api.client, &allowed, pod, source, &how, &whose, lines));
    let logs: Vec<(Vec<Line>, bool)> = futures::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    let complete = found.complete && logs.iter().all(|(_, whole)| *whole);
    let mut lines: Vec<Line> = logs.into_iter().flat_map(|(lines, _)| lines).collect();
    if let Some(stage) = call.params.number("stage") {
        lines.retain(|line| line.stage.map(u64::from) == Some(stage));
    }
    lines.sort_by(|a, b| a.time.cmp(&b.time));
    let headers = [(COMPLETE, complete.to_string()), (header::CACHE_CONTROL, "no-store".to_owned())];
    if call.params.text("format") == Some("text") {
        let text: String = lines.iter().flat_map(|line| [line.text(), "\n".to_owned()]).collect();
        return Ok((headers, text).into_response());
    }
    Ok((headers, Json(view::Logs { complete, lines: lines.iter().map(Line::json).collect() })).into_response())
}

/// Which of the pods are wanted, as a part of a selector.
fn chosen(params: &Params) -> Result<String, Problem> {
    match (params.text("role"), params.number("worker")) {
        (Some(_), Some(_)) => Err(Problem::field(Kind::Invalid, "worker", "is a worker by itself: leave out role")),
        (Some(role), None) => Ok(format!(",{LABEL_ROLE}={role}")),
        (None, Some(number)) => Ok(format!(",{LABEL_ROLE}=worker,{LABEL_INDEX}={number}")),
        (None, None) => Ok(String::new()),
    }
}

/// Lines of a pod.
fn tail(params: &Params) -> usize {
    params.number("tail").unwrap_or(TAIL) as usize
}

/// Whose pods have the lines.
struct Whose<'a> {
    name: &'a str,
    uid: &'a str,
    has_ended: bool,
    /// The context that it runs on, whose pods log for other queries, too.
    context: Option<&'a str>,
    created_at: Option<Timestamp>,
    selector: String,
}

impl<'a> Whose<'a> {
    fn of(query: &'a DynamicObject, name: &'a str) -> Whose<'a> {
        let context = query.data["spec"]["compute"]["contextRef"]["name"].as_str();
        Whose {
            name,
            uid: query.metadata.uid.as_deref().unwrap_or_default(),
            has_ended: view::has_ended(query),
            context,
            created_at: query.metadata.creation_timestamp.as_ref().map(|at| at.0),
            selector: match context {
                Some(context) => format!("{LABEL_CONTEXT}={context}"),
                None => format!("{LABEL_QUERY}={name}"),
            },
        }
    }

    /// A label can be anybody's.
    fn has(&self, pod: &Pod) -> bool {
        let Some(context) = self.context else { return is_owned(pod, self.uid) };
        let mut owners = pod.metadata.owner_references.iter().flatten();
        owners.any(|owner| owner.kind == "ComputeContext" && owner.name == context && owner.controller == Some(true))
    }

    /// By what its lines are known in a log of many queries.
    fn about(&self) -> Option<&'a str> {
        self.context.map(|_| self.uid)
    }

    fn params(&self, params: &Params) -> LogParams {
        let since = params.number("since").and_then(|since| i64::try_from(since).ok());
        // The last lines of a pod that serves others may all be theirs, and there are none from before the query came.
        let since_time = self.created_at.filter(|_| self.context.is_some() && since.is_none());
        LogParams {
            container: Some(MAIN.to_owned()),
            tail_lines: i64::try_from(tail(params)).ok().filter(|_| self.context.is_none()),
            since_seconds: since,
            since_time: since_time.and_then(|at| at.checked_sub(CLOCKS).ok()),
            // By the kubelet, so that lines of all pods can be put in order.
            timestamps: true,
            ..LogParams::default()
        }
    }

    /// Why there is no pod.
    fn none(&self, is_chosen: bool) -> String {
        let name = self.name;
        match self.context {
            _ if is_chosen => format!("query {name} has no such pod with a log now"),
            Some(context) => format!("query {name} runs on context {context}, which has no pods now"),
            None if self.has_ended => format!(
                "query {name} has ended and its pods are gone, their logs with them: spec.keepFailedPodsSeconds keeps those of a \
                 query that fails, and a log collector of the cluster may have them all"
            ),
            None => format!("no pod of query {name} has started yet: its address with /progress tells when it runs"),
        }
    }
}

struct Found {
    pods: Vec<(String, Source)>,
    complete: bool,
}

/// The pods whose container has begun.
async fn pods(client: &Client, allowed: &Allowed, whose: &Whose<'_>, selector: &str) -> Result<Found, Problem> {
    let few = ListParams::default().labels(selector).limit(500);
    let listed = objects(client, allowed)?.list(&few).await;
    let listed = listed.map_err(|error| Problem::of_kube("the query's pods cannot be listed", error))?;
    let begun = listed.items.iter().filter(|pod| whose.has(pod) && has_begun(pod)).filter_map(|pod| {
        let source = Source::of_labels(pod.metadata.labels.as_ref()?)?;
        Some((pod.metadata.name.clone()?, source))
    });
    let mut pods: Vec<_> = begun.collect();
    pods.sort_by_key(|(_, source)| *source);
    let more = listed.metadata.continue_.is_some_and(|token| !token.is_empty());
    let complete = !more && pods.len() <= MOST_PODS;
    pods.truncate(MOST_PODS);
    Ok(Found { pods, complete })
}

fn objects(client: &Client, allowed: &Allowed) -> Result<Objects<Pod>, Problem> {
    if (allowed.question().resource, allowed.question().act) != (Resource::Pods, Act::Logs) {
        return Err(Problem::new(Kind::Internal, "reading logs was not asked for"));
    }
    Ok(Objects::namespaced(client.clone(), allowed.namespace()))
}

fn has_begun(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut states = statuses.filter(|status| status.name == MAIN).filter_map(|status| status.state.as_ref());
    states.any(|state| state.running.is_some() || state.terminated.is_some())
}

/// The lines of a pod, and whether these are all that were asked for.
async fn one(
    client: &Client,
    allowed: &Allowed,
    pod: String,
    source: Source,
    how: &LogParams,
    whose: &Whose<'_>,
    most: tail::Most,
) -> Result<(Vec<Line>, bool), Problem> {
    let api = objects(client, allowed)?;
    let log = async {
        let log = api.log_stream(&pod, how).await?;
        Ok::<_, kube::Error>(tail::read(log, most, whose.about()).await)
    };
    match tokio::time::timeout(POD, log).await {
        Ok(Ok((lines, whole))) => Ok((lines.iter().map(|line| Line::read(&pod, source, line)).collect(), whole)),
        // It went while we looked.
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Ok((Vec::new(), true)),
        Ok(Err(error)) => Err(Problem::of_kube(&format!("the log of pod {pod} cannot be read"), error)),
        Err(_) => {
            let detail = format!("the log of pod {pod} did not come within {} s", POD.as_secs());
            Err(Problem::new(Kind::Unavailable, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn query(spec: Value, phase: &str) -> DynamicObject {
        serde_json::from_value(json!({"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
            "metadata": {"name": "q", "uid": "u-1", "creationTimestamp": "2026-01-01T00:01:00Z"},
            "spec": spec, "status": {"phase": phase}}))
        .unwrap()
    }

    fn lent() -> DynamicObject {
        query(json!({"compute": {"contextRef": {"name": "warm"}}}), "Running")
    }

    fn params(query: &str) -> Params {
        Params::read(query, crate::http_api::operations::LOGS).unwrap()
    }

    #[test]
    fn pods_are_chosen_by_their_labels() {
        let chosen = |query: &str| super::chosen(&params(query)).map_err(|problem| problem.errors[0].field.clone());
        assert_eq!(chosen("").unwrap(), "");
        assert_eq!(chosen("role=coordinator").unwrap(), ",floe.dev/role=coordinator");
        assert_eq!(chosen("worker=2").unwrap(), ",floe.dev/role=worker,floe.dev/worker=2");
        assert_eq!(chosen("worker=2&role=worker").unwrap_err(), "worker");
        let own = query(json!({}), "Running");
        assert_eq!(Whose::of(&own, "q").selector, "floe.dev/query=q");
        assert_eq!(Whose::of(&lent(), "q").selector, "floe.dev/context=warm");
    }

    #[test]
    fn a_label_does_not_make_a_pod_of_the_query_or_its_context() {
        let owned = |kind: &str, name: &str, uid: &str, controller: bool| -> Pod {
            let owner = json!({"apiVersion": "floe.dev/v1alpha1", "kind": kind, "name": name, "uid": uid, "controller": controller});
            serde_json::from_value(json!({"metadata": {"ownerReferences": [owner]}})).unwrap()
        };
        let (own, lent) = (query(json!({}), "Running"), lent());
        let (own, lent) = (Whose::of(&own, "q"), Whose::of(&lent, "q"));
        assert!(own.has(&owned("DistributedQuery", "q", "u-1", true)) && !own.has(&Pod::default()));
        assert!(!own.has(&owned("DistributedQuery", "q", "of-an-earlier-one", true)));
        assert!(lent.has(&owned("ComputeContext", "warm", "c-1", true)) && !lent.has(&Pod::default()));
        assert!(!lent.has(&owned("ComputeContext", "cold", "c-1", true)));
        assert!(!lent.has(&owned("ComputeContext", "warm", "c-1", false)));
        assert!(!lent.has(&owned("DistributedQuery", "warm", "c-1", true)));
    }

    #[test]
    fn of_pods_that_serve_others_too_more_is_read_than_the_last_lines() {
        let own = query(json!({}), "Running");
        let how = Whose::of(&own, "q").params(&params("tail=5&since=60"));
        assert_eq!((how.tail_lines, how.since_seconds, how.timestamps), (Some(5), Some(60), true));
        assert_eq!(Whose::of(&own, "q").params(&params("")).tail_lines, Some(1000));
        let lent = lent();
        let how = Whose::of(&lent, "q").params(&params("tail=5"));
        assert_eq!((how.tail_lines, how.since_seconds), (None, None));
        assert_eq!(how.since_time.unwrap().to_string(), "2026-01-01T00:00:50Z");
        let how = Whose::of(&lent, "q").params(&params("since=60"));
        assert_eq!((how.since_seconds, how.since_time), (Some(60), None), "the kubelet takes one of them");
        assert_eq!((Whose::of(&lent, "q").about(), Whose::of(&own, "q").about()), (Some("u-1"), None));
    }

    #[test]
    fn why_there_is_no_log_is_told() {
        for (query, is_chosen, part) in [
            (lent(), false, "context warm, which has no pods"),
            (lent(), true, "no such pod"),
            (query(json!({}), "Failed"), true, "no such pod"),
            (query(json!({}), "Failed"), false, "keepFailedPodsSeconds"),
            (query(json!({}), "Pending"), false, "/progress"),
        ] {
            let told = Whose::of(&query, "q").none(is_chosen);
            assert!(told.contains(part), "{told}");
        }
    }
}
