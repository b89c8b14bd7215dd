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
    let counts = engine.registry.counts();
    let mut one = |name, kind, help, value| family(name, kind, help, &[(String::new(), value)]);
    one("floe_queries_running", "gauge", "Queries that are planned or run now.", counts.running);
    one("floe_queries_waiting", "gauge", "Queries that wait for others to end.", counts.waiting);
    one("floe_queries_admitted_total", "counter", "Queries that were let start.", counts.admitted);
    one("floe_queries_refused_total", "counter", "Queries that found no room, not even to wait.", counts.refused);
    one("floe_slots", "gauge", "Tasks that workers can run at once.", counts.slots);
    one("floe_slots_used", "gauge", "Of those, granted to queries.", counts.slots_used);
    one("floe_tasks_waiting", "gauge", "Tasks that could start and have no slot.", counts.tasks_waiting);
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
