//! Plans SQL: Polars 2.1 resolves a text in a child process, over frames of nulls with the tables' schemas; the plan is
//! imported (`crossing`), and these frames are replaced by scans. Polars defines what SQL means; Floe's additions are
//! in `statement` and `views`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use floe_api::TableSpec;
use floe_api::job::Job;
use polars_core::prelude::DataFrame;
use polars_lazy::frame::LazyFrame;
use polars_plan::dsl::DslPlan;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::crossing::{self, Crossing, FIRST_TABLE_ROWS, dtype_data};
use crate::python::{Choice, Purpose};
use crate::recursion::Recursion;
use crate::versions::Client;
use crate::{Loaded, StorageOptions, decode_at};
use floe_polars::{on_big_stack, panics_as_polars, polars_error};
use floe_wire::error::{QueryError, Result};

mod child;
mod errors;
mod functions;
pub mod inside;
mod names;
mod report;
mod statement;
mod text;
mod texts;
mod views;
mod written;

use child::Planner;
use errors::{Columns, Known};
use statement::Ask;
use text::Sql;
use texts::Texts;

pub use functions::FUNCTIONS;
pub use report::lines;
pub use written::{Written, placed};

/// Size limit of a text; the limit of the API is lower.
const TEXT_LIMIT_BYTES: usize = 1 << 20;
/// Time limit for starting Python with Polars, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Time limit for resolving the texts of a plan.
const RESOLVE_LIMIT: Duration = Duration::from_secs(30);

/// The time that resolving all texts of one plan may take together.
pub struct Time(Cell<Duration>);

impl Time {
    pub fn of_a_plan() -> Self {
        Time(Cell::new(RESOLVE_LIMIT))
    }

    /// Does something within what is left, and takes its time off that.
    fn spend<T>(&self, work: impl FnOnce(Duration) -> T) -> T {
        let begin = Instant::now();
        let done = work(self.0.get());
        self.0.set(self.0.get().saturating_sub(begin.elapsed()));
        done
    }
}

/// Reads the text of a query, with the limit of its size.
fn tokens(text: &str) -> Result<Sql<'_>> {
    if text.len() > TEXT_LIMIT_BYTES {
        return Err(QueryError::user(
            "QueryTooLarge",
            format!("the SQL text has {} KiB, at most {} KiB are read", text.len() >> 10, TEXT_LIMIT_BYTES >> 10),
        ));
    }
    Sql::read(text).map_err(|fault| errors::at(None, text, "SQLSyntaxError", &fault))
}

pub fn run(text: &str, job: &Job, storage: &StorageOptions, base: &Path, python: &Choice) -> Result<Loaded> {
    let texts = Texts::read(tokens(text)?, &job.spec.views, &job.spec.params)?;
    let tables = job.spec.tables.keys();
    let names: Vec<&str> = tables.chain(job.spec.views.keys()).map(String::as_str).collect();
    let ask = texts.query().ask.clone();
    if ask == Ask::ShowTables {
        let mut names = names;
        names.sort_unstable();
        return Ok(plain(report::names(&names)?));
    }
    let mut sources = Sources::default();
    let used = sources.open(&texts, texts.tables(job), storage, base)?;
    let mut planner = Planner::get(&python.find(Purpose::Sql, &mut |line| tracing::warn!("{line}"))?)?;
    let scans: Scans = answer(&texts, &names, &[], planner.ask(&request(&used, base), START_LIMIT)?)?;
    for (name, scan) in scans.scans {
        sources.add(&name, scan, storage, base).map_err(|error| texts.at_table(&name, error))?;
    }
    let (plan, recursions) = resolved(&texts, &names, planner, &sources, &Time::of_a_plan())?;
    let mut loaded = plain(plan);
    loaded.recursions = recursions;
    loaded.warnings = sources.warnings;
    loaded.renamed = sources.renamed;
    loaded.explain = ask == Ask::Explain;
    loaded.texts = Written::of(&texts);
    Ok(loaded)
}

/// Plans SQL text from a serialized plan, over the plans of its tables and the files that it names. `time` is shared by
/// all texts of the plan.
pub fn over(
    text: &str,
    tables: Vec<(String, LazyFrame)>,
    storage: &StorageOptions,
    base: &Path,
    python: &Choice,
    time: &Time,
) -> Result<Loaded> {
    let (no_views, no_params) = Default::default();
    let texts = Texts::read(tokens(text)?, &no_views, &no_params)?;
    if texts.query().ask != Ask::Query {
        return Err(crate::refuse::sql(Some(text)));
    }
    let mut sources = Sources::default();
    for (name, frame) in tables {
        sources.put(&name, frame)?;
    }
    let owned: Vec<String> = sources.tables.iter().map(|(name, _)| name.clone()).collect();
    let names: Vec<&str> = owned.iter().map(String::as_str).collect();
    let files = sources.open(&texts, texts.files(), storage, base)?;
    let mut planner = Planner::get(&python.find(Purpose::Sql, &mut |line| tracing::warn!("{line}"))?)?;
    let scans: Scans = answer(&texts, &names, &[], planner.ask(&request(&files, base), START_LIMIT)?)?;
    for (name, scan) in scans.scans {
        sources.add(&name, scan, storage, base).map_err(|error| texts.at_table(&name, error))?;
    }
    let (plan, recursions) = resolved(&texts, &names, planner, &sources, time)?;
    Ok(Loaded { recursions, warnings: sources.warnings, renamed: sources.renamed, ..plain(plan) })
}

