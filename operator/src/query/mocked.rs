//! An API server that is mocked, for whole looks at queries in tests: objects by path, what was asked, and refusals at will.

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
use crate::context::register::Register;
use crate::events::Events;
use crate::kueue::Queues;
use crate::line::Lines;
use crate::metrics::Metrics;
use crate::pods::PodIndex;
use crate::poll::Poller;
use crate::query::chain::Chain;
use crate::schedule::children::Children;
use crate::shares::{Limits, Shares};

pub type Refusal = fn(&str, &str) -> Option<(u16, &'static str)>;

/// Objects by path, and what was asked of them.
#[derive(Default)]
pub struct Api {
    pub objects: BTreeMap<String, Value>,
    pub asked: Vec<String>,
    pub bodies: Vec<String>,
    /// Finalizers that the operator has applied.
    pub applied: Vec<Value>,
    pub version: u64,
}

pub const ROOT: &str = "/apis/floe.dev/v1alpha1/namespaces/n/distributedqueries/q";

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
                    if body[part].is_object() {
                        merge(&mut object[part], &body[part]);
                    }
                }
                if let Some(wanted) = body["metadata"]["finalizers"].as_array() {
                    // A merge replaces the list; an apply takes away only what was applied before.
                    let is_apply = body["kind"].is_string();
                    let there = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
                    let mut left: Vec<Value> = if is_apply { there } else { Vec::new() };
                    left.retain(|name| !self.applied.contains(name) && !wanted.contains(name));
                    left.extend(wanted.iter().cloned());
                    if is_apply {
                        self.applied.clone_from(wanted);
                    }
                    object["metadata"]["finalizers"] = left.into();
                }
                object["metadata"]["resourceVersion"] = self.version.to_string().into();
                (200, object.clone())
            }
            _ => (200, json!({"kind": "Status", "status": "Success"})),
        }
    }
}

/// A JSON merge patch.
fn merge(into: &mut Value, change: &Value) {
    let Value::Object(change) = change else { return into.clone_from(change) };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in change {
        match (value, into.as_object_mut()) {
            (Value::Null, Some(fields)) => drop(fields.remove(key)),
            _ => merge(&mut into[key], value),
        }
    }
}

fn failure(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message,
        "reason": if code == 404 { "NotFound" } else { "" }})
}

/// What an operator has that talks to this server.
pub fn context(api: &Arc<Mutex<Api>>, refuse: Refusal) -> Arc<Context> {
    let shared = Arc::clone(api);
    let service = tower::service_fn(move |request: Request<Body>| {
        let shared = Arc::clone(&shared);
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await?;
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            let (code, answer) = shared.lock().unwrap().answer(parts.method.as_str(), parts.uri.path(), body, refuse);
            let answer = Body::from(serde_json::to_vec(&answer).unwrap());
            Ok::<_, kube::Error>(Response::builder().status(code).body(answer).unwrap())
        }
    });
    let client = Client::new(service, "n");
    let (poller, _news) = Poller::new().unwrap();
    let (events, _) = Events::start(client.clone(), "test".into());
    Arc::new(Context {
        client,
        defaults: Defaults { runner_image: "floe-runner:test".into(), ..Defaults::default() },
        settings: settings(),
        memories: Memories::default(),
        lines: Lines::new(poller.waker()),
        register: Register::new(poller.waker()),
        children: Children::new().0,
        chain: Chain::new(poller.waker()),
        queues: Queues::new(true, poller.waker()),
        shares: Shares::new(Limits::default(), poller.waker()),
        poller,
        events,
        metrics: Arc::new(Metrics::new()),
        slots: Semaphore::new(4),
        indexes: [(None, Arc::new(PodIndex::default()))].into(),
    })
}

pub struct Scene {
    pub api: Arc<Mutex<Api>>,
    pub context: Arc<Context>,
}

impl Scene {
    pub fn new(query: &DistributedQuery, refuse: Refusal) -> Scene {
        let mut first = Api { version: 10, ..Api::default() };
        let mut object = serde_json::to_value(query).unwrap();
        object["metadata"]["resourceVersion"] = "10".into();
        first.objects.insert(ROOT.to_owned(), object);
        let api = Arc::new(Mutex::new(first));
        let context = context(&api, refuse);
        Scene { api, context }
    }

    /// One look at the object as the API has it.
    pub async fn look(&self) -> Result<(), super::Error> {
        let object = self.api.lock().unwrap().objects[ROOT].clone();
        let query: DistributedQuery = serde_json::from_value(object).unwrap();
        let look = reconcile(Arc::new(DeserializeGuard(Ok(query))), Arc::clone(&self.context));
        tokio::time::timeout(Duration::from_secs(20), look).await.unwrap().map(|_| ())
    }

    /// The watch shows a pod that was made, and that it runs.
    pub fn run(&self, name: &str) {
        let status = json!({"phase": "Running", "podIP": "127.9.7.9",
            "containerStatuses": [{"name": "floe", "state": {"running": {}}}]});
        self.show(name, &jiff::Timestamp::now().to_string(), status);
    }

    pub fn show(&self, name: &str, created: &str, status: Value) {
        let mut pod = self.api.lock().unwrap().objects[&format!("/api/v1/namespaces/n/pods/{name}")].clone();
        pod["status"] = status;
        pod["metadata"]["creationTimestamp"] = created.into();
        let event = kube::runtime::watcher::Event::Apply(serde_json::from_value(pod).unwrap());
        self.context.indexes[&None].take(event);
    }

    pub fn asked(&self) -> Vec<String> {
        let asked = self.api.lock().unwrap().asked.clone();
        asked.into_iter().filter(|asked| !asked.starts_with("POST events")).collect()
    }

    pub fn status(&self) -> Value {
        self.api.lock().unwrap().objects[ROOT]["status"].clone()
    }
}

pub fn query() -> DistributedQuery {
    let mut query = floe_api::from_yaml(QUERY).unwrap();
    query.metadata.uid = Some("query-uid".into());
    query
}

pub fn nothing(_: &str, _: &str) -> Option<(u16, &'static str)> {
    None
}
