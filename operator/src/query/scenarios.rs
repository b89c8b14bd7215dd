//! Whole reconciles against a mocked API server: the order of requests, and the effect of a refusal.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::mocked::{ROOT, Refusal, Scene, nothing, query};
use super::names::FINALIZER;
use crate::line::{Class, NODES, Rank, Ticket};

#[tokio::test]
async fn the_coordinator_is_made_in_one_look_after_what_it_needs_and_the_workers_once_it_runs() {
    let scene = Scene::new(&query(), nothing);
    scene.look().await.unwrap();
    let asked = scene.asked();
    let at = |what: &str| asked.iter().position(|a| a == what).unwrap_or_else(|| panic!("no {what} in {asked:?}"));
    for needed in ["POST secrets/q-floe-1-query", "POST networkpolicies/q-floe", "PATCH q"] {
        assert!(at(needed) < at("POST pods/q-1-c"), "{needed} comes before the pod: {asked:?}");
    }
    assert_eq!(asked.last().map(String::as_str), Some("PATCH status"), "{asked:?}");
    assert_eq!(scene.status()["phase"], "Starting");
    // Reconciling again creates nothing twice.
    scene.look().await.unwrap();
    let posts = |asked: &[String]| asked.iter().filter(|a| a.starts_with("POST")).count();
    assert_eq!(posts(&asked), posts(&scene.asked()));
    scene.run("q-1-c");
    scene.look().await.unwrap();
    let asked = scene.asked();
    for worker in ["POST pods/q-1-w0-0", "POST pods/q-1-w1-0"] {
        assert!(asked.contains(&worker.to_owned()), "no {worker} in {asked:?}");
    }
}

/// Two queries hold a coordinator each, and no node takes their workers: the younger one gives way to the older.
#[tokio::test]
async fn of_queries_that_hold_pods_while_no_node_takes_the_others_only_the_oldest_keeps_them() {
    let now = jiff::Timestamp::now();
    let ago = |seconds: i64| (now - jiff::SignedDuration::from_secs(seconds)).to_string();
    let scene = Scene::new(&query(), nothing);
    scene.look().await.unwrap();
    scene.run("q-1-c");
    scene.look().await.unwrap();
    let unschedulable = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}]});
    for name in ["q-1-w0-0", "q-1-w1-0"] {
        scene.show(name, &ago(200), unschedulable.clone());
    }
    scene.look().await.unwrap();
    // It is the only one: it keeps what it has.
    let deletes = |scene: &Scene| scene.asked().iter().filter(|asked| asked.starts_with("DELETE")).count();
    assert_eq!((deletes(&scene), &scene.status()["reason"]), (0, &json!("Unschedulable")));
    let created = "1960-01-01T00:00:00Z".parse().unwrap();
    let rank = Rank { class: Class::Starting, created, uid: "older".into() };
    let older = Ticket { scope: (NODES.into(), String::new()), rank, key: ("m".into(), "older".into()) };
    scene.context.lines.refuse(&older, "0/3 nodes are available", None, now - jiff::SignedDuration::from_secs(60));
    // Not at once: there may be room again.
    tokio::time::sleep(Duration::from_millis(5200)).await;
    scene.look().await.unwrap();
    assert_eq!(deletes(&scene), 3, "{:?}", scene.asked());
    assert!(scene.status()["message"].as_str().unwrap().contains("comes first"), "{}", scene.status());
    assert_eq!(scene.status()["failures"], 0);
}

/// A full quota is asked once, and tried again only when its numbers change.
#[tokio::test]
async fn a_full_quota_is_not_asked_again_and_again_and_room_is_taken_up() {
    static USED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(4);
    let full = || USED.load(std::sync::atomic::Ordering::Relaxed) > 1;
    let scene = Scene::new(&query(), |method, path| {
        let is_full = USED.load(std::sync::atomic::Ordering::Relaxed) > 1;
        let refused = method == "POST" && path.ends_with("/pods") && is_full;
        refused.then_some((
            403,
            "pods \"q-1-c\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=4, limited: pods=4",
        ))
    });
    let tell = |scene: &Scene| {
        let used = USED.load(std::sync::atomic::Ordering::Relaxed).to_string();
        let quota =
            json!({"metadata": {"name": "small"}, "spec": {"hard": {"pods": "4"}}, "status": {"used": {"pods": used}}});
        let list = json!({"kind": "ResourceQuotaList", "apiVersion": "v1", "metadata": {}, "items": [quota]});
        scene.api.lock().unwrap().objects.insert("/api/v1/namespaces/n/resourcequotas".into(), list);
    };
    tell(&scene);
    assert!(full());
    for _ in 0..20 {
        scene.look().await.unwrap();
    }
    let status = scene.status();
    assert_eq!((&status["reason"], &status["ahead"]), (&json!("Quota"), &json!(0)), "{status}");
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("exceeded quota: small, requested: pods=1, used: pods=4, limited: pods=4; "),
        "{message}"
    );
    let tries = |scene: &Scene| scene.asked().iter().filter(|asked| asked.starts_with("POST pods")).count();
    assert_eq!(tries(&scene), 1, "{:?}", scene.asked());
    // A coordinator and two workers need three: room for two is not enough.
    USED.store(2, std::sync::atomic::Ordering::Relaxed);
    tell(&scene);
    scene.look().await.unwrap();
    assert_eq!(tries(&scene), 1);
    USED.store(1, std::sync::atomic::Ordering::Relaxed);
    tell(&scene);
    scene.look().await.unwrap();
    assert_eq!(tries(&scene), 2);
    assert_eq!(scene.status()["ahead"], Value::Null);
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

/// On a query restored from a backup, another manager has set the finalizer.
#[tokio::test]
async fn a_deleted_query_is_let_go_whoever_gave_it_the_finalizer_and_whoever_manages_it() {
    for manager in [None, Some("example.com/other")] {
        let mut deleted = query();
        deleted.spec.managed_by = manager.map(str::to_owned);
        deleted.metadata.finalizers = Some(vec![FINALIZER.into(), "example.com/theirs".into()]);
        deleted.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::now()));
        let scene = Scene::new(&deleted, nothing);
        scene.look().await.unwrap();
        let finalizers = scene.api.lock().unwrap().objects[ROOT]["metadata"]["finalizers"].clone();
        assert_eq!(finalizers, json!(["example.com/theirs"]), "{manager:?}: {:?}", scene.asked());
        assert_eq!(scene.status(), Value::Null, "a query that goes has no use for a status");
    }
}

#[tokio::test]
async fn what_a_deleted_query_of_the_same_name_had_is_waited_for() {
    let scene = Scene::new(&query(), nothing);
    let path = "/api/v1/namespaces/n/pods/q-1-c".to_owned();
    let owner = json!({"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "name": "q", "uid": "former"});
    let pod =
        json!({"metadata": {"name": "q-1-c", "uid": "other", "ownerReferences": [owner]}, "spec": {"containers": []}});
    scene.api.lock().unwrap().objects.insert(path.clone(), pod);
    scene.look().await.unwrap();
    let status = scene.status();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Starting"), &json!("Waiting")), "{status}");
    assert!(status["message"].as_str().unwrap().contains("was deleted is on its way out"), "{status}");
    scene.api.lock().unwrap().objects.remove(&path);
    scene.look().await.unwrap();
    assert_eq!(scene.status()["reason"], "PodsStarting");
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
