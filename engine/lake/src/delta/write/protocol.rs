//! Which tables are written: the protocol's versions and features.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::schema::marked;
use crate::delta::actions::{Metadata, Protocol};
use crate::delta::error::not_writable;
use crate::write::Mode;
use floe_wire::error::{QueryError, Result};

/// Features that are honoured, or that ask nothing of a writer that only adds and removes whole files. Some are
/// honoured by refusing the tables that make use of them.
const HONOURED: [&str; 19] = [
    "allowColumnDefaults",
    "appendOnly",
    "changeDataFeed",
    "checkConstraints",
    "checkpointProtection",
    "clustering",
    "columnMapping",
    "deletionVectors",
    "domainMetadata",
    "generatedColumns",
    "icebergCompatV1",
    "icebergCompatV2",
    "identityColumns",
    "inCommitTimestamp",
    "invariants",
    "timestampNtz",
    "typeWidening",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];
const PREVIEW: &str = "typeWidening-preview";

/// Features that a version of the protocol for writers stands for.
const LEGACY: [(&str, i64); 7] = [
    ("appendOnly", 2),
    ("invariants", 2),
    ("checkConstraints", 3),
    ("changeDataFeed", 4),
    ("generatedColumns", 4),
    (MAPPING, 5),
    ("identityColumns", 6),
];
const MAPPING: &str = "columnMapping";
const LOCAL_TIMES: &str = "timestampNtz";
/// Features that readers must know as well.
const FOR_READERS: [&str; 6] =
    [MAPPING, "deletionVectors", LOCAL_TIMES, "typeWidening", "v2Checkpoint", "vacuumProtocolCheck"];
/// The versions of the protocol that have lists of features.
const LISTS: (i64, i64) = (3, 7);

/// What columns of a table may have that a writer must do something about.
const MARKS: [(&str, &str, &str); 4] = [
    ("invariants", "delta.invariants", "an invariant"),
    ("generatedColumns", "delta.generationExpression", "an expression that generates it"),
    ("identityColumns", "delta.identity.start", "values that are generated (an identity column)"),
    ("allowColumnDefaults", "CURRENT_DEFAULT", "a default value"),
];

/// Properties that need a feature when they have this value.
const SWITCHES: [(&str, &str, &str); 8] = [
    ("delta.appendOnly", "true", "appendOnly"),
    ("delta.enableChangeDataFeed", "true", "changeDataFeed"),
    ("delta.columnMapping.mode", "name", MAPPING),
    ("delta.columnMapping.mode", "id", MAPPING),
    ("delta.enableDeletionVectors", "true", "deletionVectors"),
    ("delta.enableInCommitTimestamps", "true", "inCommitTimestamp"),
    ("delta.enableTypeWidening", "true", "typeWidening"),
    ("delta.checkpointPolicy", "v2", "v2Checkpoint"),
];
const CONSTRAINT: &str = "delta.constraints.";
const FEATURE: &str = "delta.feature.";

/// Whether a writer must mind this feature.
pub fn supports(protocol: &Protocol, feature: &str) -> bool {
    let version = protocol.min_writer_version.unwrap_or(1);
    if version >= LISTS.1 {
        return protocol.writer_features.iter().flatten().any(|name| name == feature);
    }
    LEGACY.iter().any(|(name, since)| *name == feature && version >= *since)
}

