use indicatif::InMemoryTerm;
use indicatif::TermLike as _;
use serde_json::json;

use super::*;

fn query(status: serde_json::Value) -> DistributedQuery {
    let text = json!({"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "q3"},
        "spec": {"plan": {"sql": "SELECT 1"}}, "status": status});
    serde_json::from_value(text).unwrap()
}

fn stage(id: u32, state: &str, done: u32) -> serde_json::Value {
    json!({"id": id, "label": format!("stage {id}"), "state": state, "tasksDone": done, "tasksTotal": 8, "rows": 1_200_000,
        "bytes": 5_000_000})
}

#[test]
fn a_status_is_one_line() {
    let mut status = query(json!({"phase": "Running", "progress": "45%", "stagesSummary": "1/3",
        "workers": {"ready": 3, "desired": 4, "summary": "3/4"}}))
    .status
    .unwrap();
    assert_eq!(line(&status), "Running, 45%, workers 3/4, stages 1/3");
    status.phase = Some(Phase::Failed);
    status.reason = Some("OutOfMemory".into());
    status.message = Some("worker 2 needs more".into());
    assert_eq!(line(&status), "Failed, 45%, workers 3/4, stages 1/3 (OutOfMemory: worker 2 needs more)");
    let done =
        query(json!({"phase": "Succeeded", "rows": 1, "duration": "1m12s", "reason": "Completed"})).status.unwrap();
    assert_eq!(line(&done), "Succeeded, 1 row, in 1m12s");
    assert_eq!(line(&DistributedQueryStatus::default()), "Pending");
}

#[test]
fn a_terminal_shows_a_bar_for_each_running_stage_and_what_holds_the_query_up() {
    let term = InMemoryTerm::new(20, 140);
    let mut bars = Bars::new(ProgressDrawTarget::term_like(Box::new(term.clone())));
    bars.tell(&query(
        json!({"phase": "Starting", "reason": "Unschedulable", "message": "no node has 64 CPUs", "attempt": 1}),
    ));
    let seen = term.contents();
    assert!(seen.contains("q3: Starting") && seen.contains("Unschedulable: no node has 64 CPUs"), "{seen}");
    bars.tell(&query(json!({"phase": "Running", "progress": "40%", "attempt": 1, "stagesSummary": "1/2",
        "stages": [stage(0, "done", 8), stage(1, "running", 3)]})));
    let seen = term.contents();
    assert!(seen.contains("✔   0 stage 0"), "{seen}");
    assert!(seen.contains("8 tasks   1.2M rows  5.0 MB"), "{seen}");
    assert!(
        seen.contains("  1 stage 1") && seen.contains("3/8") && seen.contains("q3: Running, 40%, stages 1/2"),
        "{seen}"
    );
    assert!(!seen.contains("Unschedulable"), "{seen}");
    // A new attempt begins with no stage done.
    bars.tell(&query(json!({"phase": "Running", "attempt": 2, "stages": [stage(0, "running", 1)]})));
    let seen = term.contents();
    assert!(seen.contains("q3: attempt 2") && seen.contains("1/8") && !seen.contains("3/8"), "{seen}");
    bars.finish();
    let seen = term.contents();
    assert!(!seen.contains("1/8") && !seen.contains("q3: Running") && seen.contains("✔   0 stage 0"), "{seen}");
    assert_eq!(term.width(), 140);
}
