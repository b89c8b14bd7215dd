//! A warm engine over HTTP, as used by the Python client and the operator.

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
        // Keeps one result at a time.
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
        for (format, begins, lines) in [("table", "shape: (2, ", None), ("ndjson", "{", Some(2))] {
            let result = url(&format!("/api/v1/queries/q1/result?format={format}&rows=2"));
            let result = client.get(result).bearer_auth(token).send().await.unwrap().text().await.unwrap();
            assert!(result.starts_with(begins) && lines.is_none_or(|n| result.lines().count() == n), "{result}");
        }
        // A page of two rows after the first row is the same in every format.
        let page = expected.slice(1, 2);
        let ask = async |format: &str| {
            let result = url(&format!("/api/v1/queries/q1/result?format={format}&offset=1&rows=2"));
            let answer = client.get(result).bearer_auth(token).send().await.unwrap();
            assert_eq!(answer.headers()["floe-offset"], "1");
            answer.bytes().await.unwrap()
        };
        let stream = IpcStreamReader::new(std::io::Cursor::new(ask("stream").await)).finish().unwrap();
        let parquet = ParquetReader::new(std::io::Cursor::new(ask("parquet").await)).finish().unwrap();
        assert!(stream.equals_missing(&page) && parquet.equals_missing(&page), "{stream} {parquet}");
        let json: Vec<Value> = serde_json::from_slice(&ask("json").await).unwrap();
        let ndjson = String::from_utf8(ask("ndjson").await.to_vec()).unwrap();
        let lines: Vec<Value> = ndjson.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(json.len() == 2 && json == lines, "{json:?} {ndjson}");
        assert_eq!(String::from_utf8(ask("csv").await.to_vec()).unwrap().lines().count(), 3);
        let metrics = client.get(url("/metrics")).bearer_auth("engine-token").send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        assert!(metrics.contains("floe_queries_ended_total{outcome=\"succeeded\"} 1"), "{metrics}");
        let launched = metrics.lines().find_map(|line| line.strip_prefix("floe_tasks_launched_total "));
        assert!(
            launched.unwrap().parse::<u64>().unwrap() > 0 && metrics.contains("\nfloe_tasks_retried_total 0\n"),
            "{metrics}"
        );

        // A result of several batches, each with its own dictionary.
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
        let told = refused["message"].as_str().unwrap();
        assert!(told.contains("1 query runs and 2 wait") && told.contains("--max-waiting"), "{told}");
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
        // A waiting query can be cancelled; others start when there is room.
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

#[test]
fn results_come_in_the_form_that_is_asked_for_and_plans_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let data = dir.path().join("data");
    let plan = staged(scan(&parquet(&data, 2, 400, 10)));
    let expected = plan.clone().collect().unwrap();
    let categories =
        plan.clone().with_columns([lit("x").cast(DataType::from_categories(Categories::global())).alias("c")]);
    runtime().block_on(async {
        let client = reqwest::Client::new();
        let url = |path: &str| format!("{}/api/v1/{path}", server.url);
        let get = |path: &str| client.get(url(path)).bearer_auth("engine-token").send();
        let post = |path: &str, job: &floe_api::job::Job| {
            client.post(url(path)).bearer_auth("engine-token").body(serde_json::to_vec(job).unwrap()).send()
        };

        let explained = post("explain", &job("looked-at", &plan, Mode::Distributed)).await.unwrap();
        assert!(explained.text().await.unwrap().contains("stage 0:"));
        let json = post("explain?format=json", &job("looked-at", &plan, Mode::Distributed)).await.unwrap();
        assert!(json.json::<Value>().await.unwrap()["stages"].is_array());
        let wrong = plan.clone().select([col("nothing")]);
        let refused = post("explain", &job("looked-at", &wrong, Mode::Distributed)).await.unwrap();
        assert_eq!(refused.status(), 400);
        assert!(refused.text().await.unwrap().contains("ColumnNotFoundError"));
        assert_eq!(get("queries/looked-at").await.unwrap().status(), 404, "it was not run");

        // Relative paths are resolved against the job's base, and events report the stages to late subscribers, too.
        let mut relative = job("relative", &staged(scan("data/*.parquet")), Mode::Distributed);
        relative.base = Some(dir.path().to_path_buf());
        assert_eq!(post("queries", &relative).await.unwrap().status(), 202);
        let events = tokio::time::timeout(Duration::from_secs(30), async {
            get("queries/relative/events").await.unwrap().text().await
        });
        assert!(events.await.unwrap().unwrap().contains("\"type\":\"done\""));
        let late = get("queries/relative/events").await.unwrap().text().await.unwrap();
        assert!(late.starts_with("data: {\"type\":\"planned\""), "{late}");

        let file = get("queries/relative/result?format=file&compat=newest").await.unwrap();
        assert_eq!(file.headers()["content-type"], "application/vnd.apache.arrow.file");
        let bytes = file.bytes().await.unwrap();
        assert!(IpcReader::new(std::io::Cursor::new(bytes)).finish().unwrap().equals_missing(&expected));
        let first = get("queries/relative/result?rows=3&compat=newest").await.unwrap();
        assert_eq!(first.headers()["content-type"], "application/vnd.apache.arrow.stream");
        let first = IpcStreamReader::new(std::io::Cursor::new(first.bytes().await.unwrap())).finish().unwrap();
        assert!(first.equals_missing(&expected.head(Some(3))));
        for wrong in ["format=xlsx", "compat=newer"] {
            assert_eq!(get(&format!("queries/relative/result?{wrong}")).await.unwrap().status(), 400);
        }

        // Dictionaries of categories grow, which a file does not allow.
        assert_eq!(post("queries", &job("categories", &categories, Mode::Distributed)).await.unwrap().status(), 202);
        get("queries/categories/events").await.unwrap().text().await.unwrap();
        let stream = get("queries/categories/result?format=file").await.unwrap();
        assert_eq!(stream.headers()["content-type"], "application/vnd.apache.arrow.stream");
    });
}

#[test]
fn an_engine_ends_with_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    // `--parent` names a process that is not its parent, as after the parent's death.
    let mut server = serve_with(dir.path(), &["--parent", "1"]);
    let until = Instant::now() + Duration::from_secs(20);
    while server.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    eventually("processes", Duration::from_secs(5), || processes_of(dir.path()));
}
