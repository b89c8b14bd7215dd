//! `floe-runner verify`: runs every plan on one node and distributed, and reports what differs. Users check their own
//! queries with it before they trust a cluster with them; the differential tests are built on it.
//!
//! Layers, each of which knows only those before it: `compare` (two results), `promise` and `perturb` (what a plan
//! leaves open), `oracle` (single-node Polars) and `wheel` (Polars of the plan's client), `judge` and `versions` (one
//! plan), `expect` (known faults), `generate` (random plans), `shrink` (a smaller plan that differs the same way),
//! `report`. This file reads the inputs and keeps several plans in flight.

mod again;
mod class;
pub mod compare;
mod engine;
mod expect;
mod generate;
mod judge;
mod mended;
mod oracle;
mod perturb;
mod promise;
mod report;
mod shrink;
mod side;
mod sinks;
mod staged;
mod versions;
mod wheel;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use polars_plan::dsl::DslPlan;

use self::expect::Expected;
use self::judge::{Checked, Judge, Side};
use self::report::Report;
use self::wheel::Wheels;
use floe_wire::error::QueryError;

/// Check plans: single-node Polars against the distributed engine.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Serialized plans (`LazyFrame.serialize()`), query objects (`.yaml`), or directories of them
    pub paths: Vec<PathBuf>,
    /// Worker processes that stay up for the whole run
    #[arg(long, default_value_t = 3)]
    pub workers: usize,
    /// How the other side executes: distributed (every plan in stages), auto, single-node
    #[arg(long, default_value = "distributed")]
    pub mode: String,
    /// `spec.execution` of every query as JSON, such as '{"broadcastLimit": "0", "partitionsPerWorker": 2}'
    #[arg(long)]
    pub execution: Option<String>,
    /// Write the whole report as JSON to this file, `-` for the standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Check at most this many plans
    #[arg(long)]
    pub limit: Option<usize>,
    /// Plans in flight at once [default: twice the cores, at most 8]
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Check this many random plans over random frames
    #[arg(long, default_value_t = 0)]
    pub random: usize,
    /// Seed of the random plans [default: from the clock, and printed]
    #[arg(long)]
    pub seed: Option<u64>,
    /// First index of the random plans: `--seed S --from 17 --random 1` makes plan 17 of seed S again
    #[arg(long, default_value_t = 0)]
    pub from: usize,
    /// Only plans whose file name contains this
    #[arg(long)]
    pub filter: Option<String>,
    /// Go on after faults (the default)
    #[arg(long, overrides_with = "fail_fast")]
    pub keep_going: bool,
    /// Stop at the first fault
    #[arg(long)]
    pub fail_fast: bool,
    /// Seconds that one plan may take on either side
    #[arg(long, default_value_t = 60)]
    pub timeout: u64,
    /// Compare Polars' streaming engine with its in-memory engine instead: what the oracles disagree on
    #[arg(long)]
    pub oracles: bool,
    /// What a result should be: `rust`, what the engine's own Polars gives on one node; `python`, what a wheel of the
    /// plan's own version of Polars gives as well. Wheels unpickle what a plan holds: for plans that you trust
    #[arg(long, value_enum, default_value_t = Oracle::Rust)]
    pub oracle: Oracle,
    /// The version whose wheel takes plans that no client wrote: random ones, and those of scripts
    #[arg(long, value_name = "VERSION", default_value = "1.43.2")]
    pub oracle_version: String,
    /// Interpreters for `--oracle python` other than those of tests/wheels: VERSION=PATH, once for each version
    #[arg(long, value_name = "VERSION=PATH")]
    pub python: Vec<String>,
    /// Accept a fall-back (the result of a second run on one node after the stages failed) as equal
    #[arg(long)]
    pub allow_fall_back: bool,
    /// A file of known fall-backs and differences between versions, which are no faults then, and of floors
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Which floor of that file the shares of distributed plans are held against
    #[arg(long, value_name = "NAME", requires = "expect")]
    pub floor: Option<String>,
    /// Run the stages in this process, without workers: what differs then is the planner's doing
    #[arg(long)]
    pub in_process: bool,
    /// Write plans with faults, and a shrunk form of each, to this directory
    #[arg(long)]
    pub shrink: Option<PathBuf>,
    /// How many faults to print
    #[arg(long, default_value_t = 40)]
    pub show: usize,
}

