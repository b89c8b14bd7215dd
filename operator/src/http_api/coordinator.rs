//! Reads a query's result from its coordinator. The coordinator runs users' code: nothing of its answer is trusted but
//! the bytes of the result, which are passed on under a content type that was decided before.

use std::time::Duration;

use floe_api::report::RunError;
use floe_api::validate::is_object_name;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::DynamicObject;
use kube::{Api, Client};
use reqwest::StatusCode;

use super::auth::{Act, Allowed};
use super::problem::{Kind, Problem};
use crate::poll::at;
use crate::query::build::{HTTP_PORT, read_first};
use crate::query::names::{self, Place};
use crate::query::observe::is_owned;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Abort if the coordinator sends nothing for this long.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
const MAX_REFUSAL_BYTES: usize = 64 << 10;
/// Response header: the number of rows skipped.
const OFFSET: &str = "floe-offset";

pub struct Coordinators {
    http: reqwest::Client,
}

/// Where a coordinator is, and the token that it accepts.
pub struct Reached {
    url: String,
    token: String,
}

impl Coordinators {
    pub fn new() -> reqwest::Result<Self> {
        // Pods are reached directly, and must not redirect the operator elsewhere.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Coordinators { http })
    }

    /// Requests the result; its bytes are yet to be read.
    pub async fn result(
        &self,
        coordinator: &Reached,
        format: &str,
        offset: u64,
        rows: Option<u64>,
    ) -> Result<reqwest::Response, Problem> {
        let rows = rows.map(|rows| format!("&rows={rows}")).unwrap_or_default();
        let url = format!("{}/result?format={format}&offset={offset}{rows}", coordinator.url);
        let answer = self.http.get(url).bearer_auth(&coordinator.token).send().await.map_err(|error| {
            let connect = if error.is_connect() { "cannot be reached" } else { "does not answer" };
            tracing::warn!(%error, "a coordinator {connect}");
            Problem::new(Kind::Coordinator, format!("the query's coordinator {connect}"))
        })?;
        match answer.status() {
            status if status.is_success() => {
                let told = answer.headers().get(OFFSET).and_then(|told| told.to_str().ok()?.parse::<u64>().ok());
                // An older runner ignores parameters that it does not know.
                if told != Some(offset) {
                    return Err(older());
                }
                Ok(answer)
            }
            status => Err(refused(status, message(answer).await)),
        }
    }
}

fn older() -> Problem {
    Problem::new(
        Kind::Coordinator,
        "the query's image is of an older release than the operator and gives no such result: take the operator's own runner image",
    )
}

fn refused(status: StatusCode, message: String) -> Problem {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Problem::new(Kind::ResultGone, message),
        StatusCode::CONFLICT => Problem::new(Kind::NotEnded, message),
        StatusCode::UNPROCESSABLE_ENTITY => Problem::field(Kind::Invalid, "format", message),
        StatusCode::BAD_REQUEST => older(),
        _ => Problem::new(Kind::Coordinator, format!("the query's coordinator answers {}: {message}", status.as_u16())),
    }
}