/// Whether a feature is in use that has a property.
pub fn is_on(protocol: &Protocol, metadata: &Metadata, feature: &str, property: &str) -> bool {
    supports(protocol, feature) && metadata.property(property).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Refuses tables that require something of writers that is not implemented here.
pub fn check(root: &str, protocol: &Protocol, metadata: &Metadata, schema: &Json, mode: &Mode) -> Result<()> {
    let version = protocol.min_writer_version.unwrap_or(1);
    if !(1..=LISTS.1).contains(&version) {
        let what = format!("it needs writer version {version} of the protocol, and Floe writes 1 to 7");
        return Err(not_writable(root, what, "write to it with the engine that made it"));
    }
    if version == LISTS.1 {
        let is_known = |name: &str| HONOURED.contains(&name) || name == PREVIEW;
        let unknown: Vec<_> = protocol.writer_features.iter().flatten().filter(|name| !is_known(name)).collect();
        if let Some(first) = unknown.first() {
            let names = unknown.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
            let noun = if unknown.len() == 1 { "feature" } else { "features" };
            let what = format!("it needs the writer {noun} {names}, which Floe does not have");
            let help =
                format!("drop what is not needed with ALTER TABLE … DROP FEATURE {first}, or write to another table");
            return Err(not_writable(root, what, &help));
        }
    }
    for (feature, key, what) in MARKS {
        if let Some(column) = marked(schema, key).first().filter(|_| supports(protocol, feature)) {
            let what = format!("its column \"{column}\" has {what} (feature \"{feature}\"), which Floe does not apply");
            return Err(not_writable(root, what, "take that from the column, or write to another table"));
        }
    }
    let properties = metadata.configuration.iter().flat_map(|properties| properties.0.keys());
    if let Some(name) = properties.filter_map(|key| key.strip_prefix(CONSTRAINT)).next()
        && supports(protocol, "checkConstraints")
    {
        let what =
            format!("it has the constraint \"{name}\" (feature \"checkConstraints\"), which Floe does not check");
        return Err(not_writable(root, what, "drop the constraint, or write to another table"));
    }
    for feature in ["icebergCompatV1", "icebergCompatV2"] {
        let property = format!("delta.enableI{}", &feature[1..]);
        if is_on(protocol, metadata, feature, &property) {
            let what =
                format!("its property \"{property}\" is set (feature \"{feature}\"), which Floe does not honour");
            return Err(not_writable(root, what, "unset it, or write to another table"));
        }
    }
    if mode.removes() && is_on(protocol, metadata, "appendOnly", "delta.appendOnly") {
        let what = "its property \"delta.appendOnly\" forbids to remove rows";
        return Err(not_writable(root, what, "append to it, or unset the property"));
    }
    Ok(())
}

/// The protocol of a new table with these properties, the lowest that does.
pub fn of_new(root: &str, properties: &BTreeMap<String, String>, has_local_times: bool) -> Result<Protocol> {
    let bad = |name: &str, what: &str| {
        QueryError::user("BadSpec", format!("the property \"{name}\" of the new Delta table {root} {what}"))
    };
    let mut features = BTreeSet::new();
    if has_local_times {
        features.insert(LOCAL_TIMES);
    }
    for (name, value) in properties {
        let switch = SWITCHES.iter().find(|(key, on, _)| key == name && value.eq_ignore_ascii_case(on));
        features.extend(switch.map(|(_, _, feature)| feature));
        let is_on = value.eq_ignore_ascii_case("true");
        if let Some(feature) = name.strip_prefix(FEATURE) {
            let known = HONOURED.iter().find(|known| **known == feature);
            let known = known.filter(|known| !known.starts_with("icebergCompat"));
            features
                .insert(*known.ok_or_else(|| bad(name, "asks for a feature that Floe does not have; leave it out"))?);
        } else if name.starts_with(CONSTRAINT) {
            return Err(bad(name, "is a constraint, which Floe does not check; leave it out"));
        } else if is_on && (name == "delta.enableRowTracking" || name.starts_with("delta.enableIcebergCompat")) {
            return Err(bad(name, "asks for a feature that Floe does not have; leave it out"));
        } else if ["delta.minReaderVersion", "delta.minWriterVersion", "delta.columnMapping.maxColumnId"]
            .contains(&name.as_str())
        {
            return Err(bad(
                name,
                "cannot be set: Floe finds it from the columns and the other properties; leave it out",
            ));
        } else if name == "delta.columnMapping.mode" && !["none", "name", "id"].contains(&value.as_str()) {
            return Err(bad(name, &format!("is \"{value}\", not none, name or id")));
        }
    }
    if features.contains("clustering") {
        features.insert("domainMetadata");
    }
    let since = |feature: &&str| LEGACY.iter().find(|(name, _)| name == feature).map(|(_, since)| *since);
    if features.iter().all(|feature| since(feature).is_some()) {
        let writer = features.iter().filter_map(since).max().unwrap_or(2);
        let reader = if features.contains(MAPPING) { 2 } else { 1 };
        return Ok(Protocol {
            min_reader_version: Some(reader),
            min_writer_version: Some(writer),
            ..Protocol::default()
        });
    }
    let owned = |names: &mut dyn Iterator<Item = &&str>| names.map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let for_readers = owned(&mut features.iter().filter(|name| FOR_READERS.contains(name)));
    Ok(Protocol {
        min_reader_version: Some(if for_readers.is_empty() { 1 } else { LISTS.0 }),
        min_writer_version: Some(LISTS.1),
        reader_features: Some(for_readers).filter(|names| !names.is_empty()),
        writer_features: Some(owned(&mut features.iter())),
    })
}

/// The protocol that lets the table have times without a zone. `None` if it has them.
pub fn with_local_times(protocol: &Protocol) -> Option<Protocol> {
    if supports(protocol, LOCAL_TIMES) {
        return None;
    }
    let (reader, writer) = (protocol.min_reader_version.unwrap_or(1), protocol.min_writer_version.unwrap_or(1));
    let mut for_writers = protocol.writer_features.clone().unwrap_or_default();
    if writer < LISTS.1 {
        // A protocol with a list of features must name those of the previous version, which may be in use.
        for_writers = LEGACY.iter().filter(|(_, since)| writer >= *since).map(|(name, _)| (*name).to_owned()).collect();
    }
    let mut for_readers = protocol.reader_features.clone().unwrap_or_default();
    if reader < LISTS.0 {
        for_readers = if for_writers.iter().any(|name| name == MAPPING) { vec![MAPPING.to_owned()] } else { vec![] };
    }
    for names in [&mut for_readers, &mut for_writers] {
        names.push(LOCAL_TIMES.to_owned());
    }
    Some(Protocol {
        min_reader_version: Some(LISTS.0),
        min_writer_version: Some(LISTS.1),
        reader_features: Some(for_readers),
        writer_features: Some(for_writers),
    })
}
