//! Whether the tables of files can be read: a query of their storage and from such pods as theirs takes a row of each. Wrong keys,
//! endpoints and buckets are seen only so, because it is pods that reach the store, and not this machine.

use std::time::Duration;

use floe_api::{ComputeSpec, DistributedQuery};
use serde_json::{Value, json};

use super::trial::Trial;
use super::{Check, State};
use crate::cluster::Cluster;
use crate::error::Failure;

const NAME: &str = "tables";

/// `before`: what was found so far.
pub async fn checks(cluster: &Cluster, files: &[DistributedQuery], before: &[Check], timeout: Duration) -> Vec<Check> {
    let tried: Vec<Probe> = files.iter().filter_map(probe).collect();
    // Without its Secret a query waits for it, and without a way to run any it would fail as the tiny one did.
    let blocked = |check: &&Check| check.state == State::Fail && ["storage", "run"].contains(&check.name.as_str());
    if let (false, Some(check)) = (tried.is_empty(), before.iter().find(blocked)) {
        return vec![Check::unknown(NAME, format!("not tried: `{}` failed", check.name))];
    }
    let mut checks = Vec::new();
    for Probe { tables, spec } in tried {
        let trial = match Trial::run(cluster, spec, timeout).await {
            Ok(trial) => trial,
            Err(failure) => {
                checks.push(refused(&failure));
                continue;
            }
        };
        checks.push(trial.judge(NAME, &format!("its pods could read {}", tables.join(", "))));
        checks.extend(trial.delete(cluster, NAME).await);
    }
    checks
}

fn refused(failure: &Failure) -> Check {
    Check::fail(NAME, failure.to_string(), "mend what the message names")
}

struct Probe {
    tables: Vec<String>,
    spec: Value,
}

/// A query that reads a row of each table of another one.
fn probe(query: &DistributedQuery) -> Option<Probe> {
    let spec = &query.spec;
    let tables: Vec<String> = spec.tables.keys().cloned().collect();
    if tables.is_empty() {
        return None;
    }
    // A name in JSON is one in Python.
    let rows = tables.iter().map(|name| format!("scan({}).head(1).select(pl.len())", Value::from(name.as_str())));
    let script = format!("result = pl.concat([{}])", rows.collect::<Vec<_>>().join(", "));
    let mut probe = json!({
        "plan": {"python": {"script": script}},
        "tables": spec.tables,
        "storages": spec.storages,
        "catalogs": spec.catalogs,
        "compute": compute(&spec.compute),
        "execution": {"mode": "single-node"},
    });
    if let Some(storage) = &spec.storage {
        probe["storage"] = json!(storage);
    }
    Some(Probe { tables, spec: probe })
}

/// Such pods, since their account and environment may be what opens the store, but small ones. On a context it has the context's.
fn compute(of: &ComputeSpec) -> Value {
    if let Some(context) = &of.context_ref {
        return json!({"contextRef": context});
    }
    let mut compute = json!(of);
    if let Some(fields) = compute.as_object_mut() {
        for size in ["minWorkers", "maxWorkers", "cpuLimit", "scratch", "requirements"] {
            fields.remove(size);
        }
    }
    compute["workers"] = 1.into();
    compute["cpus"] = "50m".into();
    compute["memory"] = "384Mi".into();
    compute["coordinator"] = json!({"cpus": "50m", "memory": "512Mi"});
    compute
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(compute: Value, tables: Value) -> DistributedQuery {
        floe_api::from_value(json!({
            "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "q"},
            "spec": {
                "plan": {"sql": "select 1"}, "tables": tables, "compute": compute,
                "storage": {"endpoint": "http://s3", "secretRef": {"name": "keys"}},
                "storages": {"other": {"secretRef": {"name": "more"}}},
                "sink": {"uri": "s3://b/out/", "format": "parquet"},
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_row_of_every_table_is_read_with_the_query_s_own_storage() {
        let tables = json!({
            "orders": {"uri": "s3://b/orders/*.parquet"},
            "o\"dd": {"uri": "s3://c/x.csv", "storage": "other"},
            "lake": {"uri": "s3://b/lake/", "format": "delta"},
        });
        let compute = json!({"minWorkers": 2, "maxWorkers": 8, "cpus": 4, "memory": "16Gi", "serviceAccountName": "reader",
            "coordinator": {"cpus": 2, "memory": "8Gi"}, "scratch": {"size": "1Ti"}});
        let probe = probe(&query(compute, tables)).unwrap();
        assert_eq!(probe.tables, ["lake", "o\"dd", "orders"]);
        let spec = &probe.spec;
        let script = spec["plan"]["python"]["script"].as_str().unwrap();
        assert_eq!(
            script,
            r#"result = pl.concat([scan("lake").head(1).select(pl.len()), scan("o\"dd").head(1).select(pl.len()), scan("orders").head(1).select(pl.len())])"#
        );
        assert_eq!(spec["storage"]["secretRef"]["name"], "keys");
        assert_eq!(spec["storages"]["other"]["secretRef"]["name"], "more");
        assert_eq!(spec["tables"]["o\"dd"]["storage"], "other");
        assert!(spec.get("sink").is_none(), "nothing is written");
        let compute = &spec["compute"];
        assert_eq!((&compute["workers"], &compute["memory"]), (&json!(1), &json!("384Mi")));
        assert_eq!(
            (&compute["coordinator"]["memory"], &compute["serviceAccountName"]),
            (&json!("512Mi"), &json!("reader"))
        );
        assert!(compute.get("maxWorkers").is_none() && compute.get("scratch").is_none(), "{compute}");
        // It is a query that the cluster takes.
        let whole = json!({"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "p"}, "spec": spec});
        let faults = floe_api::from_value(whole).err();
        assert!(faults.is_none(), "{faults:?}");
    }

    #[test]
    fn a_query_on_a_context_is_tried_there() {
        let tables = json!({"t": {"uri": "s3://b/t.parquet"}});
        let lent = probe(&query(json!({"contextRef": {"name": "warm"}}), tables)).unwrap();
        assert_eq!(lent.spec["compute"], json!({"contextRef": {"name": "warm"}}));
        assert!(probe(&query(json!({}), json!({}))).is_none(), "there is nothing to read");
    }
}
