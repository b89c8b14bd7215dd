//! A Python function as a Polars UDF.

use std::any::Any;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use polars_core::prelude::*;
use polars_plan::dsl::udf::try_infer_udf_output_dtype;
use polars_plan::dsl::{AnonymousColumnsUdf, ColumnsUdf, LazySerde, SpecialEq};
use polars_plan::plans::{AExpr, IRPlan};
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use super::pace::Pace;
use super::payload::{Kind, Packed, Payload, of_list};
use super::pool::Stops;
use super::slices::{self, Stop};
use super::{groups, pool, settings};
use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result};

/// Name of these functions in displayed plans; also tells them apart from Floe's own.
pub const SHOWN: &str = "python_udf";

/// The task for which functions are called.
#[derive(Clone)]
pub struct Task {
    /// Children are kept and shared per query, by this name.
    pub query: Arc<str>,
    pub cancel: Arc<AtomicBool>,
    /// Records an error for the task and wraps it as a Polars error.
    pub keep: Arc<dyn Fn(QueryError) -> PolarsError + Send + Sync>,
}

pub struct PythonFunction {
    payload: Arc<Payload>,
    key: u64,
    field: OnceLock<Field>,
    task: Task,
    /// Shared by all calls of a task.
    pace: Mutex<Pace>,
}

impl PythonFunction {
    pub fn new(payload: Arc<Payload>, field: Option<Field>, task: Task) -> Self {
        let (key, pace) = (payload.key(), of_payload(&payload));
        Self { payload, key, field: field.map_or_else(OnceLock::new, OnceLock::from), task, pace }
    }

    fn bound(&self, task: &Task) -> Self {
        let (payload, pace) = (self.payload.clone(), of_payload(&self.payload));
        Self { payload, key: self.key, field: self.field.clone(), task: task.clone(), pace }
    }

    fn run(&self, payload: &Payload, columns: &[Column], returns: Option<&DataType>) -> PolarsResult<Column> {
        let columns: Vec<Series> = columns.iter().map(|column| column.as_materialized_series().clone()).collect();
        pool::call(payload, self.key, &columns, returns, &self.task)
            .map(IntoColumn::into_column)
            .map_err(|error| (self.task.keep)(error))
    }

    /// Number of rows, if they can be split over several calls; `None` if one call must get them all.
    fn rows_apart(&self, columns: &[Column]) -> Option<usize> {
        let Payload { groups, by_rows, by_batches, .. } = &*self.payload;
        let rows = columns.iter().map(Column::len).max()?;
        let apart = groups.is_some() || *by_rows || *by_batches;
        // A literal has one row that stands for all.
        let alike = columns.iter().all(|column| column.len() == rows || column.len() == 1);
        (apart && alike && rows > 1).then_some(rows)
    }

    /// Calls the function in batches of rows.
    fn run_apart(&self, columns: &[Column], rows: usize, dtype: &DataType) -> PolarsResult<Column> {
        let call = |from: usize, some: usize, failed: &AtomicBool| -> Result<(Column, Duration), Stop> {
            let part = |column: &Column| {
                let one_for_all = column.len() < rows;
                let part = if one_for_all { column.clone() } else { column.slice(from as i64, some) };
                part.take_materialized_series()
            };
            let columns: Vec<Series> = columns.iter().map(part).collect();
            let stops = Stops { cancel: &self.task.cancel, failed: Some(failed) };
            let (given, took) = pool::timed(&self.payload, self.key, &columns, Some(dtype), &self.task.query, stops)
                .map_err(Stop::Failed)?;
            Ok((self.checked(given.into_column(), dtype).map_err(Stop::Wrong)?, took))
        };
        let in_parts = |from: usize, some: usize, failed: &AtomicBool| -> Result<(Column, Duration), Stop> {
            let (given, took) = call(from, some, failed)?;
            if self.payload.by_rows && given.len() != some {
                return Err(Stop::Wrong(polars_err!(ShapeMismatch: "{} rows for {some}", given.len())));
            }
            Ok((given, took))
        };
        let parts = match slices::paced(rows, &self.pace, settings().children, &in_parts) {
            // A small batch may return another type or length than a large one. Polars judges by one call with all
            // rows, so retry with that (or, for groups, with full batches).
            Err(Stop::Wrong(_)) => {
                let at_once = self.payload.groups.map_or(rows, |_| groups::MAX_GROUPS_PER_CALL);
                slices::in_turn(rows, at_once, &call)
            }
            ended => ended,
        };
        let parts = parts.map_err(|stop| match stop {
            Stop::Failed(error) => (self.task.keep)(error),
            Stop::Wrong(error) => error,
        })?;
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_else(|| Column::new_empty(PlSmallStr::EMPTY, dtype));
        for part in parts {
            all.append_owned(part)?;
        }
        Ok(all)
    }

