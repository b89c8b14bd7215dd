//! Runs files of SQL cases by sqllogictest: parsing, sorting and comparing are the library's. What belongs here is the choice of
//! files and ways, and the report; how a query gets to Floe is in `engine.rs`.
//!
//! Ends with 0 if everything is as the files say, 1 if something is not or nothing was run, 2 if the engine cannot be had.

mod engine;

use std::path::PathBuf;
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

type Script = Vec<Record<DefaultColumnType>>;

/// What became of the records that ask something.
#[derive(Default)]
struct Tally {
    asked: usize,
    wrong: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Before an engine is started for nothing.
    let scripts = match read(&args.files, args.matching.as_deref()) {
        Ok(scripts) => scripts,
        Err(errors) => {
            errors.iter().for_each(|error| println!("{}: {}", error.location(), error.kind()));
            return ExitCode::FAILURE;
        }
    };
    if !scripts.iter().flatten().any(|record| sql(record).is_some()) {
        println!("no query was run: the files have none that is meant");
        return ExitCode::FAILURE;
    }
    match run(&scripts, &args.ways) {
        Ok(Tally { asked: 0, .. }) => {
            println!("no query was run: the files skip all that is meant");
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

/// The records of each file, of its queries only those that match; or all that is wrong with the files.
fn read(files: &[PathBuf], matching: Option<&str>) -> Result<Vec<Script>, Vec<TestError>> {
    let (mut scripts, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        match parse_file(file) {
            Ok(records) => scripts.push(records),
            Err(error) => errors.push(TestError::from(error)),
        }
    }
    if let Some(text) = matching {
        scripts.iter_mut().for_each(|script: &mut Script| {
            // Conditions and controls are kept.
            script.retain(|record| sql(record).is_none_or(|sql| sql.contains(text)));
        });
    }
    if errors.is_empty() { Ok(scripts) } else { Err(errors) }
}

fn run(scripts: &[Script], ways: &[String]) -> Result<Tally, EngineError> {
    let engine = Engine::start()?;
    let ways = engine.ways(ways)?;
    let engine = Arc::new(Mutex::new(engine));
    let mut tally = Tally::default();
    for way in ways {
        let before = tally.asked;
        for script in scripts {
            run_script(&Connection::new(&engine, &way), script, &mut tally);
            engine.lock().unwrap_or_else(PoisonError::into_inner).check()?;
        }
        println!("{way}: {} run", tally.asked - before);
    }
    Ok(tally)
}

fn run_script(connection: &Connection, script: &[Record<DefaultColumnType>], tally: &mut Tally) {
    let mut runner = Runner::new(|| {
        let connection = connection.clone();
        async move { Ok(connection) }
    });
    runner.with_normalizer(exactly);
    runner.with_column_validator(strict_column_validator);
    for record in script {
        if matches!(record, Record::Halt { .. }) || connection.has_ended() {
            break;
        }
        match runner.run(record.clone()) {
            Ok(RecordOutput::Nothing) => {}
            Ok(_) => tally.asked += 1,
            Err(error) => {
                tally.asked += 1;
                tally.wrong += 1;
                println!("{} ({}): {}\n", error.location(), connection.way(), with_spaces(error.kind()));
            }
        }
    }
}

fn sql<T: ColumnType>(record: &Record<T>) -> Option<&str> {
    match record {
        Record::Query { sql, .. } | Record::Statement { sql, .. } => Some(sql),
        _ => None,
    }
}

/// Keeps every space of a value. The library joins the values of a row by a space, the files have tabs between them: so a
/// tab is that space, and a space within a value is something else.
#[allow(clippy::ptr_arg)] // the library's type
fn exactly(text: &String) -> String {
    text.replace(' ', "\u{0}").replace('\t', " ")
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
