//! Tables of catalogs: their catalog says where their metadata is and gives credentials for their files, and takes
//! commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use floe_api::TableSpec;
use floe_catalog::{CatalogOptions, Create, Loaded};
use floe_lake::iceberg::write::catalog::{Catalog, Change, Draft, Loaded as Current, Outcome};
use serde::Serialize;
use serde_json::Value as Json;

use crate::StorageOptions;
use floe_wire::error::{Category, QueryError, Result};

/// A table by its name in a catalog.
#[derive(Clone)]
pub struct CatalogTable {
    catalog: floe_catalog::Catalog,
    namespace: Vec<String>,
    name: String,
    /// The table as the catalog staged it, until it is made.
    staged: Arc<Mutex<Option<Loaded>>>,
}

impl std::fmt::Debug for CatalogTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl CatalogTable {
    /// Asks for nothing but the catalog's own configuration.
    pub fn find(catalog: &str, table: &str, storage: &StorageOptions) -> Result<CatalogTable> {
        let Some(properties) = storage.catalog(catalog) else {
            let known: Vec<&str> = storage.catalogs().collect();
            let known = if known.is_empty() { "there is none".to_owned() } else { known.join(", ") };
            let message = format!("catalog '{catalog}' is not in spec.catalogs: {known}");
            return Err(QueryError::user("UnknownCatalog", message));
        };
        let Some((namespace, name)) = floe_api::table_parts(table) else {
            let message = format!("catalog {catalog}: '{table}' is no name of a table: write namespace.name");
            return Err(QueryError::user("BadSpec", message));
        };
        let catalog = floe_catalog::Catalog::open(&CatalogOptions::of_properties(catalog, properties.clone()))?;
        Ok(CatalogTable { catalog, namespace, name, staged: Arc::default() })
    }

    pub fn load(&self) -> Result<Loaded> {
        self.catalog.load(&self.namespace, &self.name)
    }

    /// The table, if it is there.
    pub fn load_if_there(&self) -> Result<Option<Loaded>> {
        match self.is_there()? {
            true => self.load().map(Some),
            false => Ok(None),
        }
    }

    fn is_there(&self) -> Result<bool> {
        self.catalog.exists(&self.namespace, &self.name)
    }

    /// The query's own options, and over them what the catalog gives for the files of the table, be it there or staged.
    pub fn storage(&self, storage: &StorageOptions, own: Option<&str>) -> Result<StorageOptions> {
        if let Some(staged) = &*self.staged.lock().unwrap_or_else(PoisonError::into_inner) {
            return storage_of(staged, storage, own);
        }
        match self.load_if_there()? {
            Some(loaded) => storage_of(&loaded, storage, own),
            None => Ok(storage.clone()),
        }
    }

    fn shown(&self) -> String {
        format!("{}.{}.{}", self.catalog.name(), self.namespace.join("."), self.name)
    }
}

/// The query's own options, and over them what the catalog gives for the table's files. `own` names the storage of the
/// table.
pub fn storage_of(loaded: &Loaded, storage: &StorageOptions, own: Option<&str>) -> Result<StorageOptions> {
    let mut all = storage.clone();
    for prefix in loaded.prefixes().chain([loaded.location.as_str()]) {
        let options = loaded.storage_for(prefix, storage.of_table(own, prefix))?;
        all.put(prefix, options);
    }
    Ok(all)
}

/// The tables of catalogs that a SQL text or a script names (`lake.sales.orders`), those that are there. They are tables of
/// the query by these names.
pub fn named_in(text: &str, storage: &StorageOptions) -> Result<BTreeMap<String, TableSpec>> {
    let mut found = BTreeMap::new();
    for catalog in storage.catalogs() {
        for table in names_in(text, catalog) {
            if CatalogTable::find(catalog, &table, storage)?.is_there()? {
                let (catalog, name) = (Some(catalog.to_owned()), format!("{catalog}.{table}"));
                found.insert(name, TableSpec { catalog, table: Some(table), ..TableSpec::default() });
            }
        }
    }
    Ok(found)
}

/// Names with at least two parts that follow `catalog.` in a text.
fn names_in(text: &str, catalog: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
    let starts = text.match_indices(catalog).filter(|(at, _)| {
        let before = text[..*at].chars().next_back();
        before.is_none_or(|c| !is_part(c) && c != '.')
    });
    let after = starts.filter_map(|(at, _)| text[at + catalog.len()..].strip_prefix('.'));
    let names = after.map(|rest| {
        let end = rest.find(|c| !is_part(c) && c != '.').unwrap_or(rest.len());
        rest[..end].trim_end_matches(['.', '-'])
    });
    names.filter(|name| floe_api::table_parts(name).is_some()).map(str::to_owned).collect()
}

impl Catalog for CatalogTable {
    fn name(&self) -> String {
        self.shown()
    }

    fn load(&self) -> Result<Option<Current>> {
        self.load_if_there()?.map(current).transpose()
    }

    fn stage(&self, draft: &Draft) -> Result<Json> {
        let mut properties = draft.properties.clone();
        properties.entry("format-version".to_owned()).or_insert_with(|| draft.format_version.to_string());
        let create = Create {
            schema: draft.schema.clone(),
            partition_spec: Some(draft.spec.clone()),
            write_order: None,
            location: draft.location.clone(),
            properties,
            stage: true,
        };
        match self.catalog.create(&self.namespace, &self.name, &create)? {
            floe_catalog::Outcome::Done(staged) => {
                let metadata = staged.metadata_value();
                *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(*staged);
                metadata
            }
            floe_catalog::Outcome::Conflict(why) => Err(QueryError::user(
                "SinkExists",
                format!("{}: {why}; use mode overwrite to replace its rows or append to add to them", self.shown()),
            )),
            floe_catalog::Outcome::Unknown(why) => Err(QueryError::io(format!("{}: {why}", self.shown()))),
        }
    }

    fn commit(&self, change: &Change) -> Result<Outcome> {
        let requirements = change.requirements.iter().map(json).collect::<Result<Vec<_>>>()?;
        let updates = change.updates.iter().map(json).collect::<Result<Vec<_>>>()?;
        match self.catalog.commit(&self.namespace, &self.name, &requirements, &updates)? {
            floe_catalog::Outcome::Done(_) => Ok(Outcome::Done),
            floe_catalog::Outcome::Conflict(_) => Ok(Outcome::Conflict),
            floe_catalog::Outcome::Unknown(why) => {
                Err(QueryError::new(Category::Io, "CommitUnknown", format!("{}: {why}", self.shown())))
            }
        }
    }
}

fn json<T: Serialize>(of: &T) -> Result<Json> {
    serde_json::to_value(of).map_err(|error| QueryError::internal(format!("a change of a table: {error}")))
}

fn current(loaded: Loaded) -> Result<Current> {
    let uri = loaded.metadata_location.clone().unwrap_or_default();
    Ok(Current { metadata: loaded.metadata_value()?, uri })
}

#[cfg(test)]
mod tests {
    use super::names_in;

    #[test]
    fn names_of_a_catalog_are_found_in_texts() {
        let text = "SELECT a.x, lake.one FROM lake.ns.t JOIN other.lake.ns.u ON x JOIN lakes.ns.v, lake.a.b.c; \
                    scan('lake.ns.w'); lake.ns.t";
        let found: Vec<String> = names_in(text, "lake").into_iter().collect();
        assert_eq!(found, ["a.b.c", "ns.t", "ns.w"]);
    }
}
