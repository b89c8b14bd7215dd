//! The actions of a commit.

use std::collections::HashSet;

use serde_json::{Value as Json, json};

use super::plan::{Plan, refused};
use super::state::State;
use super::{protocol, stats, text};
use crate::delta::error::{bad_table, no_fit};
use crate::delta::replay::Live;
use crate::delta::values;
use crate::table::{Field, Value};
use crate::unique;
use crate::write::{Mode, Request, Written};
use floe_wire::error::{QueryError, Result};

/// A commit that is about to be made.
pub struct Content<'a> {
    pub plan: &'a Plan,
    pub state: Option<&'a State>,
    pub request: &'a Request,
    pub written: &'a [Written],
    pub time_ms: i64,
    /// The time in the commit before, where commits carry theirs.
    pub last_ms: Option<i64>,
    pub application: &'a str,
}

/// The text of a commit: one action in each line.
pub fn text(content: &Content) -> Result<String> {
    let Content { plan, written, time_ms, .. } = content;
    for file in *written {
        check_nulls(content, file)?;
        if let Some(filter) = &plan.filter {
            filter.check(&read_back(plan, &partition_values(plan, file)?, &file.uri)?)?;
        }
    }
    let removed = removed(content)?;
    let mut actions = vec![info(content, &removed)];
    if plan.is_new_protocol {
        actions.push(json!({"protocol": plan.protocol}));
    }
    if plan.is_new_metadata {
        let mut metadata = plan.metadata.clone();
        if content.state.is_none() {
            (metadata.id, metadata.created_time) = (Some(unique::uuid()), Some(*time_ms));
        }
        actions.push(json!({"metaData": metadata}));
    }
    actions.push(json!({"txn": {"appId": content.application, "version": 1, "lastUpdated": time_ms}}));
    actions.extend(removed.into_iter().map(|file| remove(file, *time_ms)));
    let property = |name: &str| plan.metadata.property(name).map(str::to_owned);
    let stored: Vec<_> = plan.columns.iter().filter(|column| !plan.partition.contains(&column.name)).cloned().collect();
    let indexed = stats::indexed(&stored, property);
    for file in *written {
        actions.push(add(plan, file, &indexed, *time_ms)?);
    }
    Ok(actions.iter().map(|action| format!("{action}\n")).collect())
}

fn info(content: &Content, removed: &[&Live]) -> Json {
    let Content { plan, request, written, time_ms, .. } = content;
    let operation = if content.state.is_none() { "CREATE TABLE AS SELECT" } else { "WRITE" };
    let mode = match request.mode {
        Mode::Create => "ErrorIfExists",
        Mode::Append => "Append",
        Mode::Overwrite | Mode::OverwritePartitions | Mode::OverwriteWhere(_) => "Overwrite",
    };
    let mut parameters = json!({"mode": mode, "partitionBy": json!(plan.partition).to_string()});
    match &request.mode {
        Mode::OverwritePartitions => parameters["dynamicPartitionOverwrite"] = json!("true"),
        Mode::OverwriteWhere(filter) => parameters["predicate"] = json!(filter.text()),
        Mode::Create | Mode::Append | Mode::Overwrite => {}
    }
    let rows: u64 = written.iter().map(|file| file.rows).sum();
    let bytes: u64 = written.iter().map(|file| file.bytes).sum();
    let mut metrics = json!({
        "numFiles": written.len().to_string(),
        "numOutputRows": rows.to_string(),
        "numOutputBytes": bytes.to_string(),
    });
    if !removed.is_empty() {
        metrics["numRemovedFiles"] = json!(removed.len().to_string());
    }
    let mut info = json!({
        "timestamp": time_ms,
        "operation": operation,
        "operationParameters": parameters,
        "operationMetrics": metrics,
        "isBlindAppend": !request.mode.removes(),
        "engineInfo": concat!("Floe/", env!("CARGO_PKG_VERSION")),
        // Distinguishes this commit from another attempt's that is otherwise the same.
        "txnId": unique::uuid(),
    });
    if has_times(plan) {
        let time_ms = content.last_ms.map_or(*time_ms, |last_ms| last_ms.saturating_add(1).max(*time_ms));
        info["inCommitTimestamp"] = json!(time_ms);
    }
    json!({"commitInfo": info})
}

/// Whether commits carry their times.
pub fn has_times(plan: &Plan) -> bool {
    protocol::is_on(&plan.protocol, &plan.metadata, "inCommitTimestamp", "delta.enableInCommitTimestamps")
}

fn add(plan: &Plan, file: &Written, indexed: &[&Field], time_ms: i64) -> Result<Json> {
    let root = &plan.target.root;
    let path = file.uri.strip_prefix(root.as_str()).and_then(|path| path.strip_prefix('/'));
    let path = path.ok_or_else(|| QueryError::internal(format!("{} is not below {root}", file.uri)))?;
    let values = partition_values(plan, file)?;
    let names = plan.partition.iter().map(|name| {
        let field = plan.columns.iter().find(|field| field.name == *name);
        field.and_then(|field| field.physical.clone()).unwrap_or_else(|| name.clone())
    });
    let values: serde_json::Map<_, _> = names.zip(values.into_iter().map(Json::from)).collect();
    Ok(json!({"add": {
        "path": text::path(path),
        "partitionValues": values,
        "size": file.bytes,
        "modificationTime": time_ms,
        "dataChange": true,
        "stats": stats::json(file, indexed),
    }}))
}

