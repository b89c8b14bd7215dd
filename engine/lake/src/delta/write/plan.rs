//! What a table is to be, and how files are written for it. Reads and writes nothing.

use serde_json::{Value as Json, json};

use super::fit;
use super::protocol;
use super::schema::{self, Naming};
use super::state::State;
use super::widen;
use crate::delta::actions::{Format, Metadata, Pairs, Protocol};
use crate::delta::error::bad_table;
use crate::filter::{Bound, Filter, Key};
use crate::table::{Field, Mapping};
use crate::write::{Mode, Request, Target, Transform};
use floe_wire::error::{QueryError, Result};

const MAX_ID: &str = "delta.columnMapping.maxColumnId";

/// A table as the commit leaves it.
pub struct Plan {
    pub target: Target,
    pub columns: Vec<Field>,
    pub partition: Vec<String>,
    /// The filter of the rows that are replaced, over `partition`.
    pub filter: Option<Bound>,
    pub protocol: Protocol,
    pub metadata: Metadata,
    /// Whether the commit writes the protocol.
    pub is_new_protocol: bool,
    pub is_new_metadata: bool,
}

/// Plans to write to this version of a table, or, without one, to a new table.
pub fn plan(root: &str, state: Option<&State>, request: &Request) -> Result<Plan> {
    let mut unknown = Vec::new();
    schema::unknown_types(&request.columns, "", &mut unknown);
    if !unknown.is_empty() {
        return Err(refused(root, &unknown.join("; ")));
    }
    let keys = request.partition.as_deref().unwrap_or_default();
    if let Some(key) = keys.iter().find(|key| key.transform != Transform::Identity) {
        let (transform, column) = (key.transform, &key.column);
        let what = format!("the partition of column \"{column}\" is by {transform:?}, and Delta tables are parted by");
        return Err(refused(root, &format!("{what} the values of columns only; add such a column, and part by it")));
    }
    let (mut plan_protocol, mut metadata) = match state {
        Some(_) if request.mode == Mode::Create => {
            let what = "the Delta table exists; use mode overwrite to replace its rows or append to add to them";
            return Err(QueryError::user("SinkExists", format!("{root}: {what}")));
        }
        Some(state) => (state.protocol.clone(), state.metadata.clone()),
        None => new_table(root, request)?,
    };
    let mapping = crate::delta::protocol::mapping(root, &plan_protocol, &metadata)?;
    let text = metadata.schema_string.as_deref().ok_or_else(|| bad_table(root, "its metadata has no schema"))?;
    let mut known: Json =
        serde_json::from_str(text).map_err(|error| bad_table(root, format!("its schema is no JSON: {error}")))?;
    protocol::check(root, &plan_protocol, &metadata, &known, &request.mode)?;
    let is_new = state.is_none();
    let mut is_new_metadata = is_new;
    if is_new || request.evolve {
        is_new_metadata |= grow(root, &mut known, &mut metadata, mapping, request, is_new)?;
    }
    if request.evolve && widen::is_allowed(&plan_protocol, &metadata) {
        let partition = metadata.partition_columns.as_deref().unwrap_or_default();
        is_new_metadata |= widen::widen(&mut known, &request.columns, partition);
    }
    let text = known.to_string();
    let columns = crate::delta::schema::parse(root, &text, mapping)?.fields;
    if is_new_metadata {
        metadata.schema_string = Some(text);
    }
    let mut is_new_protocol = is_new;
    if is_new_metadata
        && schema::has_local_times(&columns)
        && let Some(wider) = protocol::with_local_times(&plan_protocol)
    {
        (plan_protocol, is_new_protocol) = (wider, true);
    }
    let partition = metadata.partition_columns.clone().unwrap_or_default();
    let target = fit::target(root, &columns, &partition, request)?;
    let filter = match &request.mode {
        Mode::OverwriteWhere(filter) => Some(bind(filter, &target, &columns)?),
        _ => None,
    };
    Ok(Plan { target, columns, partition, filter, protocol: plan_protocol, metadata, is_new_protocol, is_new_metadata })
}

fn bind(filter: &Filter, target: &Target, columns: &[Field]) -> Result<Bound> {
    let keys = target.partition.iter().zip(&target.partition_types);
    let keys: Vec<_> = keys.map(|(key, dtype)| Key { name: &key.column, dtype, is_value: true }).collect();
    let columns: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
    filter.bind(&keys, &columns)
}

/// The protocol and the metadata of a new table, without columns.
fn new_table(root: &str, request: &Request) -> Result<(Protocol, Metadata)> {
    if request.columns.is_empty() {
        return Err(refused(root, "there are no columns, and a new table needs one"));
    }
    let has_local_times = schema::has_local_times(&request.columns);
    let protocol = protocol::of_new(root, &request.properties, has_local_times)?;
    let kept = request.properties.iter().filter(|(name, _)| !name.starts_with("delta.feature."));
    let properties = kept.map(|(name, value)| (name.clone(), Some(value.clone())));
    let keys = request.partition.iter().flatten().map(|key| key.column.clone());
    let metadata = Metadata {
        id: None,
        name: None,
        description: None,
        format: Some(parquet()),
        schema_string: Some(json!({"type": "struct", "fields": []}).to_string()),
        partition_columns: Some(keys.collect()),
        created_time: None,
        configuration: Some(Pairs(properties.collect())),
    };
    Ok((protocol, metadata))
}

fn parquet() -> Format {
    Format { provider: Some("parquet".to_owned()), options: Some(Pairs::default()) }
}

/// Adds the columns that the schema lacks. Returns whether there were any.
fn grow(
    root: &str,
    known: &mut Json,
    metadata: &mut Metadata,
    mapping: Option<Mapping>,
    request: &Request,
    is_new: bool,
) -> Result<bool> {
    let max_id = metadata.property(MAX_ID).and_then(|text| text.parse().ok()).unwrap_or(0).max(schema::max_id(known));
    // Not of the attempt: names must be the same in `prepare` and in `commit`.
    let seed = [root, &request.query];
    let mut naming = mapping.map(|_| Naming { seed: &seed, max_id });
    let fields = known.get_mut("fields").and_then(Json::as_array_mut);
    let fields = fields.ok_or_else(|| bad_table(root, "its schema has no \"fields\""))?;
    let added = schema::add_missing(fields, &request.columns, is_new, "", &mut naming);
    if !added {
        return Ok(false);
    }
    if let Some(naming) = naming {
        let properties = metadata.configuration.get_or_insert_default();
        properties.0.insert(MAX_ID.to_owned(), Some(naming.max_id.to_string()));
    }
    Ok(true)
}

/// What was asked for is not possible with a Delta table.
pub fn refused(root: &str, what: &str) -> QueryError {
    QueryError::user("NotSupported", format!("the Delta table {root} cannot be written: {what}"))
}
