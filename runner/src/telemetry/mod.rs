//! Logs and traces of one process: `tracing` to stderr as text or JSON, and spans to an OTLP collector if the standard
//! variable `OTEL_EXPORTER_OTLP_ENDPOINT` is set. Knows nothing of queries but their W3C trace context.

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// How long to wait at the end of the process for the export of the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_FILTER: &str = "warn,floe_runner=warn";
/// Spans to export, independent of the log filter.
const SPAN_FILTER: &str = "off,floe_runner=info";

/// Exports the remaining spans when it is dropped.
#[derive(Default)]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take() {
            let _ = provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Starts logs and traces. Call it inside the tokio runtime that will run the exports. A second call in one process has
/// no effect.
pub fn init(role: &'static str, instance: &str) -> Guard {
    let asked = ["FLOE_LOG", "RUST_LOG"].into_iter().find_map(|name| std::env::var(name).ok());
    let filter = asked.and_then(|asked| EnvFilter::try_new(asked).ok()).unwrap_or_else(|| DEFAULT_FILTER.into());
    let json = match std::env::var("FLOE_LOG_FORMAT").as_deref() {
        Ok("json") => true,
        Ok(_) => false,
        Err(_) => !std::io::stderr().is_terminal(),
    };
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs = if json { logs.json().flatten_event(true).boxed() } else { logs.boxed() };
    let logs = logs.with_filter(filter);

    let provider = provider(role, instance);
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("floe"))
            .with_location(false)
            .with_threads(false)
            .with_filter(EnvFilter::new(SPAN_FILTER))
    });
    if tracing_subscriber::registry().with(spans).with(logs).try_init().is_err() {
        return Guard::default();
    }
    // Polars would print its warnings unformatted, between log lines that must be parseable.
    polars_error::set_warning_function(|message, kind| {
        floe_polars::warnings::hear(message, &kind);
        tracing::warn!(target: "polars", ?kind, "{message}");
    });
    Guard { provider }
}

fn provider(role: &'static str, instance: &str) -> Option<SdkTracerProvider> {
    let wanted = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    if !wanted.iter().any(|name| std::env::var(name).is_ok_and(|value| !value.is_empty())) {
        return None;
    }
    let exporter = match opentelemetry_otlp::SpanExporter::builder().with_tonic().build() {
        Ok(exporter) => exporter,
        Err(error) => {
            // Print it, because logging is not set up yet. A wrong endpoint must not stop a query.
            eprintln!("floe: traces are off: {error}");
            return None;
        }
    };
    let mut resource = Resource::builder();
    if std::env::var("OTEL_SERVICE_NAME").is_err() {
        resource = resource.with_service_name(format!("floe-{role}"));
    }
    let resource = resource.with_attribute(KeyValue::new("service.instance.id", instance.to_string())).build();
    Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// The W3C trace context of a span, for messages; empty if traces are off.
pub fn traceparent(span: &Span) -> String {
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return String::new();
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove("traceparent").unwrap_or_default()
}

/// Sets a span's parent from the trace context of a message, and records its trace id for the logs. The span needs an
/// empty field `trace_id`.
pub fn set_parent(span: &Span, traceparent: &str) {
    let context = parse(traceparent);
    if let Some(context) = &context {
        let _ = span.set_parent(context.clone());
    }
    let own = span.context();
    let own = own.span().span_context().clone();
    let trace = if own.is_valid() {
        Some(own.trace_id())
    } else {
        context.map(|context| context.span().span_context().trace_id())
    };
    if let Some(trace) = trace {
        span.record("trace_id", tracing::field::display(trace));
    }
}

/// Sets the user's labels as attributes of the span, and all of them in the log field `labels`, which the span needs
/// empty.
pub fn set_labels(span: &Span, labels: &BTreeMap<String, String>) {
    if labels.is_empty() {
        return;
    }
    span.record("labels", tracing::field::debug(labels));
    for (name, value) in labels {
        span.set_attribute(format!("floe.label.{name}"), value.clone());
    }
}

fn parse(traceparent: &str) -> Option<Context> {
    if traceparent.is_empty() {
        return None;
    }
    let carrier = HashMap::from([("traceparent".to_string(), traceparent.to_string())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    context.span().span_context().is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_is_read_or_refused() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = parse(good).expect("valid");
        assert_eq!(context.span().span_context().trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        for bad in ["", "garbage", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn without_a_collector_spans_carry_nothing() {
        assert_eq!(traceparent(&tracing::info_span!("x")), "");
    }
}
