//! Tables that a client's plan scans by Polars' own `scan_delta` and `scan_iceberg`. Such a scan is a pickled object of
//! Polars' Python package. It is read as data: the table's place and snapshot are all that is taken from it.

use std::collections::BTreeMap;

use floe_api::{Format, TableSpec};
use serde_json::json;

use super::pickle::{Id, Pickle};
use super::stand_ins::path_of;
use crate::msgpack::Node;
use floe_wire::error::{QueryError, Result};

/// The bytes before a pickle in a plan: a flag, and the version of Python.
const HEADER_LEN: usize = 3;

/// A table of a plan.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub table: TableSpec,
    /// Storage options by their names in Polars.
    pub storage: BTreeMap<String, String>,
}

/// Takes the tables out of a document, by the names of the stand-ins that are scanned instead. What is not recognized
/// stays, and is refused later.
pub fn take(document: &mut Node<'_>) -> Result<BTreeMap<String, Dataset>> {
    let mut found = BTreeMap::new();
    visit(document, &mut found)?;
    Ok(found)
}

fn visit(node: &mut Node<'_>, found: &mut BTreeMap<String, Dataset>) -> Result<()> {
    match node {
        Node::Raw(_) | Node::Owned(_) => return Ok(()),
        Node::Seq(items) => return items.iter_mut().try_for_each(|item| visit(item, found)),
        Node::Map(entries) => {
            for (key, value) in entries {
                // Keys are column names here, and a column may have any name.
                if key.as_str() != Some("fields") {
                    visit(value, found)?;
                }
            }
        }
    }
    let Some(("Scan", scan)) = node.variant() else { return Ok(()) };
    let Some(("PythonDataset", dataset)) = scan.get("scan_type").and_then(Node::variant) else { return Ok(()) };
    let held = dataset.get("dataset_object");
    let bytes = held.and_then(|held| held.get("dataset_object").unwrap_or(held).head_bytes(usize::MAX));
    let pickle = bytes.as_deref().and_then(|bytes| Pickle::read(bytes.get(HEADER_LEN..)?));
    let Some(pickle) = pickle else { return Ok(()) };
    let Some(table) = table_of(&pickle)? else { return Ok(()) };
    let name = format!("dataset/{}", found.len());
    let options = Node::map([
        ("schema", Node::nil()),
        ("parallel", Node::string("Auto")),
        ("low_memory", Node::Raw(&[0xc2])),
        ("use_statistics", Node::Raw(&[0xc3])),
    ]);
    if let Some(scan) = node.variant_mut() {
        let path = Node::map([("inner", Node::string(&path_of(&name)))]);
        scan.set("sources", Node::map([("Paths", Node::Seq(vec![path]))]));
        scan.set("scan_type", Node::map([("Parquet", Node::map([("options", options)]))]));
    }
    found.insert(name, table);
    Ok(())
}

/// `None`: an object of another kind.
fn table_of(pickle: &Pickle) -> Result<Option<Dataset>> {
    let root = pickle.root();
    match pickle.class(root) {
        Some(("polars.io.delta._dataset", "DeltaDataset")) => delta(pickle, root).map(Some),
        Some(("polars.io.iceberg._dataset", "IcebergScanResolver")) => iceberg(pickle, root).map(Some),
        _ => Ok(None),
    }
}

fn refused(what: &str, instead: &str) -> QueryError {
    QueryError::user("UnsupportedPlan", format!("the plan scans {what}; {instead}"))
}

fn delta(pickle: &Pickle, root: Id) -> Result<Dataset> {
    let uri = text(pickle, root, "table_uri_").ok_or_else(|| {
        refused("a Delta table that was given as a DeltaTable object", "give its URI to scan_delta, and its version")
    })?;
    if pickle.get(root, "use_pyarrow").is_some_and(|value| *pickle.value(value) == super::pickle::Value::Bool(true)) {
        return Err(refused("a Delta table by PyArrow (use_pyarrow=True)", "leave that argument out"));
    }
    let mut options = BTreeMap::new();
    if let Some(version) = pickle.get(root, "version").filter(|version| !pickle.is_none(*version)) {
        let value = pickle.int(version).map(|number| json!(number)).or(pickle.text(version).map(|text| json!(text)));
        let instead = "write it as a number or as text such as \"2026-01-31T12:00:00Z\"";
        options.insert(
            "version".to_owned(),
            value.ok_or_else(|| refused("a Delta table's version as a datetime", instead))?,
        );
    }
    let table = TableSpec { format: Some(Format::Delta), uri, options, ..TableSpec::default() };
    Ok(Dataset { table, storage: texts(pickle, pickle.get(root, "storage_options")) })
}