/// Resolves a text to a plan over its sources.
fn resolved(
    texts: &Texts,
    names: &[&str],
    mut planner: Planner,
    sources: &Sources,
    time: &Time,
) -> Result<(DslPlan, Vec<Recursion>)> {
    let request = json!({
        "query": texts.query().query,
        "views": texts.views(),
        "tables": sources.schemas(),
        "first_rows": FIRST_TABLE_ROWS,
    });
    let resolved = time.spend(|left| planner.ask(&request, left))?;
    planner.give_back();
    let resolved: Resolved = answer(texts, names, &sources.columns(), resolved)?;
    let tables: Vec<&crossing::Table> = sources.tables.iter().map(|(_, table)| table).collect();
    on_big_stack(|| {
        panics_as_polars(|| {
            let (frame, mut recursions) = crossing::build(&resolved.crossing, &tables, &texts.orders())?;
            for recursion in &mut recursions {
                recursion.endless = texts.at_word("RECURSIVE", recursion.endless.clone());
                recursion.large = texts.at_word("RECURSIVE", recursion.large.clone());
            }
            let plan = match texts.query().ask {
                Ask::Query | Ask::Explain | Ask::ShowTables => frame.logical_plan,
                Ask::Describe => report::columns(frame)?,
                Ask::Summarize => report::summary(frame)?,
            };
            Ok((plan, recursions))
        })
    })
    .map_err(|error| errors::refused(texts.all.iter().rev().map(|(sql, _)| sql), error))
}

/// Plans a node of a serialized plan of Polars 2.1, as it was encoded, over the plans of its inputs. For nodes with
/// functions that the engine's decoder does not know.
pub fn newer(
    node: &[u8],
    inputs: Vec<(String, LazyFrame)>,
    client: Client,
    python: &Choice,
    time: &Time,
) -> Result<DslPlan> {
    let mut sources = Sources::default();
    let mut frames = vec![];
    for (at, (name, mut frame)) in inputs.into_iter().enumerate() {
        let schema = on_big_stack(|| panics_as_polars(|| frame.collect_schema().map_err(polars_error)))?;
        frames.push(DataFrame::full_null(&schema, FIRST_TABLE_ROWS + at));
        sources.put(&name, frame)?;
    }
    let document = inside::document(node, frames, client)?;
    let mut planner = Planner::get(&python.find(Purpose::Sql, &mut |line| tracing::warn!("{line}"))?)?;
    let of_polars = |error: Reported| QueryError::user(error.class, error.message);
    checked(planner.ask(&request(&BTreeMap::new(), Path::new("/")), START_LIMIT)?, &of_polars)?;
    let request = json!({"plan": STANDARD.encode(document)});
    let resolved = time.spend(|left| planner.ask(&request, left))?;
    planner.give_back();
    let resolved: Resolved = serde_json::from_value(checked(resolved, &of_polars)?).map_err(unreadable)?;
    let tables: Vec<&crossing::Table> = sources.tables.iter().map(|(_, table)| table).collect();
    on_big_stack(|| panics_as_polars(|| Ok(crossing::build(&resolved.crossing, &tables, &[])?.0.logical_plan)))
}

fn plain(plan: DslPlan) -> Loaded {
    Loaded::of(plan)
}

fn request(tables: &BTreeMap<String, TableSpec>, base: &Path) -> Value {
    let tables = tables.iter().map(|(name, table)| {
        let format = table.resolved_format().map_or("unknown", |format| format.as_str());
        // No storage options: the credentials are added to the scans in this process.
        (name.clone(), json!({"format": format, "uris": [&table.uri], "options": &table.options, "storage": {}}))
    });
    json!({
        "tables": tables.collect::<serde_json::Map<_, _>>(),
        "base": base,
        "memory_bytes": child::MEMORY_BYTES,
    })
}

#[derive(Deserialize)]
struct Reported {
    class: String,
    message: String,
    /// The view whose text has the error; `None` for the query itself.
    #[serde(default)]
    view: Option<String>,
}

