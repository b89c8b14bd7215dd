//! Whole reconciles against a mocked API server: what is requested, and the effect of a refusal or a restart.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use floe_api::ScheduledQuery;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::world::nightly;
use super::{Context, reconcile};
use crate::query::error::Error;
use crate::query::mocked::{Api, Refusal, context};

const ROOT: &str = "/apis/floe.dev/v1alpha1/namespaces/n/scheduledqueries/nightly";
const QUERIES: &str = "/apis/floe.dev/v1alpha1/namespaces/n/distributedqueries";

struct Scene {
    api: Arc<Mutex<Api>>,
    context: Arc<Context>,
}

impl Scene {
    /// A schedule with one time a day, which was a minute ago.
    fn new(refuse: Refusal) -> Scene {
        let line = (Timestamp::now() - SignedDuration::from_secs(60)).strftime("%M %H * * *").to_string();
        let mut schedule = nightly(&format!("  schedule: '{line}'\n"));
        let made = Timestamp::now() - SignedDuration::from_secs(180);
        schedule.metadata.creation_timestamp = Some(Time(made));
        let mut object = serde_json::to_value(schedule).unwrap();
        object["metadata"]["resourceVersion"] = "10".into();
        object["status"] = json!({});
        let mut api = Api { version: 10, ..Api::default() };
        api.objects.insert(ROOT.to_owned(), object);
        Scene::on(Arc::new(Mutex::new(api)), refuse)
    }

    /// Another operator on the same server, which knows nothing yet.
    fn on(api: Arc<Mutex<Api>>, refuse: Refusal) -> Scene {
        let shared = context(&api, refuse);
        shared.children.take(&None, &Event::Init);
        shared.children.take(&None, &Event::InitDone);
        Scene { api, context: Arc::new(Context::new(shared)) }
    }

    async fn look(&self) -> Result<(), Error> {
        let object = self.api.lock().unwrap().objects[ROOT].clone();
        let schedule: ScheduledQuery = serde_json::from_value(object).unwrap();
        let look = reconcile(Arc::new(DeserializeGuard(Ok(schedule))), Arc::clone(&self.context));
        tokio::time::timeout(Duration::from_secs(20), look).await.unwrap().map(|_| ())
    }