/// The action that removes a file, with the deletion vector that the file was added with.
fn remove(file: &Live, time_ms: i64) -> Json {
    let add = &file.add;
    let mut remove = json!({
        "path": add.path,
        "deletionTimestamp": time_ms,
        "dataChange": true,
        "extendedFileMetadata": true,
        "partitionValues": add.partition.clone().unwrap_or_default(),
        "size": add.size.unwrap_or(0),
        "tags": add.tags.clone().unwrap_or_default(),
    });
    if let Some(vector) = add.vector.as_ref().filter(|vector| vector.storage_type.is_some()) {
        remove["deletionVector"] = json!(vector);
    }
    json!({"remove": remove})
}

/// Whether a commit takes a file out of the table.
type IsGone<'a> = Box<dyn Fn(&Live) -> Result<bool> + 'a>;

/// The files that the commit takes out of the table.
fn removed<'a>(content: &Content<'a>) -> Result<Vec<&'a Live>> {
    let files = content.state.and_then(|state| state.files.as_ref()).into_iter().flatten();
    let plan = content.plan;
    let is_gone: IsGone<'_> = match content.request.mode {
        Mode::Create | Mode::Append => return Ok(Vec::new()),
        Mode::Overwrite => return Ok(files.collect()),
        Mode::OverwritePartitions => {
            let wanted = content.written.iter().map(|file| partition_values(plan, file));
            let wanted: HashSet<_> = wanted.collect::<Result<_>>()?;
            Box::new(move |file| Ok(wanted.contains(&partition_of(plan, file)?)))
        }
        Mode::OverwriteWhere(_) => Box::new(move |file| {
            let values = read_back(plan, &partition_texts(plan, file), &file.uri)?;
            Ok(plan.filter.as_ref().is_some_and(|filter| filter.holds(&values)))
        }),
    };
    let mut removed = Vec::new();
    for file in files {
        if is_gone(file)? {
            removed.push(file);
        }
    }
    Ok(removed)
}

/// The values of a file's partition as a log has them.
fn partition_values(plan: &Plan, file: &Written) -> Result<Vec<Option<String>>> {
    let (target, uri) = (&plan.target, &file.uri);
    if file.partition.len() != target.partition.len() {
        return Err(QueryError::internal(format!("{uri} has {} values of its partition", file.partition.len())));
    }
    let values = file.partition.iter().zip(target.partition.iter().zip(&target.partition_types));
    let values = values.map(|(value, (key, dtype))| {
        let text = text::partition(value.as_ref(), dtype);
        text.map_err(|what| refused(&target.root, &format!("column \"{}\" of a partition has {what}", key.column)))
    });
    values.collect()
}

/// The same for a file of the table, whose writer may have spelt values differently.
fn partition_of(plan: &Plan, file: &Live) -> Result<Vec<Option<String>>> {
    let values = read_back(plan, &partition_texts(plan, file), &file.uri)?;
    let texts = values.iter().zip(&plan.target.partition_types);
    // A value that was read can be written.
    Ok(texts.map(|(value, dtype)| text::partition(value.as_ref(), dtype).ok().flatten()).collect())
}

/// The values of the partition of a file that is there, as its writer spelt them.
fn partition_texts(plan: &Plan, file: &Live) -> Vec<Option<String>> {
    let given = file.add.partition.as_ref();
    let texts = plan.target.directories.iter().map(|name| given.and_then(|given| given.get(name)?.clone()));
    texts.map(|text| text.filter(|text| !text.is_empty())).collect()
}

/// Parses values that are spelt as in a log.
fn read_back(plan: &Plan, texts: &[Option<String>], uri: &str) -> Result<Vec<Option<Value>>> {
    let target = &plan.target;
    let values = texts.iter().zip(target.directories.iter().zip(&target.partition_types));
    let values = values.map(|(text, (name, dtype))| {
        let Some(text) = text else { return Ok(None) };
        let value = values::partition(text, dtype);
        let value = value.filter(|value| text::partition(Some(value), dtype).is_ok());
        value.map(Some).ok_or_else(|| {
            bad_table(&target.root, format!("\"{text}\" is no value of the type of \"{name}\", which partitions {uri}"))
        })
    });
    values.collect()
}

/// In partitions an empty text is null.
fn is_null(value: Option<&Value>) -> bool {
    value.is_none_or(|value| matches!(value, Value::String(text) if text.is_empty()))
}

/// Refuses nulls where the table may have none.
fn check_nulls(content: &Content, file: &Written) -> Result<()> {
    let Content { plan, request, .. } = content;
    let may_be_null = |field: &&Field| {
        !field.nullable && request.columns.iter().any(|column| column.name == field.name && column.nullable)
    };
    for field in plan.columns.iter().filter(may_be_null) {
        let name = &field.name;
        let nulls = match plan.partition.iter().position(|key| key == name) {
            Some(at) => file.partition.get(at).map(|value| u64::from(is_null(value.as_ref()))),
            None if file.rows == 0 => Some(0),
            None => file.bounds.get(name).and_then(|bounds| bounds.nulls),
        };
        match nulls {
            Some(0) => {}
            Some(_) => {
                let what = format!("column \"{name}\" has nulls, which the table does not allow; fill or drop them");
                return Err(no_fit(&plan.target.root, what));
            }
            None => {
                let what = format!("column \"{name}\" may not be null, and the nulls in {} were not counted", file.uri);
                return Err(no_fit(&plan.target.root, what));
            }
        }
    }
    Ok(())
}
