//! `floe get`: queries on a cluster, as a table, in full one by one, or as objects.

use std::process::ExitCode;
use std::time::Duration;

use floe_api::{DistributedQuery, Phase, StageStatus};
use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::args::cluster::{GetArgs, GetOutput};
use crate::cluster::Cluster;
use crate::error::Failure;
use crate::render::cluster as words;
use crate::{block_on, human, print, program};

/// List at most this many reasons; the others are only counted.
const MAX_REASONS: usize = 20;

pub fn run(args: GetArgs) -> Result<ExitCode, Failure> {
    block_on(async {
        let cluster = Cluster::connect(&args.cluster).await?;
        if args.names.is_empty() {
            let objects = cluster.list(args.all_namespaces, args.selector.as_deref()).await?;
            list(&cluster, objects, &args)?;
            return Ok(ExitCode::SUCCESS);
        }
        let (mut found, mut missing) = (Vec::new(), None);
        for name in &args.names {
            match cluster.object(name).await {
                Ok(object) => found.push(object),
                Err(failure @ Failure::Missing(_)) if args.names.len() > 1 => {
                    failure.print();
                    missing = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        match args.output {
            GetOutput::Table => {
                for object in found {
                    print::out(described(&object, Timestamp::now()).trim_end());
                }
            }
            GetOutput::Json | GetOutput::Yaml if args.names.len() == 1 => {
                found.into_iter().try_for_each(|object| object_out(clean(object), args.output))?;
            }
            GetOutput::Wide | GetOutput::Json | GetOutput::Yaml | GetOutput::Name => list(&cluster, found, &args)?,
        }
        Ok(missing.map_or(ExitCode::SUCCESS, |failure| failure.exit_code()))
    })
}

fn list(cluster: &Cluster, objects: Vec<DynamicObject>, args: &GetArgs) -> Result<(), Failure> {
    match args.output {
        GetOutput::Json | GetOutput::Yaml => {
            let items: Vec<Value> = objects.into_iter().map(clean).collect();
            object_out(json!({"apiVersion": "v1", "kind": "List", "items": items}), args.output)
        }
        GetOutput::Name => {
            objects.iter().for_each(|object| print::out(object.metadata.name.as_deref().unwrap_or_default()));
            Ok(())
        }
        GetOutput::Table | GetOutput::Wide if objects.is_empty() => {
            let place = match args.all_namespaces {
                true => "on this cluster".to_owned(),
                false => format!("in namespace {}", cluster.namespace),
            };
            print::err(format_args!("there are no queries {place}"));
            Ok(())
        }
        GetOutput::Table | GetOutput::Wide => {
            let wide = args.output == GetOutput::Wide;
            table(&objects, args.all_namespaces, wide, Timestamp::now()).iter().for_each(print::out);
            Ok(())
        }
    }
}

pub(super) fn object_out(value: Value, output: GetOutput) -> Result<(), Failure> {
    let text = match output {
        GetOutput::Yaml => serde_yaml_ng::to_string(&value).map_err(|error| error.to_string()),
        _ => serde_json::to_string_pretty(&value).map_err(|error| error.to_string()),
    };
    let text = text.map_err(|error| Failure::Internal(format!("the object cannot be written: {error}")))?;
    print::out(text.trim_end());
    Ok(())
}

/// Removes the managed fields, as kubectl does when it shows objects.
pub(super) fn clean(mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    serde_json::to_value(object).unwrap_or_default()
}

/// Formats the CRD's printer columns as a table.
fn table(objects: &[DynamicObject], with_namespace: bool, wide: bool, now: Timestamp) -> Vec<String> {
    let mut head = vec!["NAME", "PHASE", "PROGRESS", "WORKERS", "STAGES", "ROWS", "AGE"];
    if with_namespace {
        head.insert(0, "NAMESPACE");
    }
    if wide {
        head.extend(["DURATION", "WAITED", "SHUFFLED", "ATTEMPT", "RESULT", "REASON"]);
    }
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for object in objects {
        let status = &object.data["status"];
        let text = |path: &str| shown(status.pointer(path).unwrap_or(&Value::Null));
        let mut row = vec![object.metadata.name.clone().unwrap_or_default()];
        if with_namespace {
            row.insert(0, object.metadata.namespace.clone().unwrap_or_default());
        }
        let phase = text("/phase");
        row.push(if phase.is_empty() { "Pending".to_owned() } else { phase });
        row.extend(["/progress", "/workers/summary", "/stagesSummary", "/rows"].map(text));
        row.push(age(object, now));
        if wide {
            let shuffled = status["bytesShuffled"].as_u64().map(human::bytes).unwrap_or_default();
            row.extend(["/duration", "/waited"].map(text));
            row.push(shuffled);
            row.extend(["/attempt", "/resultUri", "/reason"].map(text));
        }
        rows.push(row);
    }
    human::aligned(&rows)
}

pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

pub(super) fn age(object: &DynamicObject, now: Timestamp) -> String {
    let Some(created) = &object.metadata.creation_timestamp else { return String::new() };
    since(created.0, now)
}

/// Formats an age: `45s`, `12m`, `5h`, `3d`.
pub(super) fn since(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Describes one query in full.
fn described(object: &DynamicObject, now: Timestamp) -> String {
    let mut lines = vec![format!("Name:      {}", object.metadata.name.as_deref().unwrap_or_default())];
    let mut add = |label: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("{:<10} {text}", format!("{label}:")));
        }
    };
    add("Namespace", object.metadata.namespace.clone().unwrap_or_default());
    add("Age", age(object, now));
    // An object that this release cannot parse still shows what the server knows.
    let text = |path: &str| shown(object.data.pointer(path).unwrap_or(&Value::Null));
    let query: Option<DistributedQuery> = serde_json::to_value(object).and_then(serde_json::from_value).ok();
    let status = query.as_ref().and_then(|query| query.status.clone()).unwrap_or_default();
    match &query {
        Some(_) => add("Phase", words::line(&status)),
        None => {
            add("Phase", text("/status/phase"));
            add("Note", "this release cannot read the whole object; -o yaml shows it".to_owned());
        }
    }
    let kind = ["python", "dsl", "sql"].into_iter().find(|kind| object.data["spec"]["plan"].get(kind).is_some());
    add("Plan", kind.unwrap_or_default().to_owned());
    let tables = object.data["spec"]["tables"].as_object().map(|tables| {
        tables.iter().map(|(name, table)| format!("{name} = {}", shown(&table["uri"]))).collect::<Vec<_>>()
    });
    for table in tables.unwrap_or_default() {
        add("Table", table);
    }
    let sink = match text("/spec/sink/uri") {
        uri if !uri.is_empty() => format!("{uri} ({}, {})", text("/spec/sink/format"), text("/spec/sink/mode")),
        _ if status.phase == Some(Phase::Succeeded) && status.result_uri.is_none() => {
            format!("none: `{} result` shows the result", program::name())
        }
        _ => String::new(),
    };
    add("Sink", sink);
    add("Result", text("/status/resultUri"));
    add("Attempt", status.attempt.filter(|attempt| *attempt > 1).map(|n| n.to_string()).unwrap_or_default());
    add("Shuffled", status.bytes_shuffled.map(human::bytes).unwrap_or_default());
    add("Written", status.bytes_written.filter(|n| *n > 0).map(human::bytes).unwrap_or_default());
    for warning in &status.warnings {
        add("Warning", warning.clone());
    }
    if !status.stages.is_empty() {
        let head = ["STAGE", "STATE", "TASKS", "ATTEMPTS", "ROWS", "BYTES", "TIME", "READS", "WHAT IT DOES"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(status.stages.iter().map(stage_row));
        lines.push(String::new());
        lines.extend(human::aligned(&rows));
    }
    if !status.single_worker.is_empty() {
        lines.push("\nOn one worker:".to_owned());
        let reasons = status.single_worker.iter().take(MAX_REASONS);
        lines.extend(reasons.map(|node| format!("  {} (stage {}): {}", node.node, node.stage, node.reason)));
        if let Some(more) = status.single_worker.len().checked_sub(MAX_REASONS).filter(|more| *more > 0) {
            lines.push(format!("  and {more} more"));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn stage_row(stage: &StageStatus) -> Vec<String> {
    let reads = stage.depends_on.iter().flatten().map(u32::to_string).collect::<Vec<_>>();
    vec![
        stage.id.to_string(),
        format!("{:?}", stage.state).to_lowercase(),
        format!("{}/{}", stage.tasks_done, stage.tasks_total),
        stage.attempts.map(|attempts| attempts.to_string()).unwrap_or_default(),
        human::count(stage.rows),
        human::bytes(stage.bytes),
        stage.elapsed_ms.map(|ms| human::duration(Duration::from_millis(ms))).unwrap_or_default(),
        reads.join(","),
        stage.label.clone(),
    ]
}

#[cfg(test)]
#[path = "get_tests.rs"]
mod tests;
