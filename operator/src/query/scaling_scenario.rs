//! A query that scales, in whole reconciles: the API server is mocked, and the coordinator is a small HTTP server.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use floe_api::report::{EngineReport, EngineWorker, Report, RunPhase};
use serde_json::json;

use super::build::HTTP_PORT;
use super::mocked::{ROOT, Scene, nothing, query};

/// Loopback has an address for each pod.
const COORDINATOR: &str = "127.9.11.1";

/// What the coordinator reports, and what it was told.
#[derive(Default)]
struct Load {
    connected: Vec<String>,
    waiting: u32,
    draining: BTreeSet<String>,
    drained: bool,
}

impl Load {
    fn report(&self) -> Report {
        let worker = |id: &String| EngineWorker {
            id: id.clone(),
            tasks: u32::from(id.contains("-w0-")),
            draining: self.draining.contains(id),
            drained: self.drained && self.draining.contains(id),
            ..EngineWorker::default()
        };
        let workers = self.connected.iter().map(worker).collect();
        let engine =
            EngineReport { queries_running: 1, tasks_waiting: self.waiting, workers, ..EngineReport::default() };
        let workers = self.connected.clone();
        Report { phase: RunPhase::Running, workers, engine: Some(engine), ..Report::default() }
    }
}

async fn serve(load: &Arc<Mutex<Load>>) {
    let (asked, told) = (Arc::clone(load), Arc::clone(load));
    let report = move || std::future::ready(Json(asked.lock().unwrap().report()));
    let drain = move |Path(worker): Path<String>, headers: HeaderMap| {
        assert!(headers["authorization"].to_str().unwrap().starts_with("Bearer "));
        told.lock().unwrap().draining.insert(worker);
        std::future::ready(StatusCode::ACCEPTED)
    };
    let router =
        Router::new().route("/api/v1/queries/query-uid", get(report)).route("/api/v1/workers/{id}/drain", post(drain));
    let listener = tokio::net::TcpListener::bind((COORDINATOR, HTTP_PORT)).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
}

/// Reconciles until the condition holds.
async fn until(scene: &Scene, what: &str, holds: impl Fn() -> bool) {
    for _ in 0..200 {
        scene.look().await.unwrap();
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} never came: {}\n{:?}", scene.status(), scene.asked());
}

fn run(scene: &Scene, name: &str, ip: &str) {
    let status =
        json!({"phase": "Running", "podIP": ip, "containerStatuses": [{"name": "floe", "state": {"running": {}}}]});
    scene.show(name, &jiff::Timestamp::now().to_string(), status);
}

#[tokio::test]
async fn workers_that_wait_for_tasks_are_made_and_those_that_are_too_many_are_drained_before_they_are_deleted() {
    let mut elastic = query();
    let compute = &mut elastic.spec.compute;
    (compute.workers, compute.min_workers, compute.max_workers) = (None, Some(1), Some(3));
    let scene = Scene::new(&elastic, nothing);
    let load = Arc::new(Mutex::new(Load::default()));
    serve(&load).await;
    scene.look().await.unwrap();
    run(&scene, "q-1-c", COORDINATOR);
    let made = |name: &str| scene.asked().contains(&format!("POST pods/{name}"));
    until(&scene, "the first worker", || made("q-1-w0-0")).await;
    assert!(!made("q-1-w1-0") && scene.status()["workers"]["summary"] == "0/1", "{}", scene.status());

    load.lock().unwrap().waiting = 7;
    until(&scene, "all workers", || made("q-1-w1-0") && made("q-1-w2-0")).await;
    let names: Vec<String> = (0..3).map(|index| format!("q-1-w{index}-0")).collect();
    names.iter().for_each(|name| run(&scene, name, "127.9.11.2"));
    load.lock().unwrap().connected = names;
    until(&scene, "three are ready", || scene.status()["workers"]["summary"] == "3/3").await;

    load.lock().unwrap().waiting = 0;
    until(&scene, "a surplus", || scene.status()["workers"]["surplusSince"].is_string()).await;
    {
        // A minute passes.
        let mut api = scene.api.lock().unwrap();
        api.version += 1;
        let version = api.version.to_string();
        let object = api.objects.get_mut(ROOT).unwrap();
        object["metadata"]["resourceVersion"] = version.into();
        let past = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(60);
        object["status"]["workers"]["surplusSince"] = past.to_string().into();
    }
    until(&scene, "two drain", || load.lock().unwrap().draining.len() == 2).await;
    assert!(!load.lock().unwrap().draining.contains("q-1-w0-0"), "it has a task");
    assert_eq!(scene.status()["workers"]["released"], json!({"1": 1, "2": 1}), "{}", scene.status());
    let deleted = |scene: &Scene| {
        let asked = scene.asked();
        asked.into_iter().filter_map(|asked| asked.strip_prefix("DELETE ").map(str::to_owned)).collect::<BTreeSet<_>>()
    };
    assert!(deleted(&scene).is_empty(), "something may be read from them");
    load.lock().unwrap().drained = true;
    let two = BTreeSet::from(["q-1-w1-0".to_owned(), "q-1-w2-0".to_owned()]);
    until(&scene, "two go", || deleted(&scene) == two).await;
    assert_eq!(scene.status()["workers"]["desired"], 1, "{}", scene.status());
}