/// What results are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Oracle {
    Rust,
    Python,
}

/// One thing to check.
#[derive(Clone, Debug)]
enum Item {
    File(PathBuf),
    Random(usize),
}

/// Runs the command and prints its errors: exit code 2 for a call that cannot be carried out.
pub fn main(args: &Args) -> ExitCode {
    run(args).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

/// Runs the command. The exit code is 0 only if nothing differs, 1 if something does.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    quiet_panics();
    let seed = args.seed.unwrap_or_else(seed_from_clock);
    let items = items(args)?;
    anyhow::ensure!(!items.is_empty(), "nothing to check: give files, directories or --random N");
    if args.random > 0 {
        eprintln!("seed {seed}");
    }
    let expected = args.expect.as_deref().map(Expected::read).transpose()?.unwrap_or_default();
    let floor = args.floor.as_ref().map(|name| expected.floor(name)).transpose()?;
    let scratch = tempfile::tempdir().context("no directory for generated files")?;
    // Plans that are kept must find the files that they scan.
    let files = args.shrink.as_ref().map_or_else(|| scratch.path().to_path_buf(), |dir| dir.join("files"));
    let limit = Duration::from_secs(args.timeout);
    let wheels = match args.oracle {
        Oracle::Rust => None,
        Oracle::Python => Some(wheels(args, &items)?),
    };
    let side: Box<dyn Side> = if args.oracles {
        Box::new(side::InMemory { limit })
    } else if args.in_process {
        Box::new(staged::Staged { options: side::planner_options(args)?, limit })
    } else {
        side::distributed(args, limit)?
    };
    let run = Run {
        seed,
        files,
        judge: Judge { side: side.as_ref(), wheels: wheels.as_ref(), limit },
        expected,
        allow_fall_back: args.allow_fall_back,
    };
    let started = Instant::now();
    let checked = run.check_all(&items, args);
    let report = Report::new(checked, started.elapsed(), (args.random > 0).then_some(seed)).with_floor(floor);
    match &args.json {
        Some(path) if path.as_os_str() == "-" => println!("{}", serde_json::to_string_pretty(&report)?),
        Some(path) => {
            std::fs::write(path, serde_json::to_vec_pretty(&report)?)
                .with_context(|| format!("writing {}", path.display()))?;
            print!("{}", report.text(args.show));
        }
        None => print!("{}", report.text(args.show)),
    }
    if let Some(dir) = &args.shrink {
        run.shrink_faults(&report, &items, args.show, dir)?;
    }
    Ok(if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts the wheels of the versions that wrote the plans.
fn wheels(args: &Args, items: &[Item]) -> anyhow::Result<Wheels> {
    let wheels = Wheels::new(&args.oracle_version, &args.python)?;
    let client = |item: &Item| match item {
        Item::File(path) if side::is_query(path) => Some(wheels.default),
        Item::File(path) => wheels.client(&std::fs::read(path).ok()?),
        Item::Random(_) => Some(wheels.default),
    };
    wheels.prepare(items.iter().filter_map(client).collect())?;
    Ok(wheels)
}

/// What plans are made, run and judged with.
struct Run<'a> {
    seed: u64,
    /// Where the files of random plans go.
    files: PathBuf,
    judge: Judge<'a>,
    expected: Expected,
    allow_fall_back: bool,
}

impl Run<'_> {
    /// Checks all items with several in flight. The order of the results does not matter: the report sorts them.
    fn check_all(&self, items: &[Item], args: &Args) -> Vec<Checked> {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let jobs = args.jobs.unwrap_or((2 * cores).min(8)).clamp(1, 64);
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let done = Mutex::new(Vec::with_capacity(items.len()));
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                        let one = self.check(item);
                        if one.is_fault() && args.fail_fast && !args.keep_going {
                            stop.store(true, Ordering::Relaxed);
                        }
                        done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(one);
                    }
                });
            }
        });
        done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn check(&self, item: &Item) -> Checked {
        let (name, bytes) = self.read(item);
        match bytes.and_then(|bytes| decode(&bytes).map(|plan| (bytes.clone(), plan)).map_err(|e| (bytes, e))) {
            Ok((bytes, plan)) => {
                let mut checked = self.judge.check(&name, &bytes, &plan);
                if checked.outcome.is_fault() {
                    self.expected.excuse(&mut checked, &text_of(&plan));
                }
                if self.allow_fall_back && checked.outcome == class::Class::FellBack {
                    checked.expected.get_or_insert_with(|| "allowed".into());
                }
                checked
            }
            Err((bytes, e)) => judge::unreadable(&name, &e, self.judge.side.run(&name, &bytes, &DslPlan::default())),
        }
    }

    fn read(&self, item: &Item) -> (String, Result<Vec<u8>, Unreadable>) {
        match item {
            Item::File(path) => {
                let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
                let bytes = side::plan_bytes(path).map_err(|e| (Vec::new(), e));
                (name, bytes)
            }
            Item::Random(index) => {
                let name = format!("random-{}-{index}", self.seed);
                let bytes = generate::plan_bytes(self.seed, *index as u64, &self.files.join(index.to_string()))
                    .map_err(|e| (Vec::new(), QueryError::internal(format!("generator: {e}"))));
                (name, bytes)
            }
        }
    }

    /// Writes each faulty plan, expected or not, and the smallest plan found that has the same fault.
    fn shrink_faults(&self, report: &Report, items: &[Item], most: usize, dir: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(dir)?;
        let faults: Vec<&Checked> = report.checked.iter().filter(|c| c.outcome.is_fault()).take(most).collect();
        for item in items {
            let (name, bytes) = self.read(item);
            let Some(fault) = faults.iter().find(|c| c.plan == name) else { continue };
            let Ok(bytes) = bytes else { continue };
            let stem = name.trim_end_matches(".bin");
            std::fs::write(dir.join(format!("{stem}.bin")), &bytes)?;
            let Ok(plan) = decode(&bytes) else { continue };
            let small = shrink::shrink(&plan, fault.outcome, &self.judge);
            std::fs::write(dir.join(format!("{stem}.small.bin")), shrink::bytes(&small.plan)?)?;
            std::fs::write(dir.join(format!("{stem}.txt")), small.text)?;
        }
        Ok(())
    }
}

