//! Whole requests against a mocked cluster: what is asked of it before anything is done, and what is not asked at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use kube::Client;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Api, Limits, Settings, operations};
use crate::metrics::Metrics;

const QUERIES: &str = "/apis/floe.dev/v1alpha1/namespaces/n/distributedqueries";
const CONTEXTS: &str = "/apis/floe.dev/v1alpha1/namespaces/n/computecontexts";
const PODS: &str = "/api/v1/namespaces/n/pods";
const SQL: &str = r#"{"spec": {"plan": {"sql": "select 1"}}}"#;

/// A cluster that knows the token `good` as ann, who may do what `may` says.
#[derive(Default)]
struct Cluster {
    objects: BTreeMap<String, Value>,
    asked: Vec<String>,
    may: Vec<String>,
}

impl Cluster {
    fn answer(&mut self, method: &str, path: &str, mut body: Value) -> (u16, Value) {
        let place = path.rsplit('/').next().unwrap_or_default().to_owned();
        match place.as_str() {
            "tokenreviews" => {
                self.asked.push(format!("who is {}", body["spec"]["token"].as_str().unwrap()));
                let good = body["spec"]["token"] == "good";
                body["status"] = json!({"authenticated": good});
                if good {
                    body["status"]["user"] = json!({"username": "ann"});
                }
                (201, body)
            }
            "subjectaccessreviews" => {
                let spec = body["spec"].clone();
                let (asked, user) = (&spec["resourceAttributes"], spec["user"].as_str().unwrap());
                let text = |field: &str| asked[field].as_str().unwrap_or("-").to_owned();
                let part = match asked["resource"].as_str().unwrap() {
                    "distributedqueries" => text("subresource"),
                    other => format!("{other}/{}", text("subresource")),
                };
                let what = format!("{} {part} {} {}", text("verb"), text("namespace"), text("name"));
                body["status"] = json!({"allowed": user == "ann" && self.may.contains(&what)});
                self.asked.push(format!("may {user} {what}"));
                (201, body)
            }
            _ => {
                self.asked.push(format!("{method} {place}"));
                match method {
                    "POST" => {
                        let at = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or("q-made"));
                        if self.objects.contains_key(&at) {
                            return (409, failure(409, "AlreadyExists"));
                        }
                        body["metadata"]["uid"] = "u".into();
                        self.objects.insert(at, body.clone());
                        (201, body)
                    }
                    "PATCH" => match self.objects.get_mut(path) {
                        Some(object) => {
                            for (field, value) in body["spec"].as_object().unwrap() {
                                object["spec"][field] = value.clone();
                            }
                            (200, object.clone())
                        }
                        None => (404, failure(404, "NotFound")),
                    },
                    _ if place == "pods" => {
                        let pods =
                            self.objects.iter().filter(|(at, object)| at.starts_with(PODS) && object.is_object());
                        let pods: Vec<&Value> = pods.map(|(_, pod)| pod).collect();
                        (200, json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": pods}))
                    }
                    _ => match self.objects.get(path) {
                        Some(object) => (200, object.clone()),
                        None => (404, failure(404, "NotFound")),
                    },
                }
            }
        }
    }
}

fn failure(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason})
}

struct Scene {
    cluster: Arc<Mutex<Cluster>>,
    router: Router,
}

impl Scene {
    fn new(may: &[&str], requests_per_second: u32, namespaces: &[&str]) -> Scene {
        let may = may.iter().map(|one| (*one).to_owned()).collect();
        let cluster = Arc::new(Mutex::new(Cluster { may, ..Cluster::default() }));
        let shared = Arc::clone(&cluster);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let shared = Arc::clone(&shared);
            async move {
                let (parts, body) = request.into_parts();
                let body = serde_json::from_slice(&body.collect_bytes().await?).unwrap_or(Value::Null);
                let (code, answer) = shared.lock().unwrap().answer(parts.method.as_str(), parts.uri.path(), body);
                let bytes = match answer {
                    // A log.
                    Value::String(text) => text.into_bytes(),
                    object => serde_json::to_vec(&object).unwrap(),
                };
                let answer = kube::client::Body::from(bytes);
                Ok::<_, kube::Error>(Response::builder().status(code).body(answer).unwrap())
            }
        });
        let settings = Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            tls: None,
            audiences: Vec::new(),
            namespaces: namespaces.iter().map(|one| (*one).to_owned()).collect(),
            limits: Limits {
                requests_per_second,
                body_bytes: 4096,
                streams: 2,
                streams_of_caller: 1,
                stream: Duration::from_secs(5),
                connections: 8,
            },
        };
        let api = Api::new(Client::new(service, "n"), settings, Arc::new(Metrics::new())).unwrap();
        Scene { cluster, router: operations::router(Arc::new(api)) }
    }

    async fn ask(&self, method: &str, rest: &str, token: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/v1/namespaces/{rest}"));
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        Answer { parts, body: serde_json::from_slice(&body).unwrap_or(Value::Null) }
    }

    async fn get(&self, rest: &str, token: &str) -> Answer {
        self.ask("GET", rest, token, &[], "").await
    }

    async fn submit(&self, headers: &[(&str, &str)], body: &str) -> Answer {
        let kind = [("content-type", "application/json")];
        self.ask("POST", "n/queries", "good", &[&kind[..], headers].concat(), body).await
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.cluster.lock().unwrap().asked)
    }
}

