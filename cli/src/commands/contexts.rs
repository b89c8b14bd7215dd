//! `floe contexts`: the warm contexts of a cluster, as a table, in full one by one, or as objects.

use std::process::ExitCode;

use floe_api::ComputeContext;
use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::get::{age, clean, object_out, shown, since};
use crate::args::cluster::{ContextsArgs, GetOutput};
use crate::cluster::Cluster;
use crate::error::Failure;
use crate::{block_on, human, print};

pub fn run(args: ContextsArgs) -> Result<ExitCode, Failure> {
    block_on(async {
        let cluster = Cluster::connect(&args.cluster).await?;
        let mut found = Vec::new();
        if args.names.is_empty() {
            found = cluster.list_contexts(args.all_namespaces, args.selector.as_deref()).await?;
        }
        for name in &args.names {
            found.push(cluster.context(name).await?);
        }
        show(&cluster, found, &args).map(|()| ExitCode::SUCCESS)
    })
}

fn show(cluster: &Cluster, mut found: Vec<DynamicObject>, args: &ContextsArgs) -> Result<(), Failure> {
    let now = Timestamp::now();
    match args.output {
        GetOutput::Json | GetOutput::Yaml if args.names.len() == 1 => {
            found.drain(..).try_for_each(|object| object_out(clean(object), args.output))
        }
        GetOutput::Json | GetOutput::Yaml => {
            let items: Vec<Value> = found.into_iter().map(clean).collect();
            object_out(json!({"apiVersion": "v1", "kind": "List", "items": items}), args.output)
        }
        GetOutput::Name => {
            found.iter().for_each(|object| print::out(object.metadata.name.as_deref().unwrap_or_default()));
            Ok(())
        }
        GetOutput::Table if !args.names.is_empty() => {
            found.iter().for_each(|object| print::out(described(object, now).trim_end()));
            Ok(())
        }
        GetOutput::Table | GetOutput::Wide if found.is_empty() => {
            let place = match args.all_namespaces {
                true => "on this cluster".to_owned(),
                false => format!("in namespace {}", cluster.namespace),
            };
            print::err(format_args!("there are no contexts {place}"));
            Ok(())
        }
        GetOutput::Table | GetOutput::Wide => {
            let wide = args.output == GetOutput::Wide;
            table(&found, args.all_namespaces, wide, now).iter().for_each(print::out);
            Ok(())
        }
    }
}

/// Formats the CRD's printer columns as a table.
fn table(objects: &[DynamicObject], with_namespace: bool, wide: bool, now: Timestamp) -> Vec<String> {
    let mut head = vec!["NAME", "PHASE", "WORKERS", "RUNNING", "WAITING", "AGE"];
    if with_namespace {
        head.insert(0, "NAMESPACE");
    }
    if wide {
        head.extend(["MEMORY", "COORDINATOR", "REASON"]);
    }
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for object in objects {
        let text = |path: &str| shown(object.data["status"].pointer(path).unwrap_or(&Value::Null));
        let mut row = vec![object.metadata.name.clone().unwrap_or_default()];
        if with_namespace {
            row.insert(0, object.metadata.namespace.clone().unwrap_or_default());
        }
        row.extend(["/phase", "/workers/summary", "/queriesRunning", "/queriesWaiting"].map(text));
        row.push(age(object, now));
        if wide {
            row.extend(["/memory", "/coordinator", "/reason"].map(text));
        }
        rows.push(row);
    }
    human::aligned(&rows)
}