type Unreadable = (Vec<u8>, QueryError);

/// Decodes a plan; contains whatever the decoder throws.
fn decode(bytes: &[u8]) -> Result<DslPlan, QueryError> {
    let decoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| side::loaded(bytes)));
    match decoded {
        Ok(Ok(loaded)) => Ok(loaded.plan),
        Ok(Err(e)) => Err(e),
        Err(payload) => Err(oracle::panic_error(payload.as_ref())),
    }
}

/// A plan's text, by which the table of expected faults recognises it.
fn text_of(plan: &DslPlan) -> String {
    let text = || plan.describe().unwrap_or_else(|e| e.to_string());
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(text)).unwrap_or_default()
}

/// Files in the order of their names, directories walked, then the random plans.
fn items(args: &Args) -> anyhow::Result<Vec<Item>> {
    let mut files = Vec::new();
    for path in &args.paths {
        collect(path, &mut files, true).with_context(|| path.display().to_string())?;
    }
    let mut items: Vec<Item> = files
        .into_iter()
        .filter(|p| args.filter.as_ref().is_none_or(|f| p.to_string_lossy().contains(f.as_str())))
        .map(Item::File)
        .chain((args.from..args.from + args.random).map(Item::Random))
        .collect();
    items.truncate(args.limit.unwrap_or(usize::MAX));
    Ok(items)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>, named: bool) -> anyhow::Result<()> {
    if path.is_dir() {
        let mut inside: Vec<PathBuf> =
            std::fs::read_dir(path)?.map(|e| e.map(|e| e.path())).collect::<Result<_, std::io::Error>>()?;
        inside.sort();
        return inside.iter().try_for_each(|p| collect(p, files, false));
    }
    anyhow::ensure!(path.exists(), "no such file");
    let known = path.extension().is_some_and(|e| ["bin", "yaml", "yml"].iter().any(|k| e == *k));
    if named || known {
        files.push(path.to_path_buf());
    }
    Ok(())
}

fn seed_from_clock() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |d| d.as_secs() ^ u64::from(d.subsec_nanos()))
}

/// Plans that panic are part of the work: their panics become outcomes and are not printed, unless asked for. Polars'
/// warnings would be printed once for each of thousands of plans.
fn quiet_panics() {
    if std::env::var_os("FLOE_VERIFY_PANICS").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    polars_error::set_warning_function(|_, _| {});
}
