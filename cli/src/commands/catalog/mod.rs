//! `floe catalog`: what an Iceberg catalog has. Asks the catalog alone; only `files` has the runner read files of tables.

mod files;
mod table;

use std::process::ExitCode;

use floe_api::Secret;
use floe_api::data::table_parts;
use floe_api::job::{Job, StorageOptions};
use floe_catalog::{Catalog, CatalogOptions, Loaded};
use serde_json::{Value, json};

use crate::args::catalog::{CatalogArgs, CatalogCommand, LsArgs, OfArgs, TableArgs};
use crate::args::{Output, QueryArgs};
use crate::error::Failure;
use crate::{human, print, query};

const CREDENTIALS: [(&str, &str); 2] = [("FLOE_CATALOG_CREDENTIAL", "credential"), ("FLOE_CATALOG_TOKEN", "token")];

pub fn run(args: CatalogArgs) -> Result<ExitCode, Failure> {
    match args.command {
        CatalogCommand::Ls(args) => list(&args)?,
        CatalogCommand::Show(args) => {
            let (name, loaded) = load(&args)?;
            let metadata = loaded.metadata_value().map_err(failed)?;
            let at = loaded.metadata_location.as_deref();
            match args.of.output {
                Output::Table => print::out(table::described(&name, at, &metadata)),
                Output::Json => print::out(table::object(&name, at, &metadata)),
            }
        }
        CatalogCommand::History(args) => rows(&args, table::history, &table::HISTORY)?,
        CatalogCommand::Snapshots(args) => rows(&args, table::snapshots, &table::SNAPSHOTS)?,
        CatalogCommand::Files(args) => return files::run(&args),
    }
    Ok(ExitCode::SUCCESS)
}

/// What a catalog is called that is given by its address.
fn server(uri: &str) -> &str {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    host.rsplit_once('@').map_or(host, |(_, host)| host)
}

fn failed(error: floe_wire::error::QueryError) -> Failure {
    Failure::Catalog { message: error.message, category: error.category }
}

/// Prints a list that is made of a table's metadata.
fn rows(args: &TableArgs, make: fn(&Value) -> Vec<Value>, columns: &[&str]) -> Result<(), Failure> {
    let (_, loaded) = load(args)?;
    let rows = make(&loaded.metadata_value().map_err(failed)?);
    if rows.is_empty() && args.of.output == Output::Table {
        print::err("the table has no snapshots yet");
    }
    show(&rows, columns, args.of.output);
    Ok(())
}

/// Objects as a table with these of their keys as columns, or as JSON.
fn show(rows: &[Value], columns: &[&str], output: Output) {
    match output {
        Output::Json => print::out(Value::from(rows.to_vec())),
        Output::Table => human::aligned(&table::cells(rows, columns)).iter().for_each(print::out),
    }
}

fn load(args: &TableArgs) -> Result<(String, Loaded), Failure> {
    let known = Known::of(&args.of)?;
    let (catalog, below) = known.split(&args.table)?;
    let (namespace, name) = table_parts(below).ok_or_else(|| {
        Failure::Usage(format!("\"{}\" names no table: write {}NAMESPACE.TABLE", args.table, known.prefix("CATALOG.")))
    })?;
    let catalog = Catalog::open(&catalog).map_err(failed)?;
    let loaded = catalog.load(&namespace, &name).map_err(failed)?;
    Ok((args.table.clone(), loaded))
}

fn list(args: &LsArgs) -> Result<(), Failure> {
    let known = Known::of(&args.of)?;
    let (catalog, below) = match (&args.name, &known) {
        (None, Known::Query(job)) => {
            let catalogs = &job.spec.catalogs;
            let rows: Vec<Value> = catalogs
                .iter()
                .map(|(name, catalog)| json!({"name": name, "kind": "catalog", "uri": catalog.uri}))
                .collect();
            if rows.is_empty() {
                print::err("the query has no spec.catalogs");
            }
            show(&rows, &["name", "kind", "uri"], args.of.output);
            return Ok(());
        }
        (None, Known::Address(options)) => (options.clone(), ""),
        (Some(name), _) => known.split(name)?,
    };
    let namespace: Vec<String> = below.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let prefix = known.prefix(&format!("{}.", catalog.name));
    let catalog = Catalog::open(&catalog).map_err(failed)?;
    let row = |levels: &[String], kind: &str| json!({"name": format!("{prefix}{}", levels.join(".")), "kind": kind});
    let namespaces = catalog.namespaces(&namespace).map_err(failed)?;
    let mut rows: Vec<Value> = namespaces.iter().map(|levels| row(levels, "namespace")).collect();
    if !namespace.is_empty() {
        for name in catalog.tables(&namespace).map_err(failed)? {
            let levels: Vec<String> = namespace.iter().cloned().chain([name]).collect();
            rows.push(row(&levels, "table"));
        }
    }
    if rows.is_empty() && args.of.output == Output::Table {
        print::err("there is nothing");
    }
    show(&rows, &["name", "kind"], args.of.output);
    Ok(())
}