struct Answer {
    parts: axum::http::response::Parts,
    body: Value,
}

impl Answer {
    fn is(&self, status: u16, kind: &str) -> &Self {
        let told = self.body["type"].as_str().unwrap_or_default();
        let told = told.strip_prefix("urn:floe:problem:").unwrap_or_default();
        assert_eq!((self.parts.status.as_u16(), told), (status, kind), "{}", self.body);
        let sniffed = self.parts.headers.get("x-content-type-options").map(|value| value.to_str().unwrap());
        assert_eq!(sniffed, Some("nosniff"));
        self
    }
}

#[tokio::test]
async fn nothing_is_done_before_it_is_known_who_asks_and_that_they_may() {
    let scene = Scene::new(&["get - n q"], 100, &[]);
    scene.get("n/queries/q", "").await.is(401, "unauthenticated");
    assert!(scene.asked().is_empty(), "without a token nobody is asked");
    let refused = scene.get("n/queries/q", "bad").await;
    assert!(refused.is(401, "unauthenticated").parts.headers.contains_key(header::WWW_AUTHENTICATE));
    scene.get("n/queries/q", "bad").await.is(401, "unauthenticated");
    assert_eq!(scene.asked(), ["who is bad"], "a refusal is remembered for a moment");
    scene.get("n/queries/q", "good").await.is(404, "not-found");
    assert_eq!(scene.asked(), ["who is good", "may ann get - n q", "GET q"]);
    scene.get("n/queries/q", "good").await.is(404, "not-found");
    assert_eq!(scene.asked(), ["GET q"], "so is an answer");
    scene.get("n/queries/q/result", "good").await.is(403, "forbidden");
    scene.get("n/queries/other", "good").await.is(403, "forbidden");
    scene.get("m/queries/q", "good").await.is(403, "forbidden");
    scene.get("n/queries", "good").await.is(403, "forbidden");
    scene.ask("DELETE", "n/queries/q", "good", &[], "").await.is(403, "forbidden");
    scene.ask("POST", "n/queries/q/cancel", "good", &[], "").await.is(403, "forbidden");
    scene.submit(&[], SQL).await.is(403, "forbidden");
    let questions = [
        "may ann get result n q",
        "may ann get - n other",
        "may ann get - m q",
        "may ann list - n -",
        "may ann delete - n q",
        "may ann patch - n q",
        "may ann create - n -",
    ];
    assert_eq!(scene.asked(), questions, "and what is refused is not done");
}

#[tokio::test]
async fn names_that_are_none_never_reach_the_cluster() {
    let scene = Scene::new(&[], 100, &[]);
    for path in [
        "n/queries/..%2Fq",
        "n/queries/Q",
        "n/queries/a.b",
        "n.m/queries",
        "n%2F/queries",
        "-/queries",
        "n/queries/%00",
    ] {
        scene.get(path, "good").await.is(400, "bad-request");
    }
    assert_eq!(scene.asked(), ["who is good"]);
}

#[tokio::test]
async fn callers_and_strangers_have_limits_of_their_own() {
    let scene = Scene::new(&["get - n q"], 1, &[]);
    for _ in 0..2 {
        scene.get("n/queries/q", "good").await.is(404, "not-found");
    }
    let refused = scene.get("n/queries/q", "good").await;
    assert_eq!(refused.is(429, "too-many-requests").parts.headers[header::RETRY_AFTER], "1");
    scene.asked();
    scene.get("n/queries/q", "one").await.is(401, "unauthenticated");
    scene.get("n/queries/q", "two").await.is(429, "too-many-requests");
    assert_eq!(scene.asked(), ["who is one"], "unknown tokens are not asked about without end");
}

