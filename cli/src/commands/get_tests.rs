use super::*;

fn object(name: &str, spec: Value, status: Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
        "metadata": {"name": name, "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "floe"}]},
        "spec": spec, "status": status,
    }))
    .unwrap()
}

fn now() -> Timestamp {
    "2026-01-01T00:02:00Z".parse().unwrap()
}

#[test]
fn a_list_has_the_columns_of_kubectl() {
    let objects = [
        object(
            "q",
            json!({}),
            json!({"phase": "Running", "progress": "45%", "workers": {"summary": "3/4"},
            "stagesSummary": "1/3", "bytesShuffled": 12_300_000, "waited": "4s", "attempt": 1, "reason": "Planned"}),
        ),
        object("new", json!({}), Value::Null),
    ];
    assert_eq!(
        table(&objects, false, false, now()),
        [
            "NAME   PHASE     PROGRESS   WORKERS   STAGES   ROWS   AGE",
            "q      Running   45%        3/4       1/3             2m",
            "new    Pending                                        2m",
        ]
    );
    let wide = table(&objects, true, true, now());
    let head = "NAMESPACE NAME PHASE PROGRESS WORKERS STAGES ROWS AGE DURATION WAITED SHUFFLED ATTEMPT RESULT REASON";
    assert_eq!(wide[0].split_whitespace().collect::<Vec<_>>(), head.split(' ').collect::<Vec<_>>());
    assert!(wide[1].contains("4s") && wide[1].contains("12 MB") && wide[1].ends_with("Planned"), "{wide:?}");
}

#[test]
fn ages_are_short() {
    for (then, text) in [
        ("2026-01-01T00:01:15Z", "45s"),
        ("2026-01-01T00:03:00Z", "0s"),
        ("2025-12-31T23:50:00Z", "12m"),
        ("2025-12-31T19:00:00Z", "5h"),
        ("2025-12-28T23:00:00Z", "3d"),
    ] {
        assert_eq!(since(then.parse().unwrap(), now()), text);
    }
}

#[test]
fn one_query_is_described_with_its_stages_and_what_went_wrong() {
    let spec = json!({"plan": {"python": {"script": "x"}}, "tables": {"t": {"uri": "s3://b/t/", "format": "parquet"}},
        "sink": {"uri": "s3://b/o/", "format": "parquet", "mode": "error"}});
    let status = json!({"phase": "Failed", "reason": "OutOfMemory", "message": "worker 2 needs more", "attempt": 2,
        "warnings": ["careful"], "singleWorker": [{"stage": 1, "node": "SORT", "reason": "keeps order"}],
        "stages": [{"id": 0, "label": "scan t", "state": "done", "tasksDone": 8, "tasksTotal": 8, "rows": 1000, "bytes": 5000,
            "dependsOn": [], "attempts": 9, "elapsedMs": 2500},
            {"id": 1, "label": "sort", "state": "failed", "tasksDone": 0, "tasksTotal": 1, "dependsOn": [0], "attempts": 4}]});
    let text = described(&object("q", spec, status), now());
    for part in [
        "Name:      q\nNamespace: n\nAge:       2m\nPhase:     Failed (OutOfMemory: worker 2 needs more)\nPlan:      python\n",
        "Table:     t = s3://b/t/\nSink:      s3://b/o/ (parquet, error)\n",
        "Attempt:   2\nWarning:   careful\n",
        "STAGE   STATE    TASKS   ATTEMPTS   ROWS    BYTES    TIME     READS   WHAT IT DOES\n",
        "0       done     8/8     9          1,000   5.0 kB   2.50 s           scan t\n",
        "1       failed   0/1     4          0       0 B               0       sort\n",
        "On one worker:\n  SORT (stage 1): keeps order\n",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    // From a newer release, or written by someone else.
    let odd = described(&object("q", json!({"plan": {"dsl": 3}}), json!({"phase": "Strange"})), now());
    assert!(odd.contains("Phase:     Strange\nNote:      this release cannot read"), "{odd}");
}

#[test]
fn objects_come_without_who_wrote_what() {
    let value = clean(object("q", json!({"plan": {"sql": "x"}, "newField": 1}), json!({})));
    assert!(value["metadata"].get("managedFields").is_none());
    assert_eq!(value["spec"]["newField"], 1);
    assert_eq!(value["kind"], "DistributedQuery");
}
