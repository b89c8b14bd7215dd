//! A warm engine over HTTP, as the Python client and the operator use it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use floe_api::execution::Mode;
use polars::prelude::*;
use serde_json::Value;

use crate::support::*;

struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(dir: &std::path::Path) -> Server {
    serve_with(dir, &[])
}

fn serve_with(dir: &std::path::Path, args: &[&str]) -> Server {
    let mut child = Command::new(RUNNER)
        // Room for one result.
        .args(["serve", "--local-workers", "2", "--results-bytes", "1", "--scratch"])
        .arg(dir)
        .args(args)
        .env("FLOE_TOKEN", "engine-token")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["workers"], 2, "{ready}");
    Server { child, url: ready["http"].as_str().unwrap().to_string() }
}

#[test]
fn queries_are_submitted_watched_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = serve(dir.path());
    let plan = staged(small());
    let expected = plan.clone().collect().unwrap();
    let files = scan(&parquet(&dir.path().join("data"), 4, 2000, 10));
    let pieces = files.with_columns([col("s").cast(DataType::from_categories(Categories::global()))]);
    let all = pieces.clone().collect().unwrap();
    runtime().block_on(async {
        let client = reqwest::Client::new();
        let url = |path: &str| format!("{}{path}", server.url);
        assert_eq!(client.get(url("/healthz")).send().await.unwrap().status(), 200);
        assert_eq!(client.get(url("/readyz")).send().await.unwrap().status(), 200);
        for path in ["/metrics", "/api/v1/queries", "/api/v1/queries/q1", "/api/v1/queries/q1/result"] {
            assert_eq!(client.get(url(path)).send().await.unwrap().status(), 401, "{path}");
            assert_eq!(client.get(url(path)).bearer_auth("wrong").send().await.unwrap().status(), 401, "{path}");
        }
        let body = serde_json::to_vec(&job("q1", &plan, Mode::Distributed)).unwrap();
        let posted = client.post(url("/api/v1/queries")).bearer_auth("engine-token").body(body).send().await.unwrap();
        assert_eq!(posted.status(), 202);
        let posted: Value = posted.json().await.unwrap();
        let token = posted["token"].as_str().unwrap();

        let events = client.get(url("/api/v1/queries/q1/events")).bearer_auth(token).send().await.unwrap();
        let events = tokio::time::timeout(Duration::from_secs(30), events.text()).await.unwrap().unwrap();
        assert!(events.contains("\"type\":\"done\""), "{events}");

        let status = client.get(url("/api/v1/queries/q1")).bearer_auth(token).send().await.unwrap();
        let status: Value = status.json().await.unwrap();
        assert_eq!(status["phase"], "Succeeded", "{status}");
        let plan = client.get(url("/api/v1/queries/q1/plan")).bearer_auth(token).send().await.unwrap();
        assert!(plan.text().await.unwrap().contains("stage 0:"));
        let graph = client.get(url("/api/v1/queries/q1/graph?format=mermaid")).bearer_auth(token).send().await.unwrap();
        assert!(graph.text().await.unwrap().starts_with("flowchart"));
        let result = client.get(url("/api/v1/queries/q1/result")).bearer_auth(token).send().await.unwrap();
        let bytes = result.bytes().await.unwrap();
        let frame = IpcStreamReader::new(std::io::Cursor::new(bytes)).finish().unwrap();
        assert!(frame.equals_missing(&expected));
        let metrics = client.get(url("/metrics")).bearer_auth("engine-token").send().await.unwrap();
        assert!(metrics.text().await.unwrap().contains("floe_queries_ended_total{outcome=\"succeeded\"} 1"));

        // Of several pieces, each with a dictionary of its own.
        let body = serde_json::to_vec(&job("pieces", &pieces, Mode::Distributed)).unwrap();
        client.post(url("/api/v1/queries")).bearer_auth("engine-token").body(body).send().await.unwrap();
        let events = client.get(url("/api/v1/queries/pieces/events")).bearer_auth("engine-token").send().await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), events.text()).await.unwrap().unwrap();
        let result = client.get(url("/api/v1/queries/pieces/result")).bearer_auth("engine-token").send().await.unwrap();
        assert_eq!(result.status(), 200);
        let bytes = result.bytes().await.unwrap();
        let frame = IpcStreamReader::new(std::io::Cursor::new(bytes)).finish().unwrap();
        let text = |frame: DataFrame| frame.lazy().with_columns([col("s").cast(DataType::String)]).collect().unwrap();
        assert!(text(frame).equals_missing(&text(all)));
        let dropped = client.get(url("/api/v1/queries/q1/result")).bearer_auth(token).send().await.unwrap();
        assert_eq!(dropped.status(), 410);
        assert!(dropped.text().await.unwrap().contains("ResultDropped"));

        let body = serde_json::to_vec(&job("q2", &endless(), Mode::Distributed)).unwrap();
        client.post(url("/api/v1/queries")).bearer_auth("engine-token").body(body).send().await.unwrap();
        let other = client.get(url("/api/v1/queries/q2")).bearer_auth(token).send().await.unwrap();
        assert_eq!(other.status(), 401, "one query's token opens no other");
        client.delete(url("/api/v1/queries/q2")).bearer_auth("engine-token").send().await.unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let status = client.get(url("/api/v1/queries/q2")).bearer_auth("engine-token").send().await.unwrap();
            let status: Value = status.json().await.unwrap();
            if status["phase"] == "Cancelled" {
                break;
            }
            assert!(Instant::now() < until, "{status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    kill(server.child.id() as i32, libc::SIGTERM);
    server.child.wait().unwrap();
    eventually("processes", Duration::from_secs(5), || processes_of(dir.path()));
}

