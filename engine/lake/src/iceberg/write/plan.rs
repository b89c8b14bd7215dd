//! What a request makes of a table as it is now: how files are to be written, and how the schema changes.

use floe_wire::error::{Category, QueryError, Result};
use serde_json::Value as Json;

use super::catalog::{Catalog, Draft, Loaded};
use super::partition::{self, Part};
use super::schema::{self as schemas, Ids, mismatch};
use super::state::{State, unsupported};
use super::updates::{MAIN, Requirement, Update, creation};
use super::{columns, exists};
use crate::filter::{Bound, Filter, Key};
use crate::iceberg::schema::{self, Names};
use crate::iceberg::uri;
use crate::table::{Bounds, Field};
use crate::write::{Mode, PartitionKey, Request, Target, Transform, Written};

pub struct Plan {
    /// The table as it is; `None` if it is to be created.
    pub loaded: Option<Loaded>,
    pub state: State,
    pub target: Target,
    pub parts: Vec<Part>,
    /// The filter of the rows that are replaced, over the keys of `target`.
    pub filter: Option<Bound>,
    /// All columns of the table, after the change of its schema.
    pub columns: Vec<Field>,
    pub schema: Json,
    /// Updates that come before the snapshot.
    pub updates: Vec<Update>,
    pub requirements: Vec<Requirement>,
}

/// `location` is where the table was to be created, if that has been said already.
pub fn of(catalog: &dyn Catalog, loaded: Option<Loaded>, request: &Request, location: Option<&str>) -> Result<Plan> {
    match loaded {
        Some(loaded) => {
            let named = loaded.uri.clone();
            existing(loaded, request).map_err(|error| match error.category {
                Category::User if !error.message.contains(&named) => {
                    QueryError { message: format!("Iceberg table {}: {}", catalog.name(), error.message), ..error }
                }
                _ => error,
            })
        }
        None => new(catalog, request, location),
    }
}

fn existing(loaded: Loaded, request: &Request) -> Result<Plan> {
    let state = State::parse(&loaded.metadata, &loaded.uri)?;
    if request.mode == Mode::Create && state.committed(&request.query)?.is_none() {
        return Err(exists());
    }
    let mut updates = Vec::new();
    let mut requirements = vec![
        Requirement::AssertRefSnapshotId {
            r#ref: MAIN.into(),
            snapshot_id: state.main()?.map(|snapshot| snapshot.snapshot_id),
        },
        Requirement::AssertCurrentSchemaId { current_schema_id: state.current_schema_id },
        Requirement::AssertDefaultSpecId { default_spec_id: state.default_spec_id },
    ];
    if let Some(uuid) = &state.table_uuid {
        requirements.insert(0, Requirement::AssertTableUuid { uuid: uuid.clone() });
    }
    let mut schema = state.schema()?.clone();
    let table = schema::columns(&schema, &Names::new())?;
    let evolve = request.evolve;
    let matched = columns::of(&request.columns, &schema, &table, evolve, state.format_version, state.last_column_id)?;
    if let Some(fields) = matched.fields {
        let same = |other: &&Json| {
            other.get("fields").and_then(Json::as_array) == Some(&fields)
                && other.get("identifier-field-ids") == schema.get("identifier-field-ids")
        };
        let id = |schema: &Json| schema.get("schema-id").and_then(Json::as_i64);
        let earlier = state.schemas.iter().find(same).and_then(|schema| Some((schema.clone(), id(schema)?)));
        let schema_id = match earlier {
            Some((earlier, id)) => {
                schema = earlier;
                id
            }
            None => {
                let next = state.schemas.iter().filter_map(id).max().unwrap_or(-1) + 1;
                schema = schemas::with_fields(&schema, fields, next);
                updates.push(Update::AddSchema { schema: schema.clone(), last_column_id: matched.last_id });
                next
            }
        };
        updates.push(Update::SetCurrentSchema { schema_id });
        let last_assigned_field_id = state.last_column_id;
        requirements.push(Requirement::AssertLastAssignedFieldId { last_assigned_field_id });
    }
    finish(Some(loaded), state, schema, matched.columns, request, updates, requirements)
}

