//! A warm engine whose workers connect and leave by themselves, like the pods of a context.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use floe_api::execution::Mode;
use floe_api::report::{EngineReport, EngineWorker, QUERY_TOKEN};
use polars::prelude::*;
use serde_json::Value;

use crate::support::*;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server {
    _process: Process,
    url: String,
    control: String,
    client: reqwest::Client,
}

fn serve(dir: &Path) -> Server {
    let mut child = Command::new(RUNNER)
        .args(["serve", "--joining-workers", "3", "--scratch"])
        .arg(dir)
        .env("FLOE_TOKEN", "engine-token")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["workers"], 0, "it waits for none: {ready}");
    let text = |key: &str| ready[key].as_str().unwrap().to_owned();
    Server { _process: Process(child), url: text("http"), control: text("control"), client: reqwest::Client::new() }
}

fn worker(server: &Server, dir: &Path, id: &str) -> Process {
    let child = Command::new(RUNNER)
        .args(["worker", "--coordinator", &server.control, "--id", id, "--scratch"])
        .arg(dir)
        .env("FLOE_TOKEN", "engine-token")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    Process(child)
}

impl Server {
    async fn send(&self, id: &str, attempt: u32, plan: &LazyFrame, token: &str) -> u16 {
        let mut job = job(id, plan, Mode::Distributed);
        job.attempt = attempt;
        let request = self.client.post(format!("{}/api/v1/queries", self.url)).bearer_auth("engine-token");
        let sent = request.header(QUERY_TOKEN, token).body(serde_json::to_vec(&job).unwrap()).send().await.unwrap();
        sent.status().as_u16()
    }

    async fn get(&self, path: &str, token: &str) -> reqwest::Response {
        self.client.get(format!("{}/api/v1/{path}", self.url)).bearer_auth(token).send().await.unwrap()
    }

    async fn engine(&self) -> EngineReport {
        self.get("engine", "engine-token").await.json().await.unwrap()
    }

    async fn engine_until(&self, what: &str, holds: impl Fn(&EngineReport) -> bool) -> EngineReport {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let report = self.engine().await;
            if holds(&report) {
                return report;
            }
            assert!(Instant::now() < until, "{what}: {report:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ended(&self, id: &str, token: &str) -> Value {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let status: Value = self.get(&format!("queries/{id}"), token).await.json().await.unwrap();
            if ["Succeeded", "Failed", "Cancelled"].contains(&status["phase"].as_str().unwrap()) {
                return status;
            }
            assert!(Instant::now() < until, "{status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn drain(&self, worker: &str) -> u16 {
        let request = self.client.post(format!("{}/api/v1/workers/{worker}/drain", self.url));
        request.bearer_auth("engine-token").send().await.unwrap().status().as_u16()
    }
}

fn of<'a>(report: &'a EngineReport, id: &str) -> Option<&'a EngineWorker> {
    report.workers.iter().find(|worker| worker.id == id)
}

const TOKEN: &str = "the-query's-own-token-0123456789";

#[test]
fn queries_wait_for_workers_and_workers_can_leave() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let plan = staged(scan(&parquet(&dir.path().join("data"), 6, 2000, 100)));
    runtime().block_on(async {
        // Without workers the query waits, and the engine reports its demand.
        assert_eq!(server.send("early", 1, &plan, TOKEN).await, 202);
        let report = server.engine_until("tasks that wait", |report| report.tasks_waiting > 0).await;
        assert_eq!((report.queries_running, report.queries_waiting, report.workers.len()), (1, 0, 0));
        let one = worker(&server, dir.path(), "one");
        let ended = server.ended("early", TOKEN).await;
        assert_eq!((&ended["phase"], &ended["attempt"]), (&"Succeeded".into(), &1.into()), "{ended}");
        let result = server.get("queries/early/result", TOKEN).await;
        assert_eq!(result.status(), 200, "the token that was sent with it opens it");
        assert_eq!(server.get("queries/early", "another-token-0123456789").await.status(), 401);
        assert_eq!(server.engine().await.results, 1);

        // The same attempt sent again is not run again; another attempt is.
        assert_eq!(server.send("early", 1, &plan, TOKEN).await, 409);
        assert_eq!(server.send("early", 2, &plan, TOKEN).await, 202);
        assert_eq!(server.ended("early", TOKEN).await["attempt"], 2);
        assert_eq!(server.send("short", 1, &plan, "short").await, 400);

        // A drained worker gets no more tasks and is reported as free; the others go on.
        let _two = worker(&server, dir.path(), "two");
        server.engine_until("two workers", |report| report.workers.len() == 2).await;
        assert_eq!(server.drain("nobody").await, 404);
        assert_eq!(server.drain("one").await, 202);
        assert_eq!(server.drain("one").await, 202, "it can be said again");
        assert!(!of(&server.engine().await, "one").unwrap().drained, "not before it was heard of");
        let queries = 6;
        for number in 0..queries {
            assert_eq!(server.send(&format!("beside-{number}"), 1, &plan, TOKEN).await, 202);
        }
        for number in 0..queries {
            let ended = server.ended(&format!("beside-{number}"), TOKEN).await;
            assert_eq!(ended["phase"], "Succeeded", "{ended}");
        }
        let report = server.engine_until("it is free", |report| of(report, "one").is_some_and(|one| one.drained)).await;
        assert!(!of(&report, "two").unwrap().draining);
        drop(one);
        server.engine_until("it is gone", |report| of(report, "one").is_none()).await;
        assert_eq!(server.send("after", 1, &plan, TOKEN).await, 202);
        assert_eq!(server.ended("after", TOKEN).await["phase"], "Succeeded");

        // A worker that still runs tasks is not free.
        assert_eq!(server.send("endless", 1, &endless(), TOKEN).await, 202);
        server.engine_until("it works", |report| of(report, "two").is_some_and(|two| two.tasks > 0)).await;
        assert_eq!(server.drain("two").await, 202);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let report = server.engine().await;
        assert!(of(&report, "two").is_some_and(|two| two.draining && !two.drained), "{report:?}");
        // The second attempt is refused until the first has ended.
        assert_eq!(server.send("endless", 2, &plan, TOKEN).await, 429);
        assert_eq!(server.ended("endless", TOKEN).await["phase"], "Cancelled");
        // Its task may not stop, and then the worker process ends.
        server.engine_until("it is free", |report| of(report, "two").is_none_or(|two| two.drained)).await;
    });
}
