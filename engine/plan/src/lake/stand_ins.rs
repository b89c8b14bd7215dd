//! Tables in plans that come from Python: the client's Polars scans a file that does not exist, and the scan of the
//! table takes its place here.

use std::collections::BTreeMap;
use std::path::Path;

use polars_core::prelude::Schema;
use polars_lazy::frame::LazyFrame;
use polars_plan::dsl::{DslPlan, ScanSources};
use serde_json::{Value, json};

use super::datasets::Dataset;
use crate::StorageOptions;
use crate::crossing::dtype_data;
use crate::inputs::inputs_mut;
use floe_polars::{panics_as_polars, polars_error};
use floe_wire::error::{QueryError, Result};

/// Folder of the files that do not exist.
const FOLDER: &str = "/.floe-tables/";

/// Tables by their names.
#[derive(Default)]
pub struct StandIns(BTreeMap<String, LazyFrame>);

impl StandIns {
    /// Adds a table and returns what a script's process needs to scan it: the path and the schema.
    pub fn add(&mut self, name: &str, mut frame: LazyFrame) -> Result<Value> {
        let schema = panics_as_polars(|| frame.collect_schema().map_err(polars_error))?;
        let stand_in = json!({"path": path_of(name), "columns": columns(&schema)?});
        self.0.insert(path_of(name), frame);
        Ok(stand_in)
    }

    /// Opens tables that a plan scans.
    pub fn open(tables: BTreeMap<String, Dataset>, storage: &StorageOptions, base: &Path) -> Result<StandIns> {
        let open = |(name, Dataset { table, storage: own }): (String, Dataset)| {
            let storage = storage.over(&table.uri, &own);
            Ok((path_of(&name), super::open(&table, &storage, base)?))
        };
        tables.into_iter().map(open).collect::<Result<_>>().map(StandIns)
    }

    /// Puts the tables in a plan.
    pub fn put_in(&self, mut plan: DslPlan) -> Result<DslPlan> {
        if !self.0.is_empty() {
            self.visit(&mut plan)?;
        }
        Ok(plan)
    }

    fn visit(&self, plan: &mut DslPlan) -> Result<()> {
        if let DslPlan::Scan { sources: ScanSources::Paths(paths), .. } = plan
            && let Some(path) = paths.iter().map(|path| path.as_str()).find(|path| path.starts_with(FOLDER))
        {
            let table = self.0.get(path).filter(|_| paths.len() == 1);
            let table =
                table.ok_or_else(|| QueryError::user("BadScript", format!("{path} is no table of this query")))?;
            *plan = table.logical_plan.clone();
            return Ok(());
        }
        inputs_mut(plan).into_iter().try_for_each(|input| self.visit(input))
    }
}

/// The path of the file that a stand-in scans.
pub fn path_of(name: &str) -> String {
    format!("{FOLDER}{name}")
}

fn columns(schema: &Schema) -> Result<Vec<Value>> {
    let column = |(name, dtype)| {
        let data = dtype_data(dtype);
        data.map(|data| json!([name, data])).ok_or_else(|| {
            QueryError::user(
                "UnsupportedTable",
                format!("the column {name} has the type {dtype}, which scripts cannot use"),
            )
        })
    };
    schema.iter().map(|(name, dtype): (&polars_utils::pl_str::PlSmallStr, _)| column((name.as_str(), dtype))).collect()
}
