//! A worker's metrics in Prometheus' text format, for clients with the engine's token.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::shuffle::{self, Store};
use floe_wire::task::NodeMetrics;

use super::slots::Slots;
use super::watch;

pub fn router(store: Arc<Store>, slots: Arc<Slots>, token: String) -> Router {
    let show = move |headers: HeaderMap| {
        let answer = answer(&store, &slots, &token, &headers);
        std::future::ready(answer)
    };
    Router::new().route("/metrics", get(show)).route("/healthz", get(|| async { "ok" }))
}

fn answer(store: &Store, slots: &Slots, token: &str, headers: &HeaderMap) -> Response {
    match shuffle::bearer(headers) {
        Some(shown) if shuffle::same(shown, token) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], render(store, slots)).into_response()
        }
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

fn render(store: &Store, slots: &Slots) -> String {
    let (usage, counters) = (store.usage(), &slots.counters);
    let families = [
        ("floe_worker_tasks_done_total", "counter", "Tasks that succeeded.", counters.done.load(Ordering::Relaxed)),
        ("floe_worker_tasks_failed_total", "counter", "Tasks that failed.", counters.failed.load(Ordering::Relaxed)),
        ("floe_worker_rows_total", "counter", "Rows produced by tasks.", counters.rows.load(Ordering::Relaxed)),
        ("floe_worker_bytes_total", "counter", "Bytes produced by tasks.", counters.bytes.load(Ordering::Relaxed)),
        (
            "floe_worker_engine_microseconds_total",
            "counter",
            "Time inside Polars' engine.",
            counters.run_us.load(Ordering::Relaxed),
        ),
        ("floe_worker_tasks_running", "gauge", "Tasks that run now.", slots.running().len() as u64),
        ("floe_worker_memory_bytes", "gauge", "Memory in use.", watch::used_bytes(store)),
        ("floe_worker_shuffle_memory_bytes", "gauge", "Shuffle files in memory.", usage.memory_bytes),
        ("floe_worker_shuffle_disk_bytes", "gauge", "Shuffle files on disk.", usage.disk_bytes),
    ];
    let mut out = String::new();
    for (name, kind, help, value) in families {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    render_nodes(&counters.nodes(), &mut out);
    out
}

/// Polars' own counts by kind of node.
fn render_nodes(nodes: &BTreeMap<String, NodeMetrics>, out: &mut String) {
    type Value = fn(&NodeMetrics) -> u64;
    let families: [(&str, &str, Value); 3] = [
        ("floe_worker_node_rows_total", "Rows produced by nodes of Polars' engine.", |node| node.rows),
        ("floe_worker_node_read_bytes_total", "Bytes read by nodes from files and stores.", |node| node.bytes),
        ("floe_worker_node_active_microseconds_total", "Time that nodes were active.", |node| node.active_us),
    ];
    for (name, help, value) in families {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for (kind, node) in nodes {
            let _ = writeln!(out, "{name}{{node=\"{kind}\"}} {}", value(node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_labels() {
        let scan = NodeMetrics { node: "multi-scan".into(), rows: 7, bytes: 80, active_us: 9 };
        let mut out = String::new();
        render_nodes(&BTreeMap::from([(scan.node.clone(), scan)]), &mut out);
        assert!(
            out.contains(
                "# TYPE floe_worker_node_rows_total counter\nfloe_worker_node_rows_total{node=\"multi-scan\"} 7\n"
            ),
            "{out}"
        );
        assert!(out.contains("floe_worker_node_read_bytes_total{node=\"multi-scan\"} 80\n"), "{out}");
    }
}
