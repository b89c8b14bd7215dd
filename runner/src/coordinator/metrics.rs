//! Prints the engine's metrics in Prometheus' text format. Labels come from bounded sets only.

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
    let tasks = engine.statuses.counters.tasks();
    one("floe_tasks_launched_total", "counter", "Attempts of tasks that were sent to workers.", tasks.launched);
    one("floe_tasks_failed_total", "counter", "Attempts that failed.", tasks.failed_attempts);
    one("floe_tasks_retried_total", "counter", "Attempts that were made because one had failed.", tasks.retries);
    one("floe_tasks_speculative_total", "counter", "Second attempts of slow tasks.", tasks.speculative);
    one("floe_tasks_speculative_won_total", "counter", "Of those, the ones that ended first.", tasks.speculative_won);
    one("floe_tasks_made_again_total", "counter", "Done tasks that ran again for lost outputs.", tasks.made_again);
    one("floe_outputs_lost_total", "counter", "Outputs of tasks that were lost with a worker.", tasks.lost_outputs);
    one("floe_stages_cut_finer_total", "counter", "Stages cut again, since tasks ran out of memory.", tasks.cut_finer);
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
