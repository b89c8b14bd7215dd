//! A table of a database as a scan of Polars.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use floe_postgres::{Described, Limits, Part, Pushed, Session, Source, Unit, sql};
use polars_core::prelude::*;
use polars_lazy::frame::{IntoLazy, LazyFrame};
use polars_plan::dsl::{AnonymousScanOptions, DslBuilder, DslPlan, FileScanDsl, UnifiedScanArgs};
use polars_plan::plans::{AnonymousScan, AnonymousScanArgs};

use super::frames;
use crate::inputs::inputs;
use floe_wire::error::Result;

pub(super) struct Table {
    pub source: Source,
    pub session: Arc<Session>,
    pub described: Described,
    pub schema: SchemaRef,
}

pub(super) fn frame(source: Source, session: Arc<Session>, described: Described) -> PolarsResult<LazyFrame> {
    let columns = described.columns.iter();
    let schema: Schema =
        columns.map(|column| (PlSmallStr::from_str(&column.name), frames::dtype(&column.r#type))).collect();
    let schema = Arc::new(schema);
    let args = UnifiedScanArgs { schema: Some(schema.clone()), ..UnifiedScanArgs::default() };
    let table = Table { source, session, described, schema };
    let options = AnonymousScanOptions { skip_rows: None, fmt_str: "POSTGRES" };
    Ok(LazyFrame::from(DslBuilder::anonymous_scan(Arc::new(table), options, args)?.build()))
}

/// The transactions that the tables of a plan are read in. Whoever runs the plan keeps this until it has ended.
#[derive(Debug, Default)]
pub struct Held(#[allow(dead_code, reason = "only its end matters")] Vec<Arc<Session>>);

pub fn held(plan: &DslPlan) -> Held {
    let (mut open, mut found) = (vec![plan], BTreeMap::new());
    while let Some(plan) = open.pop() {
        if let DslPlan::Scan { scan_type, .. } = plan
            && let FileScanDsl::Anonymous { function, .. } = &**scan_type
            && let Some(table) = function.as_any().downcast_ref::<Table>()
        {
            found.insert(table.source.identity(), table.session.clone());
        }
        open.extend(inputs(plan));
    }
    Held(found.into_values().collect())
}

impl Table {
    /// The table as messages name it.
    pub fn name(&self) -> String {
        match &self.described.from {
            sql::From::Table { schema, name } => format!("{schema}.{name}"),
            sql::From::Query(_) => "a query".to_owned(),
        }
    }

    /// Reads columns of all rows.
    fn read(&self, columns: &[PlSmallStr]) -> Result<DataFrame> {
        let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
        let schema: Schema = columns
            .iter()
            .filter_map(|name| self.schema.get_full(name.as_str()))
            .map(|(_, name, dtype)| (name.clone(), dtype.clone()))
            .collect();
        let select = sql::select(&self.described, &Pushed { columns, ..Pushed::default() }, &Part::Whole)?;
        let unit = Unit::new(&self.source, self.session.id(), self.name(), vec![]);
        let work = async move {
            let mut reading = unit.open(&select, Limits::default()).await?;
            let mut batches = Vec::new();
            while let Some(batch) = reading.next().await? {
                batches.push(batch);
            }
            Ok(batches)
        };
        let mut all = DataFrame::empty_with_schema(&schema);
        for batch in floe_postgres::runtime::wait(work, &|| false)? {
            all.vstack_mut_owned(frames::frame(batch, &schema)?).map_err(floe_polars::polars_error)?;
        }
        Ok(all)
    }
}

impl AnonymousScan for Table {
    fn as_any(&self) -> &dyn Any {
        self
    }

    /// For Polars' in-memory engine only.
    fn scan(&self, args: AnonymousScanArgs) -> PolarsResult<DataFrame> {
        let wanted: Vec<PlSmallStr> = match &args.with_columns {
            Some(names) => names.to_vec(),
            None => self.schema.iter_names().cloned().collect(),
        };
        let all: Vec<PlSmallStr> = self.schema.iter_names().cloned().collect();
        let read = if args.predicate.is_some() { &all } else { &wanted };
        let rows = self.read(read).map_err(|error| polars_err!(ComputeError: "{}", error.message))?;
        let mut frame = rows.lazy();
        if let Some(rows) = args.n_rows {
            frame = frame.slice(0, IdxSize::try_from(rows).unwrap_or(IdxSize::MAX));
        }
        if let Some(predicate) = args.predicate {
            frame = frame.filter(predicate);
        }
        frame.select(wanted.into_iter().map(polars_plan::prelude::col).collect::<Vec<_>>()).collect()
    }

    fn schema(&self, _infer_schema_length: Option<usize>) -> PolarsResult<SchemaRef> {
        Ok(self.schema.clone())
    }

    fn allows_predicate_pushdown(&self) -> bool {
        true
    }

    fn allows_projection_pushdown(&self) -> bool {
        true
    }
}
