//! Whole looks against a mocked API server: in which order things are asked for, and what a refusal leads to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use floe_api::DistributedQuery;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use kube::core::DeserializeGuard;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::plan::world::{QUERY, settings};
use super::{Context, Memories, build::Defaults, reconcile};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::pods::PodIndex;
use crate::poll::Poller;

type Refusal = fn(&str, &str) -> Option<(u16, &'static str)>;

/// Objects by path, and what was asked of them.
#[derive(Default)]
struct Api {
    objects: BTreeMap<String, Value>,
    asked: Vec<String>,
    bodies: Vec<String>,
    version: u64,
}

const ROOT: &str = "/apis/floe.dev/v1alpha1/namespaces/n/distributedqueries/q";

impl Api {
    fn answer(&mut self, method: &str, path: &str, body: Value, refuse: Refusal) -> (u16, Value) {
        self.bodies.push(body.to_string());
        let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let shown = path.rsplit('/').next().unwrap_or_default();
        self.asked.push(if method == "POST" { format!("POST {shown}/{name}") } else { format!("{method} {shown}") });
        if let Some((code, message)) = refuse(method, path) {
            return (code, failure(code, message));
        }
        self.version += 1;
        match method {
            "POST" => {
                let at = format!("{path}/{name}");
                if self.objects.contains_key(&at) {
                    return (409, failure(409, "already exists"));
                }
                let mut object = body;
                object["metadata"]["uid"] = format!("uid-{name}").into();
                object["metadata"]["resourceVersion"] = self.version.to_string().into();
                self.objects.insert(at, object.clone());
                (201, object)
            }
            "GET" => match self.objects.get(path) {
                Some(object) => (200, object.clone()),
                None => (404, failure(404, "not found")),
            },
            "PATCH" => {
                let path = path.trim_end_matches("/status");
                let Some(object) = self.objects.get_mut(path) else { return (404, failure(404, "not found")) };
                let wanted = body["metadata"]["resourceVersion"].as_str();
                if wanted.is_some_and(|wanted| object["metadata"]["resourceVersion"] != wanted) {
                    return (409, failure(409, "the object has been modified"));
                }
                for part in ["status", "spec"] {
                    if let Some(change) = body[part].as_object() {
                        for (key, value) in change {
                            object[part][key] = value.clone();
                        }
                    }
                }
                if body["metadata"]["finalizers"].is_array() {
                    object["metadata"]["finalizers"] = body["metadata"]["finalizers"].clone();
                }
                object["metadata"]["resourceVersion"] = self.version.to_string().into();
                (200, object.clone())
            }
            _ => (200, json!({"kind": "Status", "status": "Success"})),
        }
    }
}

fn failure(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message,
        "reason": if code == 404 { "NotFound" } else { "" }})
}

struct Scene {
    api: Arc<Mutex<Api>>,
    context: Arc<Context>,
}

impl Scene {
    fn new(query: &DistributedQuery, refuse: Refusal) -> Scene {
        let mut first = Api { version: 10, ..Api::default() };
        let mut object = serde_json::to_value(query).unwrap();
        object["metadata"]["resourceVersion"] = "10".into();
        first.objects.insert(ROOT.to_owned(), object);
        let api = Arc::new(Mutex::new(first));
        let shared = Arc::clone(&api);
        let service = tower::service_fn(move |request: Request<Body>| {
            let shared = Arc::clone(&shared);
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect_bytes().await?;
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let (code, answer) =
                    shared.lock().unwrap().answer(parts.method.as_str(), parts.uri.path(), body, refuse);
                let answer = Body::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, kube::Error>(Response::builder().status(code).body(answer).unwrap())
            }
        });
        let client = Client::new(service, "n");
        let (poller, _news) = Poller::new().unwrap();
        let (events, _) = Events::start(client.clone(), "test".into());
        let context = Arc::new(Context {
            client,
            defaults: Defaults { runner_image: "floe-runner:test".into(), ..Defaults::default() },
            settings: settings(),
            memories: Memories::default(),
            poller,
            events,
            metrics: Arc::new(Metrics::new()),
            slots: Semaphore::new(4),
            indexes: [(None, Arc::new(PodIndex::default()))].into(),
        });
        Scene { api, context }
    }

    /// One look at the object as the API has it.
    async fn look(&self) -> Result<(), super::Error> {
        let object = self.api.lock().unwrap().objects[ROOT].clone();
        let query: DistributedQuery = serde_json::from_value(object).unwrap();
        let look = reconcile(Arc::new(DeserializeGuard(Ok(query))), Arc::clone(&self.context));
        tokio::time::timeout(Duration::from_secs(20), look).await.unwrap().map(|_| ())
    }

    fn asked(&self) -> Vec<String> {
        let asked = self.api.lock().unwrap().asked.clone();
        asked.into_iter().filter(|asked| !asked.starts_with("POST events")).collect()
    }

    fn status(&self) -> Value {
        self.api.lock().unwrap().objects[ROOT]["status"].clone()
    }
}

