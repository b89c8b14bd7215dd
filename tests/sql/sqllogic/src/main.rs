//! Runs files of SQL cases by sqllogictest: parsing, sorting and comparing are the library's. What belongs here is the choice of
//! files and ways, and the report; how a query gets to Floe is in `engine.rs`.
//!
//! Ends with 0 if everything is as the files say, 1 if something is not, 2 if the engine cannot be had.

mod engine;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use engine::{Connection, Engine, EngineError};
use sqllogictest::{
    ColumnType, DefaultColumnType, Record, RecordOutput, Runner, TestError, TestErrorKind, parse_file,
    strict_column_validator,
};

/// Runs sqllogictest files on a warm Floe (FLOE_PYTHON and PYTHONPATH say where tests.sql.served is found).
#[derive(Parser)]
struct Args {
    /// How queries run: single-node, distributed, by-hash; each in turn without this option. Files may say `skipif WAY`
    #[arg(long = "way", value_name = "WAY")]
    ways: Vec<String>,
    /// Only queries with this text in them
    #[arg(long, value_name = "TEXT")]
    matching: Option<String>,
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What became of the records that ask something.
#[derive(Default)]
struct Tally {
    asked: usize,
    wrong: usize,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(Tally { asked: 0, wrong: 0 }) => {
            println!("no query was run: the files have none that is meant");
            ExitCode::FAILURE
        }
        Ok(Tally { asked, wrong: 0 }) => {
            println!("all {asked} as expected");
            ExitCode::SUCCESS
        }
        Ok(Tally { asked, wrong }) => {
            println!("{wrong} of {asked} not as expected");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("floe-sqllogic: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<Tally, EngineError> {
    let engine = Engine::start()?;
    let ways = engine.ways(&args.ways)?;
    let engine = Arc::new(Mutex::new(engine));
    let mut tally = Tally::default();
    for way in ways {
        let before = tally.asked;
        for file in &args.files {
            run_file(&Connection::new(&engine, &way), file, args.matching.as_deref(), &mut tally);
            engine.lock().unwrap_or_else(PoisonError::into_inner).check()?;
        }
        println!("{way}: {} run", tally.asked - before);
    }
    Ok(tally)
}

fn run_file(connection: &Connection, file: &Path, matching: Option<&str>, tally: &mut Tally) {
    let records = match parse_file::<DefaultColumnType>(file) {
        Ok(records) => records,
        Err(error) => {
            tally.asked += 1;
            tally.wrong += 1;
            return report(connection.way(), &TestError::from(error));
        }
    };
    let mut runner = Runner::new(|| {
        let connection = connection.clone();
        async move { Ok(connection) }
    });
    runner.with_normalizer(exactly);
    runner.with_column_validator(strict_column_validator);
    for record in records {
        if matches!(record, Record::Halt { .. }) || connection.has_ended() {
            break;
        }
        if matching.is_some_and(|text| !asks(&record, text)) {
            continue;
        }
        match runner.run(record) {
            Ok(RecordOutput::Nothing) => {}
            Ok(_) => tally.asked += 1,
            Err(error) => {
                tally.asked += 1;
                tally.wrong += 1;
                report(connection.way(), &error);
            }
        }
    }
}

/// Whether a record is a query with this text, or none at all: conditions and controls are kept.
fn asks<T: ColumnType>(record: &Record<T>, text: &str) -> bool {
    match record {
        Record::Query { sql, .. } | Record::Statement { sql, .. } => sql.contains(text),
        _ => true,
    }
}

/// Keeps every space of a value. The library joins the values of a row by a space, the files have tabs between them: so a
/// tab is that space, and a space within a value is something else.
#[allow(clippy::ptr_arg)] // the library's type
fn exactly(text: &String) -> String {
    text.replace(' ', "\u{0}").replace('\t', " ")
}

fn report(way: &str, error: &TestError) {
    println!("{} ({way}): {}\n", error.location(), with_spaces(error.kind()));
}

/// The library shows what it got with spaces between columns: what it wanted is shown the same way, or every line would differ.
fn with_spaces(kind: TestErrorKind) -> TestErrorKind {
    match kind {
        TestErrorKind::QueryResultMismatch { sql, expected, actual } => {
            TestErrorKind::QueryResultMismatch { sql, expected: expected.replace('\t', " "), actual }
        }
        other => other,
    }
}
