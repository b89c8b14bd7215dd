//! The Prometheus metrics. Label values come from bounded sets.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use floe_api::{ComputeContextStatus, ContextPhase, Phase};
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
struct Answered {
    operation: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabel {
    phase: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

type Histograms = Family<PhaseLabel, Histogram, fn() -> Histogram>;
/// Counts the queries by phase and reason at scrape time.
type Census = Box<dyn Fn() -> Vec<(&'static str, String, i64)> + Send + Sync>;
/// Returns the status of every context at scrape time.
type Contexts = Box<dyn Fn() -> Vec<ComputeContextStatus> + Send + Sync>;

pub struct Metrics {
    registry: Registry,
    queries: Family<PhaseReason, Gauge<i64, AtomicI64>>,
    durations: Histograms,
    reconciles: Counter,
    reconcile_seconds: Histogram,
    failures: Family<Category, Counter>,
    leader: Gauge<i64, AtomicI64>,
    answered: Family<Answered, Counter>,
    census: Mutex<Option<Census>>,
    contexts: Family<PhaseLabel, Gauge<i64, AtomicI64>>,
    context_workers: Family<StateLabel, Gauge<i64, AtomicI64>>,
    context_queries: Family<StateLabel, Gauge<i64, AtomicI64>>,
    statuses: Mutex<Option<Contexts>>,
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
        let answered = Family::default();
        registry.register("http_api_answers", "Answers of the HTTP API by operation and status", answered.clone());
        registry.register("leader", "1 while this replica works", leader.clone());
        let (contexts, context_workers, context_queries) = (Family::default(), Family::default(), Family::default());
        registry.register("contexts", "Contexts by phase", contexts.clone());
        registry.register(
            "context_workers",
            "Workers of all contexts, by whether they are there",
            context_workers.clone(),
        );
        registry.register("context_queries", "Queries on all contexts, by whether they run", context_queries.clone());
        Self {
            registry,
            queries,
            durations,
            reconciles,
            reconcile_seconds,
            failures,
            leader,
            answered,
            census: Mutex::default(),
            contexts,
            context_workers,
            context_queries,
            statuses: Mutex::default(),
        }
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

    /// Counts an answer of the HTTP API.
    pub fn answered(&self, operation: &'static str, status: u16) {
        self.answered.get_or_create(&Answered { operation, status }).inc();
    }

    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    pub fn count_by(&self, census: Option<Census>) {
        *self.census.lock().unwrap_or_else(PoisonError::into_inner) = census;
    }

    pub fn count_contexts_by(&self, statuses: Option<Contexts>) {
        *self.statuses.lock().unwrap_or_else(PoisonError::into_inner) = statuses;
    }

    fn count_contexts(&self) {
        self.contexts.clear();
        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let statuses = statuses.as_ref().map(|all| all()).unwrap_or_default();
        let (mut workers, mut queries) = ([0, 0], [0, 0]);
        for status in &statuses {
            let phase = status.phase.map_or("Starting", ContextPhase::as_str).to_owned();
            self.contexts.get_or_create(&PhaseLabel { phase }).inc();
            let (ready, wanted) = status.workers.as_ref().map_or((0, 0), |workers| (workers.ready, workers.wanted));
            workers = [workers[0] + i64::from(ready), workers[1] + i64::from(wanted)];
            let count = |queries: Option<u32>| i64::from(queries.unwrap_or(0));
            queries = [queries[0] + count(status.queries_running), queries[1] + count(status.queries_waiting)];
        }
        for (family, states, counts) in [
            (&self.context_workers, ["ready", "wanted"], workers),
            (&self.context_queries, ["running", "waiting"], queries),
        ] {
            for (state, count) in states.into_iter().zip(counts) {
                family.get_or_create(&StateLabel { state }).set(count);
            }
        }
    }

    pub fn text(&self) -> String {
        self.count_contexts();
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
        metrics.answered("getQuery", 404);
        metrics.count_by(Some(Box::new(|| vec![("Running", "None".into(), 2), ("Failed", "BadPlan".into(), 1)])));
        let status = |ready, phase| ComputeContextStatus {
            phase,
            workers: Some(floe_api::ContextWorkers { ready, wanted: 4, summary: None }),
            queries_waiting: Some(7),
            ..ComputeContextStatus::default()
        };
        metrics.count_contexts_by(Some(Box::new(move || vec![status(1, Some(ContextPhase::Ready)), status(2, None)])));
        let text = metrics.text();
        for line in [
            "floe_operator_contexts{phase=\"Ready\"} 1",
            "floe_operator_contexts{phase=\"Starting\"} 1",
            "floe_operator_context_workers{state=\"ready\"} 3",
            "floe_operator_context_workers{state=\"wanted\"} 8",
            "floe_operator_context_queries{state=\"running\"} 0",
            "floe_operator_context_queries{state=\"waiting\"} 14",
            "floe_operator_queries{phase=\"Running\",reason=\"None\"} 2",
            "floe_operator_queries{phase=\"Failed\",reason=\"BadPlan\"} 1",
            "floe_operator_reconciles_total 1",
            "floe_operator_failures_total{category=\"cluster\"} 1",
            "floe_operator_leader 1",
            "floe_operator_http_api_answers_total{operation=\"getQuery\",status=\"404\"} 1",
            "floe_operator_query_duration_seconds_count{phase=\"Succeeded\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
