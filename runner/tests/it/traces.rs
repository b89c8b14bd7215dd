//! One trace holds the client, the coordinator and every task: read back from a receiver that parses OTLP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use floe_api::execution::Mode;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::{Request, Response, Status};

use crate::support::*;

#[derive(Clone, Default)]
struct Receiver {
    spans: Arc<Mutex<Vec<(String, Span)>>>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let service = attributes.iter().find(|a| a.key == "service.name");
            let service = service.and_then(|a| a.value.clone()).map(|v| format!("{v:?}")).unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().unwrap().extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn one_trace_holds_the_query_its_stages_and_every_task() {
    let receiver = Receiver::default();
    let runtime = runtime();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let service = TraceServiceServer::new(receiver.clone());
    runtime.spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));

    let dir = tempfile::tempdir().unwrap();
    let mut job = job("traced", &staged(small()), Mode::Distributed);
    job.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)];
    let mut coordinator = Coordinator::start(dir.path(), &job, 2, &env);
    let done = coordinator.wait_for(|event| event["type"] == "done" || event["type"] == "error");
    let tasks: u64 =
        done["outcome"]["stages"].as_array().unwrap().iter().map(|s| s["attempts"].as_u64().unwrap()).sum();
    let stages = done["outcome"]["stages"].as_array().unwrap().len();
    assert_eq!(coordinator.wait(), Some(0));

    let until = Instant::now() + Duration::from_secs(10);
    let spans = loop {
        let spans = receiver.spans.lock().unwrap().clone();
        if spans.iter().filter(|(_, span)| span.name == "task").count() as u64 >= tasks || Instant::now() > until {
            break spans;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let by_id: HashMap<String, &Span> = spans.iter().map(|(_, span)| (hex(&span.span_id), span)).collect();
    let named = |name: &str| spans.iter().filter(move |(_, span)| span.name == name).collect::<Vec<_>>();
    for (_, span) in &spans {
        assert_eq!(hex(&span.trace_id), "0af7651916cd43dd8448eb211c80319c", "{}", span.name);
    }
    let query = named("query");
    assert_eq!(query.len(), 1);
    assert_eq!(hex(&query[0].1.parent_span_id), "b7ad6b7169203331");
    assert!(query[0].0.contains("floe-coordinator"), "{}", query[0].0);
    assert_eq!(named("stage").len(), stages);
    for (_, stage) in named("stage") {
        assert_eq!(stage.parent_span_id, query[0].1.span_id);
    }
    assert_eq!(named("task").len() as u64, tasks);
    for (service, task) in named("task") {
        assert!(service.contains("floe-worker"), "{service}");
        let parent = by_id.get(&hex(&task.parent_span_id)).expect("the parent came too");
        assert_eq!(parent.name, "stage");
    }
}
