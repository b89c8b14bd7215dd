//! Logs as JSON or text, and OTLP traces when the standard environment asks for them.

use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::options::LogFormat;

/// Flushes what is left when it is dropped.
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::debug!(%error, "traces were not all sent");
        }
    }
}

pub fn start(format: LogFormat) -> Telemetry {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_client=warn,hyper=warn,tower=warn"));
    let logs = match format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Text => tracing_subscriber::fmt::layer().with_writer(std::io::stderr).boxed(),
    };
    let (provider, fault) = match exporter() {
        Some(Ok(provider)) => (Some(provider), None),
        Some(Err(fault)) => (None, Some(fault)),
        None => (None, None),
    };
    let traces = provider.as_ref().map(|p| tracing_opentelemetry::layer().with_tracer(p.tracer("floe-operator")));
    tracing_subscriber::registry().with(filter).with(logs).with(traces).init();
    if let Some(fault) = fault {
        tracing::warn!("no traces: {fault}");
    }
    Telemetry { provider }
}

fn exporter() -> Option<Result<SdkTracerProvider, String>> {
    let asked = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    let is_asked = asked.iter().any(|name| std::env::var(name).is_ok_and(|value| !value.is_empty()));
    if !is_asked {
        return None;
    }
    let protocol = std::env::var("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        .or_else(|_| std::env::var("OTEL_EXPORTER_OTLP_PROTOCOL"))
        .unwrap_or_default();
    let builder = opentelemetry_otlp::SpanExporter::builder();
    let exporter =
        if protocol.starts_with("http") { builder.with_http().build() } else { builder.with_tonic().build() };
    let resource = opentelemetry_sdk::Resource::builder();
    let name = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "floe-operator".to_owned());
    Some(exporter.map_err(|e| e.to_string()).map(|exporter| {
        SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.with_service_name(name).build())
            .build()
    }))
}

/// The W3C trace context of the current span; `None` if traces are not collected.
pub fn traceparent() -> Option<String> {
    let context = tracing::Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8()))
}