fn iceberg(pickle: &Pickle, root: Id) -> Result<Dataset> {
    let table = pickle.get(root, "table");
    let uri = table.and_then(|table| text(pickle, table, "table_descriptor_")).ok_or_else(|| {
        refused("an Iceberg table that is named by a catalog", "give the table as catalog.load_table(…) returns it")
    })?;
    for bound in ["from_snapshot_id_exclusive", "to_snapshot_id_inclusive"] {
        if pickle.get(root, bound).is_some_and(|value| !pickle.is_none(value)) {
            return Err(refused(
                "what changed in an Iceberg table between snapshots",
                "scan one snapshot (snapshot_id)",
            ));
        }
    }
    let snapshot = pickle.get(root, "snapshot_id").and_then(|id| pickle.int(id));
    let options = snapshot.map(|id| ("snapshot_id".to_owned(), json!(id))).into_iter().collect();
    let properties = table.and_then(|table| pickle.get(table, "iceberg_storage_properties"));
    let table = TableSpec { format: Some(Format::Iceberg), uri, options, ..TableSpec::default() };
    Ok(Dataset { table, storage: of_properties(texts(pickle, properties)) })
}

/// The entries of a dict that are texts.
fn texts(pickle: &Pickle, dict: Option<Id>) -> BTreeMap<String, String> {
    let Some(super::pickle::Value::Dict(entries)) = dict.map(|dict| pickle.value(dict)) else { return BTreeMap::new() };
    let both = |(key, value): &(Id, Id)| Some((pickle.text(*key)?.to_owned(), pickle.text(*value)?.to_owned()));
    entries.iter().filter_map(both).collect()
}

/// Options by the names of Iceberg's properties (`s3.region`) as Polars names them.
fn of_properties(properties: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let renamed = |(name, value): (String, String)| {
        let polars = match name.as_str() {
            "s3.endpoint" => "aws_endpoint_url",
            "s3.region" => "aws_region",
            "s3.access-key-id" => "aws_access_key_id",
            "s3.secret-access-key" => "aws_secret_access_key",
            "s3.session-token" => "aws_session_token",
            _ if name.contains('.') => return None,
            _ => return Some((name, value)),
        };
        Some((polars.to_owned(), value))
    };
    properties.into_iter().filter_map(renamed).collect()
}

fn text(pickle: &Pickle, id: Id, key: &str) -> Option<String> {
    pickle.text(pickle.get(id, key)?).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::parsed;
    use crate::tests::{VERSIONS, fixture};
    use crate::versions;

    #[test]
    fn tables_in_plans_of_every_version_are_read_as_data() {
        for version in VERSIONS {
            let tables = ["python-delta", "python-iceberg"].map(|name| {
                let bytes = fixture(version, name);
                let (_, document) = versions::split(&bytes).unwrap();
                let mut tree = parsed(document).unwrap();
                let tables = take(&mut tree).unwrap();
                crate::refuse::check(&tree).unwrap();
                assert_eq!(tables.keys().collect::<Vec<_>>(), ["dataset/0"], "{version} {name}");
                tables["dataset/0"].table.clone()
            });
            let [delta, iceberg] = tables;
            assert_eq!((delta.format, delta.uri.as_str()), (Some(Format::Delta), "delta-table"), "{version}");
            assert!(delta.options.is_empty());
            let metadata = "iceberg-table/metadata/v2.metadata.json";
            assert_eq!((iceberg.format, iceberg.uri.as_str()), (Some(Format::Iceberg), metadata), "{version}");
            assert_eq!(iceberg.options["snapshot_id"], json!(3024304674545827075i64));
        }
    }
}
