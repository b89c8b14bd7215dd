//! The client's span reaches a collector, and the job carries its context to the coordinator.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::{Request, Response, Status};

struct Collector(mpsc::SyncSender<Span>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        for span in spans {
            self.0.try_send(span).map_err(|e| Status::internal(e.to_string()))?;
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

const QUERY: &str = "
apiVersion: floe.dev/v1alpha1
kind: DistributedQuery
metadata: {name: traced}
spec:
  plan: {python: {script: 'result = scan(\"t\")'}}
  tables: {t: {uri: t.parquet}}
";

fn run(dir: &std::path::Path, event: &str, env: &[(&str, &str)]) -> (Output, String) {
    let runner = dir.join("runner");
    std::fs::write(&runner, format!("#!/bin/sh\ncp $3 {}\necho '{event}'\n", dir.join("job").display())).unwrap();
    std::fs::set_permissions(&runner, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.join("q.yaml"), QUERY).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_floe"))
        .args(["run", "--quiet"])
        .arg(dir.join("q.yaml"))
        .env("FLOE_RUNNER", &runner)
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let job: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("job")).unwrap()).unwrap();
    (output, job["traceparent"].as_str().unwrap_or_default().to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

const DONE: &str = r#"{"type":"done","outcome":{"rows":1,"durationMs":1,"stages":[]}}"#;

#[test]
fn the_span_of_a_run_reaches_the_collector() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (sender, spans) = mpsc::sync_channel(16);
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(
        tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Collector(sender)))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
    );
    let dir = tempfile::tempdir().unwrap();

    let (output, traceparent) = run(dir.path(), DONE, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    assert!(output.status.success(), "{output:?}");
    let span = spans.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(span.name, "floe run");
    assert!(span.parent_span_id.is_empty());
    assert_eq!(traceparent, format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id)));

    let above = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let failed = r#"{"type":"error","category":"user","class":"ColumnNotFoundError","message":"no a"}"#;
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("TRACEPARENT", above)];
    let (output, traceparent) = run(dir.path(), failed, &env);
    assert_eq!(output.status.code(), Some(2));
    let span = spans.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (above[3..35].to_owned(), above[36..52].to_owned()));
    assert!(traceparent.starts_with(&above[..36]) && traceparent != above, "{traceparent}");
    let status = span.status.unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "ColumnNotFoundError: no a"));
}

#[test]
fn without_a_collector_the_context_still_travels_and_nothing_fails() {
    let dir = tempfile::tempdir().unwrap();
    let above = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (output, traceparent) = run(dir.path(), DONE, &[("TRACEPARENT", above)]);
    assert!(output.status.success());
    assert_eq!(traceparent, above);
    let (output, _) = run(dir.path(), DONE, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")]);
    assert!(output.status.success(), "{output:?}");
}