fn new(catalog: &dyn Catalog, request: &Request, location: Option<&str>) -> Result<Plan> {
    let mut properties = request.properties.clone();
    let format_version = match properties.remove("format-version").as_deref() {
        None | Some("2") => 2,
        Some("3") => 3,
        Some(other) => {
            return Err(unsupported(format!("the property format-version is {other}, and 2 and 3 can be written")));
        }
    };
    if properties.contains_key("encryption.key-id") {
        return Err(unsupported("the property encryption.key-id is set, and encrypted tables are not supported"));
    }
    if request.columns.is_empty() {
        return Err(mismatch("the rows have no columns to create a table of".into()));
    }
    let mut ids = Ids(0);
    let schema = schemas::create(&request.columns, format_version, &mut ids)?;
    let columns = schema::columns(&schema, &Names::new())?;
    let spec = partition::create(request.partition.as_deref().unwrap_or_default(), &columns)?;
    let location = location.map(str::to_string);
    let draft = Draft { location, format_version, schema, last_column_id: ids.0, spec, properties };
    let staged = catalog.stage(&draft)?;
    let state = State::parse(&staged, "of the new table")?;
    if state.has_snapshots() {
        return Err(exists());
    }
    let schema = state.schema()?.clone();
    let table = schema::columns(&schema, &Names::new())?;
    let last_id = state.last_column_id;
    let matched = columns::of(&request.columns, &schema, &table, false, state.format_version, last_id)?;
    finish(None, state, schema, matched.columns, request, creation(&staged)?, vec![Requirement::AssertCreate])
}

fn finish(
    loaded: Option<Loaded>,
    state: State,
    schema: Json,
    rows: Vec<Field>,
    request: &Request,
    updates: Vec<Update>,
    requirements: Vec<Requirement>,
) -> Result<Plan> {
    let columns = schema::columns(&schema, &Names::new())?;
    let parts = partition::parts(state.spec(state.default_spec_id)?, &columns)?;
    partition::check(request.partition.as_ref(), &parts)?;
    let keys: Vec<&Part> = parts.iter().filter(|part| part.key.is_some()).collect();
    for key in keys.iter().filter_map(|part| part.key.as_ref()) {
        if rows.iter().all(|column| column.name != key.column) {
            return Err(mismatch(format!(
                "the rows lack the column {}, which the table is partitioned by: add it",
                key.column
            )));
        }
    }
    let target = Target {
        root: uri(state.location.trim_end_matches('/')),
        data: state.data(),
        stored: vec![true; rows.len()],
        columns: rows,
        partition: keys.iter().filter_map(|part| part.key.clone()).collect(),
        directories: keys.iter().map(|part| part.name.clone()).collect(),
        partition_types: keys.iter().map(|part| part.dtype.clone()).collect(),
    };
    let filter = match &request.mode {
        Mode::OverwriteWhere(filter) => Some(bind(filter, &target, &columns)?),
        _ => None,
    };
    Ok(Plan { loaded, state, target, parts, filter, columns, schema, updates, requirements })
}

/// Looks up the columns of a filter. Only the values of a column itself say whether it holds: a file of one day, or of
/// one bucket, has rows of many values.
fn bind(filter: &Filter, target: &Target, columns: &[Field]) -> Result<Bound> {
    let is_value = |key: &PartitionKey| key.transform == Transform::Identity;
    let name = |key| if is_value(key) { key.column.clone() } else { partition::shown_key(key) };
    let names: Vec<String> = target.partition.iter().map(name).collect();
    let keys = names.iter().zip(&target.partition).zip(&target.partition_types);
    let keys: Vec<_> = keys.map(|((name, key), dtype)| Key { name, dtype, is_value: is_value(key) }).collect();
    let columns: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
    filter.bind(&keys, &columns)
}

/// Whether files that were written for a target are right for the table as it is now.
pub fn check(plan: &Plan, target: &Target, written: &[Written]) -> Result<()> {
    let now = &plan.target;
    let same = now.columns == target.columns
        && now.partition == target.partition
        && now.partition_types == target.partition_types
        && now.root == target.root;
    if !same {
        return Err(QueryError::user(
            "TableChanged",
            format!(
                "the columns, the partitioning or the place of the Iceberg table {} changed while the query ran, and \
                 its files do not fit any more: run it again",
                now.root
            ),
        ));
    }
    for file in written {
        if file.partition.len() != now.partition.len() {
            let message = format!("{} has {} partition values", file.uri, file.partition.len());
            return Err(QueryError::internal(message));
        }
        if let Some(filter) = &plan.filter {
            filter.check(&file.partition)?;
        }
        for column in now.columns.iter().filter(|column| !column.nullable) {
            if let Some(Bounds { nulls: Some(nulls @ 1..), .. }) = file.bounds.get(&column.name) {
                return Err(mismatch(format!(
                    "column {} has {nulls} nulls in {}, and it is required in the table {}",
                    column.name, file.uri, now.root
                )));
            }
        }
    }
    Ok(())
}