#[tokio::test]
async fn the_same_request_makes_one_query_and_another_is_refused() {
    let scene = Scene::new(&["create - n -"], 100, &[]);
    let key = [("idempotency-key", "k1")];
    let made = scene.submit(&key, SQL).await;
    assert_eq!(made.parts.status, StatusCode::CREATED);
    let again = scene.submit(&key, SQL).await;
    assert_eq!(
        (again.parts.status, &again.parts.headers["idempotency-replayed"]),
        (StatusCode::OK, &"true".parse().unwrap())
    );
    assert_eq!(
        (&again.body["name"], &again.parts.headers["location"]),
        (&made.body["name"], &made.parts.headers["location"])
    );
    scene.submit(&key, r#"{"spec": {"plan": {"sql": "select 2"}}}"#).await.is(409, "key-reused");
    let other = scene.submit(&[("idempotency-key", "k2")], SQL).await;
    assert_ne!(other.body["name"], made.body["name"]);
    let named = r#"{"name": "a", "spec": {"plan": {"sql": "select 1"}}}"#;
    assert_eq!(scene.submit(&[], named).await.parts.headers["location"], "/api/v1/namespaces/n/queries/a");
    scene.submit(&[], named).await.is(409, "name-taken");
    let stored = scene.cluster.lock().unwrap().objects[&format!("{QUERIES}/a")].clone();
    assert_eq!(stored["metadata"]["annotations"]["floe.dev/submitted-by"], "ann");
}

#[tokio::test]
async fn what_cannot_be_served_is_told_as_a_problem() {
    let scene = Scene::new(&["create - n -", "create - m -", "list - n -"], 100, &["n"]);
    let json = ("content-type", "application/json");
    scene.ask("POST", "m/queries", "good", &[json], SQL).await.is(404, "not-found");
    scene.submit(&[], &" ".repeat(5000)).await.is(413, "too-large");
    scene.submit(&[("content-length", "5000")], SQL).await.is(413, "too-large");
    scene.ask("POST", "n/queries", "good", &[("content-type", "text/plain")], SQL).await.is(415, "media-type");
    let cut = scene.submit(&[("content-length", "1")], "{").await;
    assert_eq!(cut.is(400, "bad-request").parts.headers[header::CONNECTION], "close", "nothing more comes on it");
    let invalid = scene.submit(&[], r#"{"spec": {"plan": {}}}"#).await;
    assert_eq!(invalid.is(422, "invalid").body["errors"][0]["field"], "spec.plan");
    scene.get("n/queries?limit=0", "good").await.is(400, "bad-request");
    scene.get("n/nothing", "good").await.is(404, "not-found");
    let wrong = scene.ask("PUT", "n/queries/q", "good", &[], "").await;
    let allow = wrong.is(405, "method-not-allowed").parts.headers[header::ALLOW].to_str().unwrap().to_owned();
    assert!(["GET", "DELETE"].iter().all(|method| allow.contains(method)), "{allow}");
    assert!(!scene.asked().iter().any(|asked| asked.starts_with("POST ")), "nothing was created");
}

#[tokio::test]
async fn contexts_are_made_by_rights_on_contexts_and_on_nothing_else() {
    let json = [("content-type", "application/json")];
    let warm = r#"{"name": "warm", "spec": {"maxWorkers": 2}}"#;
    let every = ["create - n -", "list - n -", "get - n warm", "delete - n warm"];
    let stranger = Scene::new(&every, 100, &[]);
    stranger.ask("POST", "n/contexts", "good", &json, warm).await.is(403, "forbidden");
    let refused = stranger.get("n/contexts/warm", "good").await;
    let told = refused.is(403, "forbidden").body["detail"].as_str().unwrap();
    assert!(told.starts_with("ann may not get computecontexts warm in namespace n"), "{told}");
    stranger.get("n/contexts", "good").await.is(403, "forbidden");
    stranger.ask("DELETE", "n/contexts/warm", "good", &[], "").await.is(403, "forbidden");
    let asked = stranger.asked();
    assert_eq!(asked[1], "may ann create computecontexts/- n -");
    assert!(asked.iter().all(|one| one.starts_with("who ") || one.starts_with("may ")), "{asked:?}");

    let own = ["create computecontexts/- n -", "get computecontexts/- n warm", "create - n -"];
    let scene = Scene::new(&own, 100, &[]);
    let made = scene.ask("POST", "n/contexts", "good", &json, warm).await;
    assert_eq!((made.parts.status, &made.body["name"]), (StatusCode::CREATED, &json!("warm")));
    assert_eq!(made.parts.headers["location"], "/api/v1/namespaces/n/contexts/warm");
    scene.ask("POST", "n/contexts", "good", &json, warm).await.is(409, "name-taken");
    let shown = scene.get("n/contexts/warm", "good").await;
    assert_eq!((shown.parts.status, &shown.body["spec"]), (StatusCode::OK, &json!({"maxWorkers": 2})));
    let nameless = scene.ask("POST", "n/contexts", "good", &json, r#"{"spec": {}}"#).await;
    assert_eq!(nameless.is(422, "invalid").body["errors"][0]["field"], "name");
    scene.get("n/contexts/Warm", "good").await.is(400, "bad-request");
    let borrowing = r#"{"spec": {"plan": {"sql": "select 1"}, "compute": {"contextRef": {"name": "warm"}}}}"#;
    let submitted = scene.submit(&[], borrowing).await;
    assert_eq!(submitted.parts.status, StatusCode::CREATED);
    assert_eq!(submitted.body["spec"]["compute"]["contextRef"]["name"], "warm");
    assert!(scene.cluster.lock().unwrap().objects.contains_key(&format!("{CONTEXTS}/warm")));
}

#[tokio::test]
async fn a_query_is_suspended_and_resumed_by_those_who_may_patch_it() {
    let scene = Scene::new(&["create - n -", "patch - n a"], 100, &[]);
    scene.submit(&[], r#"{"name": "a", "spec": {"plan": {"sql": "select 1"}}}"#).await;
    for (change, status, suspended) in [
        ("resume", StatusCode::OK, Value::Null),
        ("suspend", StatusCode::ACCEPTED, json!(true)),
        ("suspend", StatusCode::OK, json!(true)),
        ("resume", StatusCode::ACCEPTED, json!(false)),
    ] {
        let answer = scene.ask("POST", &format!("n/queries/a/{change}"), "good", &[], "").await;
        assert_eq!((answer.parts.status, &answer.body["spec"]["suspend"]), (status, &suspended), "{change}");
    }
    scene.ask("POST", "n/queries/b/suspend", "good", &[], "").await.is(403, "forbidden");
    scene.ask("POST", "n/queries/a/cancel", "good", &[], "").await;
    scene.ask("POST", "n/queries/a/suspend", "good", &[], "").await.is(409, "being-cancelled");
}

#[tokio::test]
async fn logs_are_for_those_who_see_the_query_and_may_read_logs() {
    let seeing = Scene::new(&["get - n q"], 100, &[]);
    let refused = seeing.get("n/queries/q/logs", "good").await;
    let told = refused.is(403, "forbidden").body["detail"].as_str().unwrap();
    assert!(told.starts_with("ann may not get pods/log in namespace n"), "{told}");
    assert_eq!(seeing.asked(), ["who is good", "may ann get - n q", "may ann get pods/log n -"]);
    let reading = Scene::new(&["get pods/log n -"], 100, &[]);
    reading.get("n/queries/q/logs", "good").await.is(403, "forbidden");
    let both = Scene::new(&["get pods/log n -", "get - n a", "create - n -"], 100, &[]);
    both.submit(&[], r#"{"name": "a", "spec": {"plan": {"sql": "select 1"}}}"#).await;
    both.get("n/queries/a/logs?worker=1&role=worker", "good").await.is(422, "invalid");
    both.get("n/queries/a/logs?tail=0", "good").await.is(400, "bad-request");
    both.get("n/queries/a/logs", "good").await.is(409, "no-logs");
}

#[tokio::test]
async fn of_pods_of_a_context_a_query_has_the_lines_that_name_it() {
    let scene = Scene::new(&["get pods/log n -", "get - n a"], 100, &[]);
    let pod = |name: &str, owner: Value| {
        json!({
            "metadata": {"name": name, "labels": {"floe.dev/role": "coordinator"}, "ownerReferences": owner},
            "status": {"containerStatuses": [{"name": "floe", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}}}]},
        })
    };
    let warm = json!([{"apiVersion": "floe.dev/v1alpha1", "kind": "ComputeContext", "name": "warm", "uid": "c", "controller": true}]);
    let line = |second: u32, query: &str| {
        let event = json!({"level": "INFO", "message": "query succeeded", "span": {"query": query}});
        format!("2026-01-01T00:00:0{second}Z {event}\n")
    };
    let log = line(1, "other") + &line(2, "6f3a-2c") + &line(3, "other");
    for (at, object) in [
        (format!("{PODS}/warm-g1-c"), pod("warm-g1-c", warm)),
        (format!("{PODS}/warm-g1-c/log"), log.clone().into()),
        // Whoever may make pods can give them any labels.
        (format!("{PODS}/forged"), pod("forged", json!([]))),
        (format!("{PODS}/forged/log"), log.into()),
        (
            format!("{QUERIES}/a"),
            json!({"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "a", "uid": "6f3a-2c"},
                "spec": {"compute": {"contextRef": {"name": "warm"}}}}),
        ),
    ] {
        scene.cluster.lock().unwrap().objects.insert(at, object);
    }
    let answer = scene.get("n/queries/a/logs?tail=1", "good").await;
    assert_eq!((answer.parts.status, &answer.body["complete"]), (StatusCode::OK, &json!(true)));
    let lines = answer.body["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["pod"], &lines[0]["span"]["query"]), (&json!("warm-g1-c"), &json!("6f3a-2c")));
}
