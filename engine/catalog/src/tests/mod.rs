//! The client against a server that answers as it is told.

mod changes;
mod faults;
mod reading;
mod server;

use floe_api::Secret;

use crate::{Catalog, CatalogOptions};
use server::{Reply, Seen, Server};

const METADATA: &str = r#"{"format-version":2,"location":"s3://b/ns/t","table-uuid":"u"}"#;

fn options(server: &Server, properties: &[(&str, &str)]) -> CatalogOptions {
    let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), Secret::from(*value))).collect();
    CatalogOptions {
        name: "lake".into(),
        uri: format!("{}/api/", server.url()),
        warehouse: Some("w h".into()),
        properties,
    }
}

fn open(server: &Server) -> Catalog {
    Catalog::open(&options(server, &[])).unwrap()
}

/// A server with a configuration; the rest is up to `then`.
fn serve(then: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |seen| match seen.path.as_str() {
        path if path.starts_with("/api/v1/config") => Reply::json(r#"{"defaults":{},"overrides":{"prefix":"p"}}"#),
        _ => then(seen),
    })
}

fn table() -> Reply {
    Reply::json(&format!(r#"{{"metadata-location":"s3://b/ns/t/metadata/1.metadata.json","metadata":{METADATA}}}"#))
}

fn ns() -> Vec<String> {
    vec!["ns".into()]
}
