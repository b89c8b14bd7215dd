//! The engine's numbers in Prometheus' text form. Labels come from bounded sets only.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::Engine;

pub fn render(engine: &Engine) -> String {
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, rows: &[(String, u64)]| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let ended = engine.statuses.counters.all();
    let ended: Vec<_> = ended.iter().map(|(how, count)| (format!("{{outcome=\"{how}\"}}"), *count)).collect();
    family("floe_queries_ended_total", "counter", "Queries by how they ended.", &ended);
    let running = engine.statuses.all().iter().filter(|query| !query.finished()).count();
    family("floe_queries_running", "gauge", "Queries that are planned or run now.", &[(String::new(), running as u64)]);
    let links = engine.registry.links();
    family("floe_workers", "gauge", "Connected workers.", &[(String::new(), links.len() as u64)]);
    let memory = links.iter().map(|link| link.memory_bytes.load(Ordering::Relaxed)).sum();
    family("floe_workers_memory_bytes", "gauge", "Memory in use on all workers.", &[(String::new(), memory)]);
    let shuffle = links.iter().map(|link| link.shuffle_bytes.load(Ordering::Relaxed)).sum();
    family("floe_workers_shuffle_bytes", "gauge", "Shuffle files on all workers.", &[(String::new(), shuffle)]);
    let expected = engine.expected_workers() as u64;
    family("floe_workers_expected", "gauge", "Workers the engine is made for.", &[(String::new(), expected)]);
    out
}