#[derive(Deserialize)]
struct Scans {
    scans: BTreeMap<String, Scan>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scan {
    Plan(String),
    Error(Reported),
}

#[derive(Deserialize)]
struct Resolved {
    crossing: Crossing,
}

fn answer<T: for<'a> Deserialize<'a>>(texts: &Texts, tables: &[&str], columns: &[Columns], answer: Value) -> Result<T> {
    let located = |error: Reported| {
        let (sql, statement) = texts.of_view(error.view.as_deref());
        errors::located(sql, statement, &Known { tables, columns }, &error.class, &error.message)
    };
    serde_json::from_value(checked(answer, &located)?).map_err(unreadable)
}

/// The answer, unless it is an error; `of_polars` words those that Polars raised.
fn checked(answer: Value, of_polars: &dyn Fn(Reported) -> QueryError) -> Result<Value> {
    let Some(error) = answer.get("error") else { return Ok(answer) };
    let error: Reported = serde_json::from_value(error.clone()).map_err(unreadable)?;
    Err(match error.class.as_str() {
        "MemoryError" => child::too_much_memory(),
        "QueryTooLarge" => QueryError::user(error.class, error.message),
        "SqlEnvironment" => QueryError::user(
            error.class,
            format!(
                "{}; run `floe setup`, which makes an environment of Floe's own, or name a Python with Polars 2.1 by \
                 FLOE_PYTHON. Serialized plans without SQL need no Python",
                error.message
            ),
        ),
        _ => of_polars(error),
    })
}

fn unreadable(error: serde_json::Error) -> QueryError {
    QueryError::internal(format!("the SQL planner's answer is not readable: {error}"))
}

fn of_table(name: &str, error: QueryError) -> QueryError {
    let name = name.strip_prefix("__floe_file_").map_or(name, |_| "of a file");
    QueryError { message: format!("table {name}: {}", error.message), ..error }
}

/// The tables as plans, in the order of their frames' heights.
#[derive(Default)]
struct Sources {
    tables: Vec<(String, crossing::Table)>,
    warnings: Vec<String>,
    renamed: Vec<(String, String)>,
}

impl Sources {
    /// Opens the tables that no scan of files is, and returns the others.
    fn open(
        &mut self,
        texts: &Texts,
        used: BTreeMap<String, TableSpec>,
        storage: &StorageOptions,
        base: &Path,
    ) -> Result<BTreeMap<String, TableSpec>> {
        let (tables, files): (BTreeMap<_, _>, BTreeMap<_, _>) =
            used.into_iter().partition(|(_, table)| table.resolved_format().is_some_and(crate::is_opened));
        for (name, table) in &tables {
            let frame = crate::open(table, storage, base).and_then(|frame| self.put(name, frame));
            frame.map_err(|error| texts.at_table(name, of_table(name, error)))?;
        }
        Ok(files)
    }

    fn add(&mut self, name: &str, scan: Scan, storage: &StorageOptions, base: &Path) -> Result<()> {
        let what = |error| of_table(name, error);
        let plan = match scan {
            Scan::Error(error) => return Err(what(QueryError::user(error.class, error.message))),
            Scan::Plan(plan) => STANDARD.decode(plan).map_err(|e| QueryError::internal(e.to_string()))?,
        };
        let loaded = decode_at(&plan, storage, Some(base))?;
        self.put(name, LazyFrame::from(loaded.plan))
            .map_err(|error| crate::as_written(error, &loaded.renamed))
            .map_err(what)?;
        self.warnings.extend(loaded.warnings);
        self.renamed.extend(loaded.renamed);
        Ok(())
    }

    fn put(&mut self, name: &str, mut frame: LazyFrame) -> Result<()> {
        let schema = on_big_stack(|| panics_as_polars(|| frame.collect_schema().map_err(polars_error)))?;
        let columns = schema.iter().map(|(name, dtype)| {
            let data = dtype_data(dtype).ok_or_else(|| {
                let message = format!("the column {name} has the type {dtype}, which SQL cannot use");
                QueryError::user("UnsupportedPlan", message)
            })?;
            Ok((name.to_string(), data))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        self.tables.push((name.to_owned(), crossing::Table { frame, columns }));
        Ok(())
    }

    fn columns(&self) -> Vec<Columns> {
        let names = |table: &crossing::Table| table.columns.iter().map(|(name, _)| name.clone()).collect();
        self.tables.iter().map(|(name, table)| (name.clone(), names(table))).collect()
    }

    fn schemas(&self) -> Vec<Value> {
        self.tables.iter().map(|(name, table)| json!([name, table.columns])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_plan_share_their_time() {
        let time = Time(Cell::new(Duration::from_millis(200)));
        let long = Duration::from_millis(120);
        time.spend(|left| {
            assert_eq!(left, Duration::from_millis(200));
            std::thread::sleep(long);
        });
        time.spend(|left| {
            assert!(left <= Duration::from_millis(80));
            std::thread::sleep(long);
        });
        time.spend(|left| assert_eq!(left, Duration::ZERO));
    }
}