#[test]
fn queries_that_find_no_room_wait_or_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve_with(dir.path(), &["--max-running", "1", "--max-waiting", "2"]);
    runtime().block_on(async {
        let client = reqwest::Client::new();
        let url = |path: &str| format!("{}/api/v1/queries{path}", server.url);
        let send = |id: &'static str, plan: LazyFrame, priority: i32| {
            let mut job = job(id, &plan, Mode::Distributed);
            job.spec.priority = priority;
            let body = serde_json::to_vec(&job).unwrap();
            client.post(url("")).bearer_auth("engine-token").body(body).send()
        };
        let status = |id: &'static str| {
            let asked = client.get(url(&format!("/{id}"))).bearer_auth("engine-token").send();
            async { asked.await.unwrap().json::<Value>().await.unwrap() }
        };
        assert_eq!(send("endless", endless(), 0).await.unwrap().status(), 202);
        assert_eq!(send("low", staged(small()), 0).await.unwrap().status(), 202);
        assert_eq!(send("high", staged(small()), 1).await.unwrap().status(), 202);
        let refused = send("refused", staged(small()), 9).await.unwrap();
        assert_eq!(refused.status(), 429);
        let refused: Value = refused.json().await.unwrap();
        assert_eq!(refused["class"], "TooManyQueries", "{refused}");
        for (id, ahead) in [("high", 0), ("low", 1)] {
            let status = status(id).await;
            assert_eq!((&status["phase"], &status["ahead"]), (&"Waiting".into(), &ahead.into()), "{status}");
        }
        let asked = client.get(url("/refused")).bearer_auth("engine-token").send().await.unwrap();
        assert_eq!(asked.status(), 404, "nothing is kept of a query that was refused");
        let metrics = client.get(format!("{}/metrics", server.url)).bearer_auth("engine-token").send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        for line in ["floe_queries_running 1", "floe_queries_waiting 2", "floe_queries_refused_total 1", "floe_slots 2"]
        {
            assert!(metrics.contains(line), "no {line} in {metrics}");
        }
        // One that waits can be cancelled, and the others start when there is room.
        client.delete(url("/high")).bearer_auth("engine-token").send().await.unwrap();
        client.delete(url("/endless")).bearer_auth("engine-token").send().await.unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let (high, low) = (status("high").await, status("low").await);
            if high["phase"] == "Cancelled" && low["phase"] == "Succeeded" {
                break;
            }
            assert!(Instant::now() < until, "{high} {low}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}