/// Reads the message of a refusal, if it is short enough.
async fn message(mut answer: reqwest::Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        if body.len() + chunk.len() > MAX_REFUSAL_BYTES {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice::<RunError>(&body).map(|error| error.message).unwrap_or_default()
}

/// Finds the coordinator of a query that keeps its result.
pub async fn reach(client: &Client, allowed: &Allowed, query: &DynamicObject) -> Result<Reached, Problem> {
    if allowed.question().act != Act::Read {
        return Err(Problem::new(Kind::Internal, "reading was not asked for"));
    }
    let (namespace, name) = (allowed.namespace(), allowed.name());
    let uid = query.metadata.uid.clone().unwrap_or_default();
    let attempt = query.data["status"]["attempt"].as_u64().and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1);
    let gone = || {
        Problem::new(
            Kind::ResultGone,
            format!(
                "the result of query {name} is gone with its coordinator: a result without a sink is kept for \
                 ttlSecondsAfterFinished.succeeded, or for ten minutes; give the query a sink to keep it"
            ),
        )
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let seat = Seat::of(query, name, &uid, attempt);
    let pod = pods.get_opt(&seat.pod).await;
    let pod = pod.map_err(|error| Problem::of_kube("the coordinator's pod cannot be read", error))?;
    let pod = pod.filter(|pod| seat.is(pod)).and_then(|pod| pod.status).ok_or_else(gone)?;
    let ip = pod.pod_ip.filter(|_| pod.phase.as_deref() == Some("Running")).ok_or_else(gone)?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get_opt(&names::job_secret(name, &uid, attempt)).await;
    let secret = secret.map_err(|error| Problem::of_kube("the query's Secret cannot be read", error))?;
    let secret = secret.filter(|secret| is_owned(secret, &uid));
    let (_, _, token) = secret.as_ref().and_then(read_first).ok_or_else(gone)?;
    Ok(Reached { url: format!("http://{}/api/v1/queries/{uid}", at(&ip, HTTP_PORT)), token })
}

/// Identifies the pod that has the result.
struct Seat {
    pod: String,
    whose: Whose,
}

enum Whose {
    /// The coordinator of the query with this UID.
    Query(String),
    /// The coordinator of a context; the UID is the pod's, from the status.
    Context(String),
}

impl Seat {
    fn of(query: &DynamicObject, name: &str, uid: &str, attempt: u32) -> Seat {
        let borrowed = &query.data["status"]["context"];
        // The name becomes part of a URL.
        let lent = borrowed["coordinator"].as_str().filter(|pod| is_object_name(pod));
        match (lent, borrowed["coordinatorUid"].as_str()) {
            (Some(pod), Some(uid)) => Seat { pod: pod.to_owned(), whose: Whose::Context(uid.to_owned()) },
            _ => Seat { pod: Place::Coordinator { attempt }.name(name), whose: Whose::Query(uid.to_owned()) },
        }
    }

    /// Whether this is that pod. The name alone proves nothing: no pod gets a query's token because of its name.
    fn is(&self, pod: &Pod) -> bool {
        match &self.whose {
            Whose::Query(uid) => is_owned(pod, uid),
            Whose::Context(uid) => {
                let owners = pod.metadata.owner_references.iter().flatten();
                let mut kinds = owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.kind.as_str());
                pod.metadata.uid.as_deref() == Some(uid) && kinds.any(|kind| kind == "ComputeContext")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::RawQuery;
    use axum::http::{HeaderMap, HeaderValue};
    use axum::routing::get;
    use serde_json::json;

    async fn serving(router: Router) -> Reached {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Reached { url, token: "secret".into() }
    }

    async fn asked(router: Router) -> Result<Vec<u8>, Problem> {
        let coordinator = serving(router).await;
        let answer = Coordinators::new().unwrap().result(&coordinator, "csv", 3, Some(2)).await?;
        Ok(answer.bytes().await.unwrap().to_vec())
    }

    #[test]
    fn the_result_is_with_the_query_or_with_the_context_that_ran_it() {
        let query = |status: serde_json::Value| -> DynamicObject {
            serde_json::from_value(json!({"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
                "metadata": {"name": "q"}, "status": status}))
            .unwrap()
        };
        let pod = |uid: &str, kind: &str, owner: &str| -> Pod {
            let owner =
                json!({"apiVersion": "floe.dev/v1alpha1", "kind": kind, "name": "x", "uid": owner, "controller": true});
            serde_json::from_value(json!({"metadata": {"uid": uid, "ownerReferences": [owner]}})).unwrap()
        };
        let own = Seat::of(&query(json!({"attempt": 2})), "q", "u", 2);
        assert_eq!(own.pod, "q-2-c");
        assert!(own.is(&pod("p", "DistributedQuery", "u")) && !own.is(&pod("p", "DistributedQuery", "other")));
        let borrowed = json!({"name": "warm", "coordinator": "warm-g1-c", "coordinatorUid": "p"});
        let lent = Seat::of(&query(json!({"context": borrowed})), "q", "u", 1);
        assert_eq!(lent.pod, "warm-g1-c");
        assert!(lent.is(&pod("p", "ComputeContext", "c")));
        assert!(!lent.is(&pod("another", "ComputeContext", "c")) && !lent.is(&pod("p", "DistributedQuery", "u")));
        let odd = json!({"context": {"coordinator": "../secrets/x", "coordinatorUid": "p"}});
        assert_eq!(Seat::of(&query(odd), "q", "u", 1).pod, "q-1-c");
    }

    #[tokio::test]
    async fn an_offset_must_be_understood() {
        async fn good(headers: HeaderMap, RawQuery(query): RawQuery) -> ([(&'static str, &'static str); 1], String) {
            assert_eq!(headers["authorization"], "Bearer secret");
            ([(OFFSET, "3")], query.unwrap_or_default())
        }
        assert_eq!(asked(Router::new().route("/result", get(good))).await.unwrap(), b"format=csv&offset=3&rows=2");
        for told in [None, Some("0"), Some("x")] {
            let mut headers = HeaderMap::new();
            if let Some(told) = told {
                headers.insert(OFFSET, HeaderValue::from_static(told));
            }
            let old = move || std::future::ready((headers.clone(), "all rows"));
            let problem = asked(Router::new().route("/result", get(old))).await.unwrap_err();
            assert_eq!(problem.kind, Kind::Coordinator, "{told:?}");
        }
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_meaning_and_is_short() {
        let words = r#"{"category": "User", "class": "X", "message": "why"}"#;
        for (status, kind) in [
            (StatusCode::NOT_FOUND, Kind::ResultGone),
            (StatusCode::GONE, Kind::ResultGone),
            (StatusCode::CONFLICT, Kind::NotEnded),
            (StatusCode::UNPROCESSABLE_ENTITY, Kind::Invalid),
            (StatusCode::UNAUTHORIZED, Kind::Coordinator),
            (StatusCode::FOUND, Kind::Coordinator),
        ] {
            let answer = (status, words.to_owned());
            let router = Router::new().fallback(move || std::future::ready(answer.clone()));
            let problem = asked(router).await.unwrap_err();
            assert!(problem.kind == kind && problem.detail.contains("why"), "{status} {}", problem.detail);
        }
        let long = (StatusCode::NOT_FOUND, " ".repeat(MAX_REFUSAL_BYTES + 1) + words);
        let problem = asked(Router::new().fallback(move || std::future::ready(long.clone()))).await.unwrap_err();
        assert_eq!((problem.kind, problem.detail.as_str()), (Kind::ResultGone, ""));
    }
}