    /// Checks and casts the output as Polars does for this kind of function.
    fn checked(&self, out: Column, dtype: &DataType) -> PolarsResult<Column> {
        match self.payload.kind {
            Kind::Columns => {
                let of_one = |dtype: &DataType| match self.payload.groups {
                    Some(_) if !self.payload.scalar => of_list(dtype).clone(),
                    _ => dtype.clone(),
                };
                let other = |_| {
                    polars_err!(
                        SchemaMismatch: "expected output type '{:?}', got '{:?}'; set `return_dtype` to the proper datatype",
                        of_one(dtype), of_one(out.dtype()),
                    )
                };
                if out.dtype().matches_schema_type(dtype).map_err(other)? { out.cast(dtype) } else { Ok(out) }
            }
            Kind::Frame | Kind::Group | Kind::Source if out.dtype() == dtype => Ok(out),
            Kind::Frame | Kind::Group | Kind::Source => {
                if self.payload.checked {
                    polars_bail!(
                        ComputeError: "The output schema of 'LazyFrame.map' is incorrect. Expected: {:?}\nGot: {:?}",
                        columns_of(dtype), columns_of(out.dtype())
                    );
                }
                out.cast(dtype)
            }
            Kind::Fold => {
                let declared = matches!(self.payload.returns, super::payload::Returns::Type(_));
                polars_ensure!(
                    !self.payload.scalar || out.len() == 1,
                    InvalidOperation: "`fold` is said to return scalar but returned {} elements", out.len(),
                );
                polars_ensure!(
                    !declared || out.dtype() == dtype,
                    ComputeError: "`fold` did not return given return_dtype ({} != {})", dtype, out.dtype()
                );
                if out.dtype() == dtype { Ok(out) } else { out.cast(dtype) }
            }
            Kind::CumFold | Kind::Rolling | Kind::Names | Kind::Schema => Ok(out),
        }
    }
}

fn of_payload(payload: &Payload) -> Mutex<Pace> {
    let most = payload.groups.map_or(usize::MAX, |_| groups::MAX_GROUPS_PER_CALL);
    Mutex::new(Pace::new(most, settings().call_limit))
}

fn columns_of(dtype: &DataType) -> Schema {
    match dtype {
        DataType::Struct(fields) => fields.iter().cloned().collect(),
        _ => Schema::default(),
    }
}

impl ColumnsUdf for PythonFunction {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn call_udf(&self, columns: &mut [Column]) -> PolarsResult<Column> {
        let Some(field) = self.field.get() else {
            polars_bail!(ComputeError: "the type of what a Python function returns is not known");
        };
        if let Some(rows) = self.rows_apart(columns) {
            return self.run_apart(columns, rows, field.dtype());
        }
        let out = self.run(&self.payload, columns, Some(field.dtype()))?;
        self.checked(out, field.dtype())
    }
}

impl AnonymousColumnsUdf for PythonFunction {
    fn as_column_udf(self: Arc<Self>) -> Arc<dyn ColumnsUdf> {
        self
    }

    /// Each occurrence in a plan infers its own type.
    fn deep_clone(self: Arc<Self>) -> Arc<dyn AnonymousColumnsUdf> {
        Arc::new(Self { field: OnceLock::new(), ..self.bound(&self.task) })
    }

    fn try_serialize(&self, out: &mut Vec<u8>) -> PolarsResult<()> {
        Packed { payload: self.payload.clone(), field: self.field.get().cloned(), number: None }.write(out)
    }

    fn get_field(&self, schema: &Schema, fields: &[Field]) -> PolarsResult<Field> {
        if let Some(field) = self.field.get() {
            return Ok(field.clone());
        }
        let dtype = match self.payload.declared(schema, fields)? {
            Some(dtype) => dtype,
            None if self.payload.groups.is_some() => {
                let (one, fields) = (self.payload.of_one_group(), self.payload.fields_of_one_group(fields));
                let given = try_infer_udf_output_dtype(&|columns| self.run(&one, columns, None), &fields)?;
                self.payload.of_all_groups(given)
            }
            None => try_infer_udf_output_dtype(&|columns| self.run(&self.payload, columns, None), fields)?,
        };
        let name = fields.first().map_or(PlSmallStr::EMPTY, |field| field.name().clone());
        Ok(self.field.get_or_init(|| Field::new(name, dtype)).clone())
    }
}

/// Replaces the payloads in a fragment that came over the wire by callable functions.
pub fn arm(plan: &mut IRPlan) -> Result<()> {
    for at in 0..plan.expr_arena.len() {
        let AExpr::AnonymousFunction { function, fmt_str, .. } = plan.expr_arena.get_mut(Node(at)) else { continue };
        let LazySerde::Bytes(bytes) = &*function else { continue };
        if let Some(own) = crate::own::read(bytes) {
            *function = own;
            continue;
        }
        let Some(packed) = Packed::read(bytes) else { continue };
        let Packed { payload, field, .. } = packed.map_err(polars_error)?;
        *function =
            LazySerde::Deserialized(SpecialEq::new(Arc::new(PythonFunction::new(payload, field, unbound_task()))));
        **fmt_str = PlSmallStr::from_static(SHOWN);
    }
    Ok(())
}

/// Binds the functions of a plan to this task.
pub fn bind(plan: &mut IRPlan, task: &Task) {
    for at in 0..plan.expr_arena.len() {
        let AExpr::AnonymousFunction { function, fmt_str, .. } = plan.expr_arena.get_mut(Node(at)) else { continue };
        if fmt_str.as_str() != SHOWN {
            continue;
        }
        let LazySerde::Deserialized(held) = &*function else { continue };
        let Some(own) = held.as_any().downcast_ref::<PythonFunction>() else { continue };
        *function = LazySerde::Deserialized(SpecialEq::new(Arc::new(own.bound(task))));
    }
}

/// A task for plans that are inspected, or run outside of any task.
pub fn unbound_task() -> Task {
    Task {
        query: Arc::from(""),
        cancel: Arc::default(),
        keep: Arc::new(|error| polars_err!(ComputeError: "{}: {}", error.class, error.message)),
    }
}
