//! The client's part of a query's trace: one span around the run, whose context is passed in the job. Disabled unless
//! the standard `OTEL_EXPORTER_OTLP_ENDPOINT` is set; a collector that does not answer never fails a query.

use std::time::Duration;

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span};

/// How long to wait for the span to be sent at the end of a run.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

pub struct Trace {
    on: Option<(SdkTracerProvider, Span)>,
}

impl Trace {
    /// Starts the span of a query, as a child of `parent` (a W3C traceparent). Must run inside a tokio runtime.
    pub fn begin(name: &str, id: &str, parent: Option<&str>) -> Self {
        let on = provider().map(|provider| {
            let tracer = provider.tracer("floe");
            let attributes =
                vec![KeyValue::new("floe.query", name.to_owned()), KeyValue::new("floe.query.id", id.to_owned())];
            let builder = tracer.span_builder("floe run").with_kind(SpanKind::Client).with_attributes(attributes);
            let above = parent.and_then(parse).map(|parent| Context::new().with_remote_span_context(parent));
            let span = builder.start_with_context(&tracer, &above.unwrap_or_default());
            (provider, span)
        });
        Trace { on }
    }

    /// The trace context for the job.
    pub fn traceparent(&self) -> Option<String> {
        let context = self.on.as_ref()?.1.span_context().clone();
        context
            .is_valid()
            .then(|| format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8()))
    }

    /// Ends the span and sends it.
    pub async fn end(self, error: Option<String>) {
        let Some((provider, mut span)) = self.on else { return };
        span.set_status(error.map_or(Status::Ok, Status::error));
        span.end();
        // On its own thread, because the exporter needs this runtime meanwhile.
        let _ = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
    }
}

fn provider() -> Option<SdkTracerProvider> {
    let wanted = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    let set = |name: &&str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    if !wanted.iter().any(set) {
        return None;
    }
    match opentelemetry_otlp::SpanExporter::builder().with_tonic().build() {
        Ok(exporter) => {
            let mut resource = Resource::builder();
            if !set(&"OTEL_SERVICE_NAME") {
                resource = resource.with_service_name("floe-cli");
            }
            Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build())
        }
        Err(error) => {
            crate::print::err(format_args!("warning: traces are off: {error}"));
            None
        }
    }
}

fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let (Some("00"), Some(trace), Some(span), Some(flags), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_is_read_or_left_aside() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(parse(good).unwrap().trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        for bad in [
            "",
            "garbage",
            "00-0-0-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            &format!("{good}-x"),
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
