//! Files that become part of a Delta or Iceberg table. They are written and made visible like those of any directory, under
//! names that no reader of the table looks for; then one more commit, of the table's metadata, makes them its rows.
//!
//! A coordinator that dies between the two leaves files that are not part of the table. They stay until an attempt at the
//! query has committed: until then, the one that left them may still be alive and commit them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use floe_api::{Format, SinkMode, SinkSpec};
use floe_lake::table::Value;
use floe_lake::write::Committed;
use floe_plan::lake::types;
use floe_plan::lake::write::{File, TableSink};
use polars_core::prelude::*;
use polars_plan::dsl::FileWriteFormat;

use super::from_spec::{from_spec, key};
use super::staged::Chosen;
use super::{Mode, Plan, Summary, fault};
use floe_wire::error::Result;

/// The files of a table as a sink of Parquet files.
pub fn files_of(spec: &SinkSpec, data: String) -> SinkSpec {
    SinkSpec {
        uri: data,
        catalog: None,
        table: None,
        format: Some(Format::Parquet),
        mode: SinkMode::Append,
        overwrite: None,
        overwrite_where: None,
        schema_evolution: None,
        partition_by: Vec::new(),
        ..spec.clone()
    }
}

/// The table of a sink, as its coordinator knows it.
#[derive(Debug)]
pub struct Table {
    sink: TableSink,
    /// Files of this run that are visible and may not be part of the table.
    visible: Mutex<Vec<String>>,
}

impl Table {
    pub fn root(&self) -> &str {
        self.sink.root()
    }

    fn visible(&self) -> MutexGuard<'_, Vec<String>> {
        self.visible.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_visible(&self) -> Result<()> {
        let uris = std::mem::take(&mut *self.visible());
        uris.iter().try_for_each(|uri| self.sink.delete(uri))
    }
}

pub fn into_table(spec: &SinkSpec, table: TableSink, query: &str) -> Result<Plan> {
    let mut plan = from_spec(&files_of(spec, table.data()), &table.options(), query)?;
    // The table's metadata says which files are replaced, nothing else does.
    plan.mode = Mode::Replace;
    plan.include_keys = false;
    plan.keys = table.keys().map(|(column, name)| key(&column, Some(name.to_owned()))).collect::<Result<_>>()?;
    if let FileWriteFormat::Parquet(options) = &mut plan.format {
        Arc::make_mut(options).arrow_schema = table.file_schema();
    }
    plan.table = Some(Arc::new(Table { sink: table, visible: Mutex::default() }));
    Ok(plan)
}

/// The columns of a file's partition keys under the names that its directories have.
pub(super) fn directories(plan: &Plan, keys: &[Column]) -> Vec<Column> {
    let name = |(at, column): (usize, &Column)| match plan.keys.get(at).and_then(|key| key.directory.as_deref()) {
        Some(directory) => column.clone().with_name(directory.into()),
        None => column.clone(),
    };
    keys.iter().enumerate().map(name).collect()
}

/// The values of a file's partition keys, if the file becomes part of a table.
pub(super) fn values(plan: &Plan, keys: &[Column]) -> PolarsResult<Vec<Option<Value>>> {
    if !plan.keys.iter().any(|key| key.directory.is_some()) {
        return Ok(Vec::new());
    }
    keys.iter().map(|column| types::value(&column.get(0)?)).collect()
}

/// Makes files that are visible part of the table.
pub(super) fn commit(plan: &Plan, table: &Table, chosen: Chosen) -> Result<Summary> {
    let files: Vec<File> = chosen
        .files
        .into_iter()
        .map(|file| File { uri: plan.root.join(&file.name).uri(), bytes: file.size, keys: file.keys })
        .collect();
    fault::step()?;
    let committed = table.sink.commit(&plan.run.to_string(), &files)?;
    fault::step()?;
    // The table has its rows: what cannot be removed now only takes space.
    if let Err(error) = remove_others(plan, table, &committed) {
        tracing::warn!(table = table.root(), "cannot remove files that are not part of the table: {error}");
    }
    table.visible().clear();
    Ok(Summary { files: committed.files.len() as u64, ..chosen.summary })
}

/// Removes the query's files that are not part of the table: those of this run if another one was first, and those of
/// earlier attempts.
fn remove_others(plan: &Plan, table: &Table, committed: &Committed) -> Result<()> {
    let keep: HashSet<&str> = committed.files.iter().map(|uri| base(uri)).collect();
    if keep.is_empty() {
        // It held no rows, or the table no longer says which files those were.
        return if committed.was_committed { Ok(()) } else { table.remove_visible() };
    }
    let (prefix, mut uris) = (plan.own_prefix(), table.visible().clone());
    if plan.run.attempt > 1 {
        uris.extend(table.sink.files()?.into_iter().filter(|uri| base(uri).starts_with(&prefix)));
    }
    uris.iter().filter(|uri| !keep.contains(base(uri))).try_for_each(|uri| table.sink.delete(uri))
}

/// Notes which files become visible. If the commit fails, whichever of them are visible are to be removed.
pub(super) fn note(plan: &Plan, table: &Table, chosen: &Chosen) {
    *table.visible() = chosen.files.iter().map(|file| plan.root.join(&file.name).uri()).collect();
}

/// Removes the files of this run, unless they are part of the table.
pub(super) fn abort(table: &Table) -> Result<()> {
    if table.visible().is_empty() {
        return Ok(());
    }
    let Some(committed) = table.sink.committed()? else { return table.remove_visible() };
    if committed.files.is_empty() {
        // The table no longer says which files those of the query are.
        return Ok(());
    }
    let keep: HashSet<&str> = committed.files.iter().map(|uri| base(uri)).collect();
    table.visible().retain(|uri| !keep.contains(base(uri)));
    table.remove_visible()
}

fn base(uri: &str) -> &str {
    uri.rsplit('/').next().unwrap_or(uri)
}
