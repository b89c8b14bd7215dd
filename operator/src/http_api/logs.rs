//! What the pods of a query log, together and in order, as `floe logs` has it. Pods that belong to the query, and of each no more than
//! its share of an answer that is bounded: the newest lines.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use floe_api::logline::{Line, Source};
use futures::{AsyncRead, AsyncReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams, LogParams};
use kube::{Api as Objects, Client};

use super::auth::{Act, Allowed, Resource};
use super::call::{self, Call};
use super::params::Params;
use super::problem::{Kind, Problem};
use super::{Api, object, view};
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
/// Of one pod, to find its last lines.
const MOST_READ: usize = 32 << 20;
/// Pods that are asked at the same time.
const AT_ONCE: usize = 8;
/// Time allowed to read one pod's log.
const POD: Duration = Duration::from_secs(10);

pub async fn read(api: Arc<Api>, call: Call) -> Result<Response, Problem> {
    let allowed = call::further(&api, &call.allowed, Resource::Pods, Act::Logs).await?;
    let selector = selector(call.allowed.name(), &call.params)?;
    let query = object::get(&api.client, &call.allowed).await?;
    let _slot = api.logs.take(&call.allowed.user().name).map_err(|_| {
        let mut problem = Problem::new(Kind::TooManyRequests, "too many logs are read at the same time");
        problem.retry_after_seconds = Some(2);
        problem
    })?;
    let found = pods(&api.client, &allowed, &query, &selector).await?;
    if found.pods.is_empty() {
        let is_chosen = call.params.text("role").or(call.params.text("worker")).is_some();
        return Err(Problem::new(Kind::NoLogs, none(call.allowed.name(), &query, is_chosen)));
    }
    let share = MOST_BYTES / found.pods.len();
    let how = params(&call.params);
    let asked = found.pods.into_iter().map(|(pod, source)| one(&api.client, &allowed, pod, source, &how, share));
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

/// Which pods are wanted, by their labels.
fn selector(query: &str, params: &Params) -> Result<String, Problem> {
    let query = format!("{LABEL_QUERY}={query}");
    match (params.text("role"), params.number("worker")) {
        (Some(_), Some(_)) => Err(Problem::field(Kind::Invalid, "worker", "is a worker by itself: leave out role")),
        (Some(role), None) => Ok(format!("{query},{LABEL_ROLE}={role}")),
        (None, Some(number)) => Ok(format!("{query},{LABEL_ROLE}=worker,{LABEL_INDEX}={number}")),
        (None, None) => Ok(query),
    }
}

fn params(params: &Params) -> LogParams {
    LogParams {
        container: Some(MAIN.to_owned()),
        tail_lines: i64::try_from(params.number("tail").unwrap_or(TAIL)).ok(),
        since_seconds: params.number("since").and_then(|since| i64::try_from(since).ok()),
        // By the kubelet, so that lines of all pods can be put in order.
        timestamps: true,
        ..LogParams::default()
    }
}

struct Found {
    pods: Vec<(String, Source)>,
    complete: bool,
}

/// The query's own pods whose container has begun: a label can be anybody's.
async fn pods(client: &Client, allowed: &Allowed, query: &DynamicObject, selector: &str) -> Result<Found, Problem> {
    let uid = query.metadata.uid.as_deref().unwrap_or_default();
    let few = ListParams::default().labels(selector).limit(500);
    let listed = objects(client, allowed)?.list(&few).await;
    let listed = listed.map_err(|error| Problem::of_kube("the query's pods cannot be listed", error))?;
    let begun = listed.items.iter().filter(|pod| is_owned(*pod, uid) && has_begun(pod)).filter_map(|pod| {
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
    share: usize,
) -> Result<(Vec<Line>, bool), Problem> {
    let api = objects(client, allowed)?;
    let log = async {
        let log = api.log_stream(&pod, how).await?;
        Ok::<_, kube::Error>(last(log, share).await)
    };
    match tokio::time::timeout(POD, log).await {
        Ok(Ok((text, whole))) => Ok((text.lines().map(|line| Line::read(&pod, source, line)).collect(), whole)),
        // It went while we looked.
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Ok((Vec::new(), true)),
        Ok(Err(error)) => Err(Problem::of_kube(&format!("the log of pod {pod} cannot be read"), error)),
        Err(_) => {
            let detail = format!("the log of pod {pod} did not come within {} s", POD.as_secs());
            Err(Problem::new(Kind::Unavailable, detail))
        }
    }
}

/// The last whole lines of a log, of so many bytes at most, and whether nothing else was there.
async fn last(log: impl AsyncRead, most: usize) -> (String, bool) {
    let mut log = pin!(log);
    let (mut kept, mut whole, mut read) = (Vec::new(), true, 0);
    let mut piece = vec![0; 16 << 10];
    loop {
        match log.read(&mut piece).await {
            Ok(0) => break,
            Ok(size) => {
                kept.extend_from_slice(&piece[..size]);
                read += size;
            }
            Err(error) => {
                tracing::debug!(%error, "a log broke off");
                whole = false;
                break;
            }
        }
        // Cut now and then, so that each byte is moved a few times at most.
        if kept.len() > 2 * most {
            cut(&mut kept, most);
        }
        if read > MOST_READ {
            whole = false;
            break;
        }
    }
    cut(&mut kept, most);
    if kept.len() < read {
        whole = false;
        // The first line may be the rest of one.
        let line = kept.iter().position(|byte| *byte == b'\n').map_or(kept.len(), |end| end + 1);
        kept.drain(..line);
    }
    (String::from_utf8_lossy(&kept).into_owned(), whole)
}

fn cut(kept: &mut Vec<u8>, most: usize) {
    kept.drain(..kept.len().saturating_sub(most));
}

fn none(name: &str, query: &DynamicObject, is_chosen: bool) -> String {
    if let Some(context) = query.data["spec"]["compute"]["contextRef"]["name"].as_str() {
        return format!(
            "query {name} has no pods of its own: it runs on context {context}, whose pods log for all its queries (`kubectl logs -l \
             floe.dev/context={context} --prefix --tail=-1`)"
        );
    }
    match view::has_ended(query) {
        true => format!(
            "query {name} has ended and its pods are gone, their logs with them: spec.keepFailedPodsSeconds keeps those of a query \
             that fails, and a log collector of the cluster may have them all"
        ),
        false if is_chosen => format!("query {name} has no such pod with a log now"),
        false => format!("no pod of query {name} has started yet: its address with /progress tells when it runs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::Cursor;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn the_last_whole_lines_are_kept() {
        let log = |text: &str, most| last(Cursor::new(text.as_bytes().to_vec()), most);
        assert_eq!(log("", 8).await, (String::new(), true));
        assert_eq!(log("one\ntwo\n", 8).await, ("one\ntwo\n".to_owned(), true));
        assert_eq!(log("one\ntwo\nsix\n", 8).await, ("six\n".to_owned(), false));
        assert_eq!(log("one\ntwo\nsix\n", 9).await, ("two\nsix\n".to_owned(), false));
        assert_eq!(log("a line without an end", 8).await, (String::new(), false));
        let long: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
        let (text, whole) = log(&long, 1000).await;
        assert!(!whole && text.len() <= 1000 && text.len() > 980);
        assert!(text.starts_with("line ") && text.ends_with("line 99999\n"), "{text}");
    }

    #[test]
    fn pods_are_chosen_by_their_labels() {
        let params = |query: &str| Params::read(query, crate::http_api::operations::LOGS).unwrap();
        let chosen = |query: &str| selector("q", &params(query)).map_err(|problem| problem.errors[0].field.clone());
        assert_eq!(chosen("").unwrap(), "floe.dev/query=q");
        assert_eq!(chosen("role=coordinator").unwrap(), "floe.dev/query=q,floe.dev/role=coordinator");
        assert_eq!(chosen("worker=2").unwrap(), "floe.dev/query=q,floe.dev/role=worker,floe.dev/worker=2");
        assert_eq!(chosen("worker=2&role=worker").unwrap_err(), "worker");
        let how = super::params(&params("tail=5&since=60"));
        assert_eq!((how.tail_lines, how.since_seconds, how.timestamps), (Some(5), Some(60), true));
        assert_eq!(super::params(&params("")).tail_lines, Some(1000));
    }

    #[test]
    fn why_there_is_no_log_is_told() {
        let query = |spec: Value, phase: &str| -> DynamicObject {
            serde_json::from_value(json!({"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
                "metadata": {"name": "q"}, "spec": spec, "status": {"phase": phase}}))
            .unwrap()
        };
        let lent = json!({"compute": {"contextRef": {"name": "warm"}}});
        for (query, is_chosen, part) in [
            (query(lent, "Running"), false, "floe.dev/context=warm"),
            (query(json!({}), "Failed"), true, "keepFailedPodsSeconds"),
            (query(json!({}), "Running"), true, "no such pod"),
            (query(json!({}), "Pending"), false, "/progress"),
        ] {
            let told = none("q", &query, is_chosen);
            assert!(told.contains(part), "{told}");
        }
    }
}
