//! Which tables are read: the protocol's versions and features.

use super::actions::{Metadata, Protocol};
use super::error::{bad_table, unsupported};
use crate::table::Mapping;
use floe_wire::error::Result;

/// Features that change how a table is read, and that this crate reads.
const FEATURES: [&str; 9] = [
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    // These concern writers. Some list them for readers as well.
    "inCommitTimestamp",
    "domainMetadata",
];

/// Refuses tables that need what is not known here.
pub fn check(root: &str, protocol: &Protocol) -> Result<()> {
    let version = protocol.min_reader_version.unwrap_or(1);
    if !(1..=3).contains(&version) {
        return Err(unsupported(
            root,
            format!("it needs reader version {version} of the protocol, and Floe reads 1 to 3"),
            "read it with the engine that wrote it, or copy it to a new table",
        ));
    }
    let unknown: Vec<_> = features(protocol).iter().filter(|name| !FEATURES.contains(&name.as_str())).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let names = unknown.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let (noun, each) = if unknown.len() == 1 { ("feature", unknown[0].as_str()) } else { ("features", "…") };
    Err(unsupported(
        root,
        format!("it needs the reader {noun} {names}, which Floe does not have"),
        &format!("drop what is not needed with ALTER TABLE … DROP FEATURE {each}, or copy the rows to a table without"),
    ))
}

fn features(protocol: &Protocol) -> &[String] {
    match protocol.min_reader_version {
        Some(3) => protocol.reader_features.as_deref().unwrap_or_default(),
        _ => &[],
    }
}

/// How columns are found; `None` if files have the names of the table.
pub fn mapping(root: &str, protocol: &Protocol, metadata: &Metadata) -> Result<Option<Mapping>> {
    let enabled = match protocol.min_reader_version {
        Some(2) => true,
        _ => features(protocol).iter().any(|name| name == "columnMapping"),
    };
    // Without the feature the property means nothing.
    match metadata.property("delta.columnMapping.mode").filter(|_| enabled) {
        None | Some("none") => Ok(None),
        Some("name") => Ok(Some(Mapping::Name)),
        Some("id") => Ok(Some(Mapping::Id)),
        Some(other) => Err(bad_table(
            root,
            format!("its property \"delta.columnMapping.mode\" is \"{other}\", not none, name or id"),
        )),
    }
}
