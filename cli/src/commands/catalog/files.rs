//! `floe catalog files`: the data files of a table. The runner reads the table's metadata, as it does for a query.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use floe_api::job::Job;
use floe_api::report::Category;
use floe_api::{DistributedQuery, PlanSource, TableSpec};
use serde_json::{Value, json};

use super::{Known, show};
use crate::args::catalog::FilesArgs;
use crate::args::{Output, QueryArgs};
use crate::error::Failure;
use crate::{print, process, query};

const COLUMNS: [&str; 6] = ["path", "partition", "rows", "bytes", "deleted", "equalityDeletes"];
/// What the table is called in the job.
const TABLE: &str = "table";
/// What a catalog is called that is given by its address.
const CATALOG: &str = "catalog";

pub fn run(args: &FilesArgs) -> Result<ExitCode, Failure> {
    let job = job(args)?;
    let runner = process::find_runner()?;
    let failed = |e| Failure::io("cannot write the job", e);
    // Private to the user and removed when dropped: it may hold credentials.
    let mut file = tempfile::NamedTempFile::new().map_err(failed)?;
    let text = serde_json::to_vec(&job).map_err(|e| Failure::Internal(format!("the job cannot be written: {e}")))?;
    file.write_all(&text).and_then(|()| file.flush()).map_err(failed)?;
    let output = Command::new(&runner)
        .arg("files")
        .arg("--job")
        .arg(file.path())
        .args(["--table", TABLE])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| Failure::io(format!("cannot start {}", runner.display()), e))?;
    if !output.status.success() {
        let code = output.status.code().and_then(|code| u8::try_from(code).ok());
        return Ok(ExitCode::from(code.unwrap_or_else(|| Category::Internal.exit_code())));
    }
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout)
        .map_err(|e| Failure::Internal(format!("the runner's list of files cannot be read: {e}")))?;
    if rows.is_empty() && args.of.output == Output::Table {
        print::err("the table has no files");
    }
    let rows = if args.of.output == Output::Table { rows.into_iter().map(for_people).collect() } else { rows };
    show(&rows, &COLUMNS, args.of.output);
    Ok(ExitCode::SUCCESS)
}

/// A job that has the table, and no more of the query than what opens it.
fn job(args: &FilesArgs) -> Result<Job, Failure> {
    let of_catalog = |catalog: &str, name: &str| TableSpec {
        catalog: Some(catalog.to_owned()),
        table: Some(name.to_owned()),
        ..TableSpec::default()
    };
    let known = Known::of(&args.of)?;
    let (mut query, table, secrets) = match (&known, &args.of.file) {
        (Known::Query(_), Some(file)) => {
            let query = query::load(file, &QueryArgs::default())?;
            let table = match query.spec.tables.get(&args.table) {
                Some(table) => table.clone(),
                None => {
                    let (catalog, below) = known.split(&args.table)?;
                    of_catalog(&catalog.name, below)
                }
            };
            (query, table, BTreeMap::new())
        }
        _ => {
            let (options, below) = known.split(&args.table)?;
            let catalog = json!({"uri": options.uri, "warehouse": options.warehouse});
            let query = json!({
                "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "files"},
                "spec": {"plan": {"sql": "SELECT 1"}, "catalogs": {CATALOG: without_nulls(catalog)}},
            });
            let faulty = |faults| Failure::Spec { what: "--catalog-uri".to_owned(), faults };
            let query = floe_api::from_value(query).map_err(faulty)?;
            (query, of_catalog(CATALOG, below), BTreeMap::from([(CATALOG.to_owned(), options.properties)]))
        }
    };
    if let (Some(_), Some(name)) = (&table.catalog, &table.table)
        && floe_api::data::table_parts(name).is_none()
    {
        let message = format!("\"{}\" names no table: write {}NAMESPACE.TABLE", args.table, known.prefix("CATALOG."));
        return Err(Failure::Usage(message));
    }
    strip(&mut query);
    query.spec.tables = BTreeMap::from([(TABLE.to_owned(), table)]);
    let options = QueryArgs { secret: args.of.secret.clone(), ..QueryArgs::default() };
    let mut job = query::prepare(query, &options)?.job;
    job.catalog_secrets.extend(secrets);
    Ok(job)
}