/// Describes one context in full.
fn described(object: &DynamicObject, now: Timestamp) -> String {
    let mut lines = vec![format!("Name:        {}", object.metadata.name.as_deref().unwrap_or_default())];
    let mut add = |label: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("{:<12} {text}", format!("{label}:")));
        }
    };
    add("Namespace", object.metadata.namespace.clone().unwrap_or_default());
    add("Age", age(object, now));
    let read: Option<ComputeContext> = serde_json::to_value(object).and_then(serde_json::from_value).ok();
    let Some(context) = read else {
        add("Phase", shown(&object.data["status"]["phase"]));
        add("Note", "this release cannot read the whole object; -o yaml shows it".to_owned());
        return lines.join("\n");
    };
    let (spec, status) = (context.spec, context.status.unwrap_or_default());
    let phase = status.phase.map_or("not looked at yet", floe_api::ContextPhase::as_str);
    let why = status.message.or(status.reason).map(|why| format!(": {why}")).unwrap_or_default();
    add("Phase", format!("{phase}{why}"));
    let workers = status.workers.unwrap_or_default();
    let bounds = format!("from {} to {}", spec.min_workers, spec.max_workers);
    add("Workers", format!("{} connected, {} wanted ({bounds})", workers.ready, workers.wanted));
    add("Each has", format!("cpus {}, memory {}", spec.compute.cpus, spec.compute.memory));
    add("Memory", status.memory.unwrap_or_default());
    let (running, waiting) = (status.queries_running.unwrap_or(0), status.queries_waiting.unwrap_or(0));
    add("Queries", format!("{running} running, {waiting} waiting (at most {} at once)", spec.max_queries_at_once));
    let tasks = status.tasks_waiting.filter(|tasks| *tasks > 0);
    add("Tasks", tasks.map(|tasks| format!("{tasks} waiting for a worker")).unwrap_or_default());
    let idle = status.idle_since.map(|at| since(at.0, now));
    let timeout = spec.idle_timeout_seconds;
    add("Idle", idle.map(|idle| format!("for {idle}; its workers go after {timeout} s")).unwrap_or_default());
    add("Coordinator", status.coordinator.unwrap_or_default());
    if !status.revisions.is_empty() {
        let mut rows = vec![["REVISION", "SERVES", "IMAGE", "AGE"].map(str::to_owned).to_vec()];
        rows.extend(status.revisions.iter().map(|revision| {
            let serves = if status.serving == Some(revision.number) { "yes" } else { "no" };
            let age = since(revision.started_at.0, now);
            vec![revision.number.to_string(), serves.to_owned(), revision.image.clone(), age]
        }));
        lines.push(String::new());
        lines.extend(human::aligned(&rows));
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warm() -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "floe.dev/v1alpha1", "kind": "ComputeContext",
            "metadata": {"name": "warm", "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"minWorkers": 1, "maxWorkers": 8, "compute": {"cpus": 4, "memory": "16Gi"}},
            "status": {"phase": "Changing", "message": "The new image is coming up", "serving": 1,
                "workers": {"ready": 3, "wanted": 4, "summary": "3/4"}, "queriesRunning": 2, "queriesWaiting": 5,
                "tasksWaiting": 9, "memory": "3Gi/48Gi", "coordinator": "10.0.0.1:7071",
                "revisions": [
                    {"number": 1, "image": "floe:1", "digest": "a", "startedAt": "2026-01-01T00:00:00Z"},
                    {"number": 2, "image": "floe:2", "digest": "b", "startedAt": "2026-01-01T00:01:30Z"},
                ]},
        }))
        .unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-01T00:02:00Z".parse().unwrap()
    }

    #[test]
    fn a_list_has_the_columns_of_kubectl() {
        let lines = table(&[warm()], true, true, now());
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["NAMESPACE", "NAME", "PHASE", "WORKERS", "RUNNING", "WAITING", "AGE", "MEMORY", "COORDINATOR", "REASON"]
        );
        let row: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(row, ["n", "warm", "Changing", "3/4", "2", "5", "2m", "3Gi/48Gi", "10.0.0.1:7071"]);
    }

    #[test]
    fn one_context_is_described_with_its_revisions() {
        let text = described(&warm(), now());
        for part in [
            "Phase:       Changing: The new image is coming up",
            "Workers:     3 connected, 4 wanted (from 1 to 8)",
            "Each has:    cpus 4, memory 16Gi",
            "Queries:     2 running, 5 waiting (at most 16 at once)",
            "Tasks:       9 waiting for a worker",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let revisions: Vec<Vec<&str>> =
            text.lines().rev().take(2).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(revisions, [vec!["2", "no", "floe:2", "30s"], vec!["1", "yes", "floe:1", "2m"]]);
    }

    #[test]
    fn one_that_cannot_be_read_shows_what_the_server_knows() {
        let mut object = warm();
        object.data["spec"]["maxWorkers"] = json!("many");
        let text = described(&object, now());
        assert!(text.contains("Phase:       Changing") && text.contains("-o yaml"), "{text}");
    }
}
