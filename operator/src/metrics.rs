//! What Prometheus is told. Labels come from bounded sets of words.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use floe_api::Phase;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseReason {
    phase: String,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Category {
    category: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabel {
    phase: String,
}

type Histograms = Family<PhaseLabel, Histogram, fn() -> Histogram>;
/// Gives the queries by phase and reason, counted at the moment of asking.
type Census = Box<dyn Fn() -> Vec<(&'static str, String, i64)> + Send + Sync>;

pub struct Metrics {
    registry: Registry,
    queries: Family<PhaseReason, Gauge<i64, AtomicI64>>,
    durations: Histograms,
    reconciles: Counter,
    reconcile_seconds: Histogram,
    failures: Family<Category, Counter>,
    leader: Gauge<i64, AtomicI64>,
    census: Mutex<Option<Census>>,
}

fn query_seconds() -> Histogram {
    Histogram::new([1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0])
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("floe_operator");
        let queries = Family::default();
        let durations = Histograms::new_with_constructor(query_seconds);
        let reconciles = Counter::default();
        let reconcile_seconds = Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let failures = Family::default();
        let leader = Gauge::default();
        registry.register("queries", "Queries by phase and reason", queries.clone());
        registry.register("query_duration_seconds", "Time from start to finish of ended queries", durations.clone());
        registry.register("reconciles", "Looks at queries", reconciles.clone());
        registry.register("reconcile_duration_seconds", "Time that a look took", reconcile_seconds.clone());
        registry.register(
            "failures",
            "Looks that failed, and refusals of the API server, by category",
            failures.clone(),
        );
        registry.register("leader", "1 while this replica works", leader.clone());
        Self { registry, queries, durations, reconciles, reconcile_seconds, failures, leader, census: Mutex::default() }
    }

    pub fn reconciled(&self, took: Duration, failed: Option<&'static str>) {
        self.reconciles.inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
        if let Some(category) = failed {
            self.failed(category);
        }
    }

    pub fn failed(&self, category: &'static str) {
        self.failures.get_or_create(&Category { category: category.to_owned() }).inc();
    }

    pub fn ended(&self, phase: Phase, seconds: f64) {
        self.durations.get_or_create(&PhaseLabel { phase: phase.as_str().to_owned() }).observe(seconds);
    }

    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    pub fn count_by(&self, census: Option<Census>) {
        *self.census.lock().unwrap_or_else(PoisonError::into_inner) = census;
    }

    pub fn text(&self) -> String {
        self.queries.clear();
        if let Some(census) = &*self.census.lock().unwrap_or_else(PoisonError::into_inner) {
            for (phase, reason, count) in census() {
                self.queries.get_or_create(&PhaseReason { phase: phase.to_owned(), reason }).inc_by(count);
            }
        }
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told() {
        let metrics = Metrics::new();
        metrics.reconciled(Duration::from_millis(3), Some("cluster"));
        metrics.ended(Phase::Succeeded, 2.5);
        metrics.leads(true);
        metrics.count_by(Some(Box::new(|| vec![("Running", "None".into(), 2), ("Failed", "BadPlan".into(), 1)])));
        let text = metrics.text();
        for line in [
            "floe_operator_queries{phase=\"Running\",reason=\"None\"} 2",
            "floe_operator_queries{phase=\"Failed\",reason=\"BadPlan\"} 1",
            "floe_operator_reconciles_total 1",
            "floe_operator_failures_total{category=\"cluster\"} 1",
            "floe_operator_leader 1",
            "floe_operator_query_duration_seconds_count{phase=\"Succeeded\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