/// Where catalogs are described.
enum Known {
    Query(Box<Job>),
    Address(CatalogOptions),
}

impl Known {
    fn of(args: &OfArgs) -> Result<Self, Failure> {
        let properties = args.property.iter().map(|(name, value)| (name.clone(), Secret::from(value.as_str())));
        let given = CREDENTIALS.iter().filter_map(|(variable, name)| {
            let value = std::env::var(variable).ok().filter(|value| !value.is_empty())?;
            Some(((*name).to_owned(), Secret::from(value)))
        });
        match (&args.file, &args.catalog_uri) {
            (Some(file), _) => {
                if args.warehouse.is_some() || !args.property.is_empty() {
                    let message = "--warehouse and --property go with --catalog-uri: a query has them in spec.catalogs";
                    return Err(Failure::Usage(message.into()));
                }
                let options = QueryArgs { secret: args.secret.clone(), ..QueryArgs::default() };
                Ok(Known::Query(Box::new(query::catalogs(query::load(file, &options)?, &options)?)))
            }
            (None, Some(uri)) => Ok(Known::Address(CatalogOptions {
                name: server(uri).to_owned(),
                uri: uri.clone(),
                warehouse: args.warehouse.clone(),
                properties: properties.chain(given).collect::<StorageOptions>(),
            })),
            (None, None) => {
                Err(Failure::Usage("which catalog? give -f QUERY (with spec.catalogs), or --catalog-uri URI".into()))
            }
        }
    }

    /// The catalog that a name begins with, and what is left of the name.
    fn split<'a>(&self, name: &'a str) -> Result<(CatalogOptions, &'a str), Failure> {
        match self {
            Known::Address(options) => Ok((options.clone(), name)),
            Known::Query(job) => {
                let (first, below) = name.split_once('.').unwrap_or((name, ""));
                if let Some(properties) = job.catalog_properties(first) {
                    return Ok((CatalogOptions::of_properties(first, properties), below));
                }
                let names: Vec<&str> = job.spec.catalogs.keys().map(String::as_str).collect();
                let advice = match floe_api::suggest::nearest(first, names.iter().copied()) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None if names.is_empty() => "it has no spec.catalogs".to_owned(),
                    None => format!("it has {}", names.join(", ")),
                };
                Err(Failure::Usage(format!("the query has no catalog \"{first}\"; {advice}")))
            }
        }
    }

    /// What names begin with.
    fn prefix(&self, of_query: &str) -> String {
        match self {
            Known::Query(_) => of_query.to_owned(),
            Known::Address(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(file: Option<std::path::PathBuf>, uri: Option<&str>) -> OfArgs {
        OfArgs {
            file,
            secret: Vec::new(),
            catalog_uri: uri.map(str::to_owned),
            warehouse: None,
            property: vec![],
            output: Output::Table,
        }
    }

    #[test]
    fn a_name_begins_with_its_catalog_where_there_are_several() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.yaml");
        let text =
            "{apiVersion: floe.dev/v1alpha1, kind: DistributedQuery, metadata: {name: q}, spec: {plan: {sql: select 1},
            catalogs: {lake: {uri: 'https://c', warehouse: w, secretRef: {name: keys}}, sea: {uri: 'https://s'}}}}";
        std::fs::write(&path, text).unwrap();
        std::fs::write(dir.path().join("keys"), "credential=me:hunter2\n").unwrap();
        let mut given = args(Some(path), None);
        given.secret = vec![("keys".into(), dir.path().join("keys").display().to_string())];
        let known = Known::of(&given).unwrap();
        let (options, below) = known.split("lake.ns.t").unwrap();
        assert_eq!((options.name.as_str(), options.uri.as_str(), below), ("lake", "https://c", "ns.t"));
        assert_eq!(
            (options.warehouse.as_deref(), options.properties["credential"].reveal()),
            (Some("w"), "me:hunter2")
        );
        assert_eq!(known.split("sea").unwrap().1, "");
        let told = known.split("lakes.ns.t").unwrap_err().to_string();
        assert_eq!(told, "the query has no catalog \"lakes\"; did you mean \"lake\"?");
        let told = known.split("x.t").unwrap_err().to_string();
        assert_eq!(told, "the query has no catalog \"x\"; it has lake, sea");
        given.secret.clear();
        assert!(Known::of(&given).err().unwrap().lines().join(" ").contains("spec.catalogs.lake.secretRef"));
    }

    #[test]
    fn an_address_is_the_catalog() {
        let mut given = args(None, Some("https://c"));
        given.property = vec![("scope".into(), "all".into())];
        let known = Known::of(&given).unwrap();
        let (options, below) = known.split("a.b.t").unwrap();
        assert_eq!((options.properties["scope"].reveal(), below), ("all", "a.b.t"));
        assert_eq!(options.name, "c");
        assert_eq!(server("http://me:hunter2@host:1/x"), "host:1");
        assert!(Known::of(&args(None, None)).err().unwrap().to_string().contains("--catalog-uri"));
    }
}
