//! Options of `floe catalog`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Output, parse_pair};

#[derive(Debug, clap::Args)]
pub struct CatalogArgs {
    #[command(subcommand)]
    pub command: CatalogCommand,
}

#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// List the catalogs of a query's file, or the namespaces and tables below a name
    Ls(LsArgs),
    /// Show a table: its columns, partitions, branches and tags, current snapshot and properties
    Show(TableArgs),
    /// List which snapshots were a table's current one, and when
    History(TableArgs),
    /// List the snapshots that can be read, with what they added and hold
    Snapshots(TableArgs),
    /// List the files of a table: partition, rows, bytes and what is deleted in each
    Files(FilesArgs),
}

#[derive(Debug, clap::Args)]
pub struct LsArgs {
    /// CATALOG or CATALOG.NAMESPACE with -f; NAMESPACE with --catalog-uri
    pub name: Option<String>,
    #[command(flatten)]
    pub of: OfArgs,
}

#[derive(Debug, clap::Args)]
pub struct TableArgs {
    /// CATALOG.NAMESPACE.TABLE with -f; NAMESPACE.TABLE with --catalog-uri
    pub table: String,
    #[command(flatten)]
    pub of: OfArgs,
}

#[derive(Debug, clap::Args)]
pub struct FilesArgs {
    /// CATALOG.NAMESPACE.TABLE, or a table in spec.tables, with -f; NAMESPACE.TABLE with --catalog-uri
    pub table: String,
    #[command(flatten)]
    pub of: OfArgs,
}

/// Which catalog. Credentials come from files and the environment, since a command line is seen by others.
#[derive(Debug, clap::Args)]
pub struct OfArgs {
    /// A query (YAML) whose spec.catalogs has the catalog
    #[arg(short, long, value_name = "QUERY", conflicts_with = "catalog_uri")]
    pub file: Option<PathBuf>,
    /// With -f: a file of key=value lines, or a directory with a file per key, as the Secret NAME of the query
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_pair)]
    pub secret: Vec<(String, String)>,
    /// Address of a catalog, up to but without /v1. FLOE_CATALOG_CREDENTIAL (client_id:client_secret) or
    /// FLOE_CATALOG_TOKEN opens it
    #[arg(long, value_name = "URI", env = "FLOE_CATALOG_URI")]
    pub catalog_uri: Option<String>,
    /// Its warehouse
    #[arg(long, value_name = "NAME", env = "FLOE_CATALOG_WAREHOUSE")]
    pub warehouse: Option<String>,
    /// Another property of the catalog, as Iceberg's clients name it: scope=PRINCIPAL_ROLE:ALL
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub property: Vec<(String, String)>,
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}