/// Takes out what has nothing to do with tables, so that no Secret is asked for in vain.
fn strip(query: &mut DistributedQuery) {
    let spec = &mut query.spec;
    spec.plan = PlanSource { sql: Some("SELECT 1".to_owned()), ..PlanSource::default() };
    (spec.suspend, spec.cancel, spec.sink) = (false, false, None);
    spec.after.clear();
    spec.compute.env.clear();
    spec.compute.env_from.clear();
}

fn without_nulls(mut object: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.retain(|_, value| !value.is_null());
    }
    object
}

/// A partition as a list of `column=value`.
fn for_people(mut row: Value) -> Value {
    let texts: Vec<String> = row["partition"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(column, value)| format!("{column}={}", value.as_str().unwrap_or("null")))
        .collect();
    row["partition"] = texts.into();
    row
}

#[cfg(test)]
mod tests {
    use super::super::table::cells;
    use super::*;
    use crate::args::catalog::OfArgs;

    fn args(table: &str, file: Option<&std::path::Path>, uri: Option<&str>) -> FilesArgs {
        let of = OfArgs {
            file: file.map(std::path::Path::to_owned),
            secret: Vec::new(),
            catalog_uri: uri.map(str::to_owned),
            warehouse: Some("w".to_owned()).filter(|_| uri.is_some()),
            property: Vec::new(),
            output: Output::Table,
        };
        FilesArgs { table: table.to_owned(), of }
    }

    #[test]
    fn a_table_is_one_of_the_query_or_of_a_catalog() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.yaml");
        let text = "{apiVersion: floe.dev/v1alpha1, kind: DistributedQuery, metadata: {name: q}, spec: {
            plan: {sql: select 1}, suspend: true, sink: {uri: out/, format: parquet},
            compute: {env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]},
            tables: {t: {uri: 's3://b/t', format: delta}, u: {uri: u.parquet}}, catalogs: {lake: {uri: 'https://c'}}}}";
        std::fs::write(&path, text).unwrap();
        let table = |name: &str| job(&args(name, Some(&path), None)).map(|job| job.spec.tables[TABLE].clone());
        assert_eq!(table("t").unwrap().uri, "s3://b/t");
        let found = table("lake.ns.t").unwrap();
        assert_eq!((found.catalog.as_deref(), found.table.as_deref()), (Some("lake"), Some("ns.t")));
        assert!(table("lake.t").unwrap_err().to_string().contains("write CATALOG.NAMESPACE.TABLE"));
        assert!(table("lakes.ns.t").unwrap_err().to_string().contains("did you mean \"lake\"?"));
        let job = job(&args("a.b.t", None, Some("https://c"))).unwrap();
        assert_eq!(job.spec.tables[TABLE].table.as_deref(), Some("a.b.t"));
        let properties = job.catalog_properties(CATALOG).unwrap();
        assert_eq!((properties["uri"].reveal(), properties["warehouse"].reveal()), ("https://c", "w"));
    }

    #[test]
    fn files_are_shown_one_in_a_line() {
        let row = json!({"path": "s3://b/x", "partition": {"day": "2026-01-31", "kind": null}, "rows": null, "bytes": 7,
            "deleted": 2, "equalityDeletes": 0});
        let cells = cells(&[for_people(row)], &COLUMNS);
        assert_eq!(cells[0], ["PATH", "PARTITION", "ROWS", "BYTES", "DELETED", "EQUALITYDELETES"]);
        assert_eq!(cells[1], ["s3://b/x", "day=2026-01-31, kind=null", "", "7", "2", "0"]);
    }
}