fn query() -> DistributedQuery {
    let mut query = floe_api::from_yaml(QUERY).unwrap();
    query.metadata.uid = Some("query-uid".into());
    query
}

fn nothing(_: &str, _: &str) -> Option<(u16, &'static str)> {
    None
}

#[tokio::test]
async fn everything_is_made_in_one_look_pods_after_what_they_need_and_the_status_last() {
    let scene = Scene::new(&query(), nothing);
    scene.look().await.unwrap();
    let asked = scene.asked();
    let at = |what: &str| asked.iter().position(|a| a == what).unwrap_or_else(|| panic!("no {what} in {asked:?}"));
    let pods = ["POST pods/q-1-c", "POST pods/q-1-w0-0", "POST pods/q-1-w1-0"].map(at);
    for needed in ["POST secrets/q-floe-1-query", "POST networkpolicies/q-floe", "PATCH q"] {
        assert!(pods.iter().all(|pod| at(needed) < *pod), "{needed} comes before the pods: {asked:?}");
    }
    assert_eq!(asked.last().map(String::as_str), Some("PATCH status"), "{asked:?}");
    assert_eq!(scene.status()["phase"], "Starting");
    // Looking again makes nothing twice.
    scene.look().await.unwrap();
    let posts = |asked: &[String]| asked.iter().filter(|a| a.starts_with("POST")).count();
    assert_eq!(posts(&asked), posts(&scene.asked()));
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone_and_named() {
    let scene = Scene::new(&query(), nothing);
    let path = "/apis/networking.k8s.io/v1/namespaces/n/networkpolicies/q-floe".to_owned();
    scene.api.lock().unwrap().objects.insert(path, json!({"metadata": {"name": "q-floe", "uid": "other"}, "spec": {}}));
    scene.look().await.unwrap();
    assert_eq!((&scene.status()["phase"], &scene.status()["reason"]), (&json!("Starting"), &json!("NameTaken")));
    assert!(scene.asked().iter().all(|asked| !asked.starts_with("POST pods")), "{:?}", scene.asked());
}

#[tokio::test]
async fn refusals_of_pods_are_told_in_the_servers_words() {
    type Case = (Refusal, &'static str, &'static str);
    let cases: [Case; 3] = [
        (
            |m, p| (m == "POST" && p.ends_with("/pods")).then_some((403, "forbidden: exceeded quota: small")),
            "Starting",
            "Quota",
        ),
        (
            |m, p| (m == "POST" && p.ends_with("/pods")).then_some((403, "violates PodSecurity \"restricted\"")),
            "Starting",
            "PodSecurity",
        ),
        (|m, p| (m == "POST" && p.ends_with("/pods")).then_some((422, "Pod is invalid: spec")), "Failed", "BadSpec"),
    ];
    for (refuse, phase, reason) in cases {
        let scene = Scene::new(&query(), refuse);
        scene.look().await.unwrap();
        let status = scene.status();
        assert_eq!((&status["phase"], &status["reason"]), (&json!(phase), &json!(reason)), "{status}");
    }
}

#[tokio::test]
async fn a_missing_secret_is_told_and_nothing_is_made_and_its_values_stay_in_the_job() {
    let mut with_secret = query();
    let reference = Some(floe_api::NameRef { name: "creds".into() });
    with_secret.spec.storage = Some(floe_api::StorageSpec { secret_ref: reference, ..Default::default() });
    let scene = Scene::new(&with_secret, nothing);
    scene.look().await.unwrap();
    assert_eq!((&scene.status()["phase"], &scene.status()["reason"]), (&json!("Starting"), &json!("MissingSecret")));
    assert!(scene.asked().iter().all(|asked| !asked.starts_with("POST")), "{:?}", scene.asked());
    // "c2VzYW1lMTIz" is sesame123.
    let secret = json!({"metadata": {"name": "creds"}, "data": {"aws_secret_access_key": "c2VzYW1lMTIz"}});
    scene.api.lock().unwrap().objects.insert("/api/v1/namespaces/n/secrets/creds".into(), secret);
    scene.look().await.unwrap();
    assert!(scene.asked().contains(&"POST pods/q-1-c".to_owned()));
    let api = scene.api.lock().unwrap();
    assert!(api.bodies.iter().all(|body| !body.contains("sesame123")), "only as base64, in the Secret of the job");
}

#[tokio::test]
async fn a_status_is_never_written_over_a_version_that_was_not_seen() {
    let scene = Scene::new(&query(), |method, path| {
        (method == "PATCH" && path.ends_with("/status")).then_some((409, "the object has been modified"))
    });
    let error = scene.look().await.unwrap_err();
    assert_eq!(error.category(), "conflict");
}