    /// What was requested since the last call, without Events.
    fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut self.api.lock().unwrap().asked);
        asked.into_iter().filter(|asked| !asked.starts_with("POST events")).collect()
    }

    /// Waits until an Event with this reason was sent.
    async fn told(&self, reason: &str) {
        for _ in 0..200 {
            let words = format!("\"reason\":\"{reason}\"");
            if self.api.lock().unwrap().bodies.iter().any(|body| body.contains(&words)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no Event {reason}: {:?}", self.api.lock().unwrap().bodies);
    }

    fn status(&self) -> Value {
        self.api.lock().unwrap().objects[ROOT]["status"].clone()
    }

    fn queries(&self) -> Vec<Value> {
        let api = self.api.lock().unwrap();
        api.objects.iter().filter(|(path, _)| path.starts_with(QUERIES)).map(|(_, object)| object.clone()).collect()
    }
}

#[tokio::test]
async fn a_query_is_made_with_its_owner_and_told_in_one_look() {
    let scene = Scene::new(|_, _| None);
    scene.look().await.unwrap();
    let asked = scene.asked();
    assert!(
        asked.len() == 2 && asked[0].starts_with("POST distributedqueries/nightly-") && asked[1] == "PATCH status",
        "{asked:?}"
    );
    let queries = scene.queries();
    let (query, meta) = (&queries[0]["spec"], &queries[0]["metadata"]);
    assert_eq!(meta["ownerReferences"][0]["kind"], "ScheduledQuery");
    assert_eq!(meta["ownerReferences"][0]["uid"], "schedule-uid");
    assert_eq!(meta["labels"]["floe.dev/scheduled-query"], "nightly");
    let scheduled: Timestamp = meta["annotations"]["floe.dev/scheduled-at"].as_str().unwrap().parse().unwrap();
    assert_eq!(meta["name"], format!("nightly-{}", scheduled.as_second() / 60));
    let sink = query["sink"]["uri"].as_str().unwrap();
    assert!(sink.starts_with("s3://lake/2") && !sink.contains("{{"), "{sink}");
    let status = scene.status();
    assert_eq!(status["active"][0]["name"], meta["name"]);
    assert_eq!(status["lastScheduleTime"], scheduled.to_string());
    assert!(status["nextScheduleTime"].is_string());
    scene.told("SuccessfulCreate").await;
    scene.look().await.unwrap();
    assert_eq!(scene.asked(), [""; 0], "nothing to do, nothing asked");
}

#[tokio::test]
async fn an_operator_that_ends_before_the_status_is_written_is_followed_by_one_that_finds_the_query() {
    let scene = Scene::new(|method, _| (method == "PATCH").then_some((500, "etcdserver: request timed out")));
    assert!(scene.look().await.is_err());
    assert_eq!(scene.queries().len(), 1);
    // This holds even if its watch does not show the query yet.
    let next = Scene::on(Arc::clone(&scene.api), |_, _| None);
    next.look().await.unwrap();
    let made = next.queries();
    let first = made[0]["metadata"]["name"].clone();
    assert_eq!(next.status()["active"][0]["name"], first, "{made:?}");
    assert!(next.status().get("missedTimes").is_none());
}

#[tokio::test]
async fn a_refusal_is_told_and_not_asked_for_again_at_once() {
    const WORDS: &str =
        "ValidatingAdmissionPolicy 'floe-queries' with binding 'floe-queries' denied request: not today";
    let scene =
        Scene::new(|method, path| (method == "POST" && path.ends_with("/distributedqueries")).then_some((422, WORDS)));
    scene.look().await.unwrap();
    let status = scene.status();
    let condition = status["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "QueryCreated").unwrap();
    assert_eq!((condition["status"].as_str(), condition["reason"].as_str()), (Some("False"), Some("NotAllowed")));
    assert!(condition["message"].as_str().unwrap().contains("denied request: not today"), "{condition}");
    scene.told("FailedCreate").await;
    scene.asked();
    scene.look().await.unwrap();
    assert!(!scene.asked().iter().any(|asked| asked.starts_with("POST")), "it pauses");
    // A changed spec is tried at once.
    scene.api.lock().unwrap().objects.get_mut(ROOT).unwrap()["metadata"]["generation"] = 2.into();
    scene.look().await.unwrap();
    assert!(scene.asked().iter().any(|asked| asked.starts_with("POST")));
}

#[tokio::test]
async fn a_query_of_somebody_else_is_not_taken_for_its_own() {
    let scene = Scene::new(|_, _| None);
    for ahead in -2..=2i64 {
        let name = format!("nightly-{}", Timestamp::now().as_second() / 60 + ahead);
        let foreign = json!({"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
            "metadata": {"name": name, "namespace": "n", "uid": "other"}, "spec": {"plan": {"sql": "SELECT 2"}}});
        scene.api.lock().unwrap().objects.insert(format!("{QUERIES}/{name}"), foreign);
    }
    scene.look().await.unwrap();
    let status = scene.status();
    let condition = status["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "QueryCreated").unwrap();
    assert_eq!(condition["reason"], "NameTaken");
    assert!(status.get("active").is_none());
}

#[tokio::test]
async fn nothing_is_decided_before_the_queries_are_known() {
    let scene = Scene::new(|_, _| None);
    let blind =
        Scene { api: Arc::clone(&scene.api), context: Arc::new(Context::new(context(&scene.api, |_, _| None))) };
    blind.look().await.unwrap();
    assert!(blind.asked().is_empty() && blind.queries().is_empty());
}
