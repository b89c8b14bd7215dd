//! Runs one plan on one node and on the other side, and classifies the result. A difference counts only where
//! single-node Polars itself promises something: before one is reported, the in-memory engine is asked too, and the
//! plan is run again with everything that it leaves to chance changed (`perturb`).

use std::time::Duration;

use polars::prelude::{DataFrame, LazyFrame};
use polars_plan::dsl::DslPlan;
use serde::Serialize;

use super::again::Again;
pub use super::class::Class;
use super::compare::{self, Order, Verdict, compare_all};
use super::oracle::{self, Outcome, With, same_error};
use super::wheel::{self, Wheels};
use super::{promise, sinks, versions};
use floe_plan::Client;
use floe_wire::error::QueryError;
use floe_wire::graph::SingleWorker;

/// What the other side reports of its run.
#[derive(Debug)]
pub struct Ran {
    pub outcome: Outcome,
    pub stages: usize,
    pub tasks: usize,
    pub single_worker: Vec<SingleWorker>,
    /// Why the stages were given up and the result comes from one node, if so.
    pub fell_back: Option<String>,
    pub elapsed: Duration,
}

/// Runs plans to be compared with single-node Polars: the distributed engine, or another oracle.
pub trait Side: Send + Sync {
    /// `plan` is what `bytes` decode to; a side takes what it needs.
    fn run(&self, name: &str, bytes: &[u8], plan: &DslPlan) -> Ran;

    /// Whether this side is Polars' in-memory engine itself, which then cannot excuse its own results.
    fn is_in_memory_engine(&self) -> bool {
        false
    }
}

/// The judgement on one plan.
#[derive(Debug, Serialize)]
pub struct Checked {
    pub plan: String,
    pub outcome: Class,
    /// The first difference, or the errors, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How the judgement was reached, if it took more than one comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The version of Polars whose wheel was asked, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'static str>,
    /// The reason, if the outcome is a fault that was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    pub stages: usize,
    pub tasks: usize,
    pub single_worker: Vec<SingleWorker>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fell_back: Option<String>,
    pub polars_ms: f64,
    pub floe_ms: f64,
    pub rows: Option<usize>,
}

impl Checked {
    pub fn is_fault(&self) -> bool {
        self.outcome.is_fault() && self.expected.is_none()
    }
}

/// Runs plans on both sides and compares the results.
pub struct Judge<'a> {
    pub side: &'a dyn Side,
    /// The clients' own versions of Polars, to be asked, too.
    pub wheels: Option<&'a Wheels>,
    /// Time limit of one run.
    pub limit: Duration,
}

impl Judge<'_> {
    /// Runs and judges one plan. `bytes` are those of its client.
    pub fn check(&self, name: &str, bytes: &[u8], plan: &DslPlan) -> Checked {
        let (here, here_took) = oracle::run(plan.clone(), With::Streaming, self.limit);
        let there = run_there(name, bytes, plan, self.side);
        let rows = here.as_ref().ok().map(|frames| frames.iter().map(DataFrame::height).sum());
        let mut judged = judge(plan, &here, &there.outcome, !self.side.is_in_memory_engine(), self.limit);
        let version = self.wheels.and_then(|wheels| wheels.client(bytes));
        if let (Some(wheels), Some(client), false) = (self.wheels, version, judged.class.is_fault()) {
            let wheel = |with| run_wheel(wheels, client, bytes, plan, with, self.limit);
            let beside = versions::judge(plan, &here, &there.outcome, &wheel, self.limit);
            if beside.class == Class::VersionDiffers {
                judged = beside;
            }
        }
        // A right result does not excuse stages that failed.
        if let (Some(why), false) = (&there.fell_back, judged.class.is_fault() && judged.class != Class::VersionDiffers)
        {
            judged = Judged { class: Class::FellBack, detail: Some(super::words::short(why)), note: judged.note };
        }
        Checked {
            plan: name.to_string(),
            outcome: judged.class,
            detail: judged.detail,
            note: judged.note,
            version: version.map(wheel::release),
            expected: None,
            stages: there.stages,
            tasks: there.tasks,
            single_worker: there.single_worker,
            fell_back: there.fell_back,
            polars_ms: here_took.as_secs_f64() * 1e3,
            floe_ms: there.elapsed.as_secs_f64() * 1e3,
            rows,
        }
    }
}

/// Runs a plan with the wheel of its client; the files that it writes are its result.
fn run_wheel(
    wheels: &Wheels,
    client: Client,
    bytes: &[u8],
    plan: &DslPlan,
    with: wheel::With,
    limit: Duration,
) -> Outcome {
    let redirected = match sinks::redirect(plan) {
        None => return wheels.run(client, bytes, with, limit),
        Some(redirected) => redirected?,
    };
    let bytes = super::shrink::bytes(&redirected.plan).map_err(floe_polars::polars_error)?;
    wheels.run(client, &bytes, with, limit)?;
    redirected.read()
}

/// Runs a plan on the other side; the files that it writes are its result.
fn run_there(name: &str, bytes: &[u8], plan: &DslPlan, side: &dyn Side) -> Ran {
    let failed = |e: QueryError| Ran {
        outcome: Err(e),
        stages: 0,
        tasks: 0,
        single_worker: Vec::new(),
        fell_back: None,
        elapsed: Duration::ZERO,
    };
    let redirected = match sinks::redirect(plan) {
        None => return side.run(name, bytes, plan),
        Some(Err(e)) => return failed(e),
        Some(Ok(redirected)) => redirected,
    };
    match super::shrink::bytes(&redirected.plan) {
        Err(e) => failed(floe_polars::polars_error(e)),
        Ok(bytes) => {
            let mut ran = side.run(name, &bytes, &redirected.plan);
            ran.outcome = ran.outcome.and_then(|_| redirected.read());
            ran
        }
    }
}

/// Judges a plan that single-node Polars cannot even read, by what the other side says about it.
pub fn unreadable(name: &str, here: &QueryError, there: Ran) -> Checked {
    let (outcome, detail) = match &there.outcome {
        Err(e) if same_error(here, e) => (Class::CouldNotBeRead, describe(here)),
        Err(e) => (Class::FailedDifferently, format!("{} in Polars; {} in Floe", describe(here), describe(e))),
        Ok(_) => (Class::FailedInPolarsOnly, describe(here)),
    };
    Checked {
        plan: name.to_string(),
        outcome,
        detail: Some(detail),
        note: None,
        version: None,
        expected: None,
        stages: there.stages,
        tasks: there.tasks,
        single_worker: there.single_worker,
        fell_back: there.fell_back,
        polars_ms: 0.0,
        floe_ms: there.elapsed.as_secs_f64() * 1e3,
        rows: None,
    }
}

pub(super) struct Judged {
    pub class: Class,
    pub detail: Option<String>,
    pub note: Option<String>,
}

impl Judged {
    pub fn new(class: Class) -> Judged {
        Judged { class, detail: None, note: None }
    }
    pub fn detail(mut self, text: impl Into<String>) -> Judged {
        self.detail = Some(text.into());
        self
    }
    fn not_promised(mut self, why: &str) -> Judged {
        self.class = Class::NotPromised;
        self.note(why)
    }
    pub fn note(mut self, text: impl Into<String>) -> Judged {
        self.note = Some(text.into());
        self
    }
}

/// How often to ask for more runs before a difference is called a fault.
const EXTRA_RUNS: usize = 7;

fn judge(plan: &DslPlan, here: &Outcome, there: &Outcome, ask_in_memory: bool, limit: Duration) -> Judged {
    // Cheap checks first: most plans come out equal row by row, and nothing else has to be run.
    let at_once = match (here, there) {
        (Ok(l), Ok(r)) => match safely(l, r, &Order::Exact) {
            Verdict::Equal => return Judged::new(Class::Equal),
            verdict => Some(verdict),
        },
        (Err(l), Err(r)) if same_error(l, r) => return Judged::new(Class::FailedAlike).detail(describe(l)),
        _ => None,
    };
    let order = promise::of_plan(plan.clone());
    if let (Some(_), Ok(l), Ok(r)) = (&at_once, here, there)
        && safely(l, r, &order).is_equal()
    {
        return Judged::new(Class::Equal);
    }
    let mut again = Again::ask(plan, here, ask_in_memory, limit);
    let mut judged = reconsider(plan, here, there, &order, &again, limit);
    for round in 0..EXTRA_RUNS {
        // A few rows can agree by chance: stability shows only over more runs, and over many where some values vary.
        let varies = || here.as_ref().is_ok_and(|frames| round == 0 || again.unstable(frames).is_some());
        if !judged.class.is_fault() || !varies() {
            break;
        }
        again.ask_more(plan, limit);
        judged = reconsider(plan, here, there, &order, &again, limit);
    }
    judged
}

/// Judges again in the light of the further runs.
fn reconsider(
    plan: &DslPlan,
    here: &Outcome,
    there: &Outcome,
    order: &Order,
    again: &Again,
    limit: Duration,
) -> Judged {
    if let Some(note) = again.excuses(order, there) {
        return match there {
            Ok(_) => Judged::new(Class::Equal).note(note),
            Err(e) => Judged::new(Class::FailedAlike).detail(describe(e)).note(note),
        };
    }
    match (here, there) {
        (Ok(l), Ok(r)) => {
            let judged = beyond_promise(plan, l, r, differing(l, l, r, order, again));
            match judged.class {
                Class::NotPromised => foreign_rows(plan, r, limit).unwrap_or(judged),
                _ => judged,
            }
        }
        (Err(l), Ok(_)) => or_unstable(again, Class::FailedInPolarsOnly, describe(l)),
        (Ok(_), Err(r)) => or_unstable(again, Class::FailedInFloeOnly, describe(r)),
        // Messages count values ("10 out of 88"), and Polars itself counts per morsel.
        (Err(l), Err(r)) if l.class == r.class && again.other_message(l) => {
            Judged::new(Class::FailedAlike).detail(describe(l)).note("the message varies on one node, too")
        }
        (Err(l), Err(r)) if l.class == r.class && oracle::uncounted(&l.message) == oracle::uncounted(&r.message) => {
            Judged::new(Class::FailedAlike).detail(describe(l)).note("the message counts the values of a part")
        }
        (Err(l), Err(r)) => {
            or_unstable(again, Class::FailedDifferently, format!("{} in Polars; {} in Floe", describe(l), describe(r)))
        }
    }
}

/// The same judgement, unless values of this kind of plan are not promised although no further run shows it.
pub(super) fn beyond_promise(plan: &DslPlan, here: &[DataFrame], there: &[DataFrame], judged: Judged) -> Judged {
    if judged.class != Class::Differs {
        judged
    } else if promise::has_numbers_of_a_process(plan.clone()) {
        judged.not_promised("each process numbers categories for itself")
    } else if same_columns(here, there) {
        match promise::cut_of(plan.clone()) {
            promise::Cut::AtTop if !same_heights(here, there) => judged,
            promise::Cut::AtTop | promise::Cut::Below => {
                judged.not_promised("a slice cuts rows whose order is not promised")
            }
            promise::Cut::None => judged,
        }
    } else {
        let breaks = "single-node Polars breaks the plan's own schema here";
        match as_declared(plan, here, there) {
            Some(Verdict::Differs(text)) => judged.detail(text).note(breaks),
            Some(Verdict::Equal | Verdict::OrderDiffers(_)) => judged.not_promised(breaks),
            None => judged,
        }
    }
}

/// Compares what single-node Polars does give as declared, where it gives other columns than the plan declares, and Floe
/// those: Polars' windows over no rows lack their boundaries.
fn as_declared(plan: &DslPlan, here: &[DataFrame], there: &[DataFrame]) -> Option<Verdict> {
    let declared = LazyFrame::from(plan.clone()).collect_schema().ok()?;
    let ([l], [r]) = (here, there) else { return None };
    if **l.schema() == *declared || **r.schema() != *declared {
        return None;
    }
    if l.height() != r.height() {
        return Some(Verdict::Differs(format!("{} rows in Polars, {} in Floe", l.height(), r.height())));
    }
    let given = l.columns().iter().filter(|column| declared.get(column.name()) == Some(column.dtype()));
    let names: Vec<_> = given.map(|column| column.name().clone()).collect();
    let (l, r) = (l.select(names.clone()).ok()?, r.select(names).ok()?);
    Some(safely(&[l], &[r], &Order::Any))
}

/// Whichever rows a slice takes, they are rows of what it cuts: judges a plan that ends with slices by that.
fn foreign_rows(plan: &DslPlan, there: &[DataFrame], limit: Duration) -> Option<Judged> {
    let uncut = promise::without_slices(plan).filter(|_| promise::cut_of(plan.clone()) == promise::Cut::AtTop)?;
    let cut = oracle::run(uncut.clone(), With::Streaming, limit).0;
    let (Ok(all), [rows]) = (&cut, there) else { return None };
    let foreign = compare::foreign_row(all.first()?, rows)?;
    // Not if those rows are others in each run, too.
    if Again::ask(uncut, &cut, true, limit).unstable(all).is_some() {
        return None;
    }
    Some(Judged::new(Class::Differs).detail(format!("{foreign}, which is none of the rows that the slice cuts")))
}

/// Two results differ where the plan's shape promises equality: is the plan stable under perturbation? `base` is the
/// result of the run that the further runs repeat.
pub(super) fn differing(
    base: &[DataFrame],
    here: &[DataFrame],
    there: &[DataFrame],
    order: &Order,
    again: &Again,
) -> Judged {
    match safely(here, there, order) {
        Verdict::Equal => Judged::new(Class::Equal),
        Verdict::OrderDiffers(text) => {
            // If a perturbed run of single-node Polars orders the rows differently, the order is not promised.
            match again.moves_order(base, order) {
                Some(name) => Judged::new(Class::Equal).note(format!("the order of rows is not promised ({name})")),
                None => Judged::new(Class::OrderDiffers).detail(text),
            }
        }
        Verdict::Differs(text) => {
            let Some(unstable) = again.unstable(base) else { return Judged::new(Class::Differs).detail(text) };
            // Lists gathered from unordered rows: their elements come in any order.
            let inner = again.runs.iter().filter_map(|(_, run)| run.as_ref().ok()).all(|run| loosely(base, run));
            if inner && loosely(here, there) {
                return Judged::new(Class::Equal).note(format!("the order inside lists is not promised ({unstable})"));
            }
            // What is the same in every run of Polars must be the same there.
            match stable_difference(base, here, there, again) {
                Some(stable) => {
                    Judged::new(Class::Differs).detail(stable).note(format!("other values vary ({unstable})"))
                }
                None => Judged::new(Class::NotPromised).detail(text).note(format!("values vary ({unstable})")),
            }
        }
    }
}

/// A difference in what all runs of single-node Polars agree on: schema, height, and columns as sets.
fn stable_difference(base: &[DataFrame], here: &[DataFrame], there: &[DataFrame], again: &Again) -> Option<String> {
    let others: Vec<&Vec<DataFrame>> = again.runs.iter().filter_map(|(_, o)| o.as_ref().ok()).collect();
    if here.len() != there.len() || base.len() != here.len() {
        return Some(format!("{} results in Polars, {} in Floe", here.len(), there.len()));
    }
    for (i, ((l, r), base)) in here.iter().zip(there).zip(base).enumerate() {
        if let Some(text) = compare::schema_difference(l, r) {
            return Some(text);
        }
        let same_height = others.iter().all(|o| o.get(i).is_some_and(|f| f.height() == base.height()));
        if !same_height {
            continue;
        }
        if l.height() != r.height() {
            return Some(format!("{} rows in Polars (in every run), {} in Floe", l.height(), r.height()));
        }
        let mut stable = base.get_column_names_owned();
        for other in others.iter().filter_map(|o| o.get(i)) {
            let agreeing = compare::agreeing_columns(base, other);
            stable.retain(|name| agreeing.contains(name));
        }
        let agreeing = compare::agreeing_columns(l, r);
        if let Some(name) = stable.iter().find(|name| !agreeing.contains(name)) {
            let (Ok(a), Ok(b)) = (l.select([name.clone()]), r.select([name.clone()])) else { continue };
            if let Verdict::Differs(text) = compare::compare(&a, &b, &Order::Any) {
                return Some(format!("column `{name}`, the same in every run of Polars: {text}"));
            }
        }
    }
    None
}

/// Whether there are as many results with the same columns: then only rows and values can differ.
fn same_columns(here: &[DataFrame], there: &[DataFrame]) -> bool {
    here.len() == there.len() && here.iter().zip(there).all(|(l, r)| compare::schema_difference(l, r).is_none())
}

fn same_heights(here: &[DataFrame], there: &[DataFrame]) -> bool {
    here.iter().map(DataFrame::height).eq(there.iter().map(DataFrame::height))
}

/// For outcomes with an error in them: single-node Polars may disagree with itself on whether and how it fails.
fn or_unstable(again: &Again, class: Class, detail: String) -> Judged {
    match again.disagreeing() {
        Some(name) if again.no_verdict() => Judged::new(Class::NotPromised)
            .detail(detail)
            .note(format!("single-node Polars gives different results itself ({name})")),
        Some(name) => Judged::new(class).detail(detail).note(format!("but see {name}")),
        None => Judged::new(class).detail(detail),
    }
}

/// A comparison whose panic does not end the whole run.
pub(super) fn safely(here: &[DataFrame], there: &[DataFrame], order: &Order) -> Verdict {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| compare_all(here, there, order))).unwrap_or_else(
        |payload| {
            Verdict::Differs(format!("the comparison panicked: {}", oracle::panic_error(payload.as_ref()).message))
        },
    )
}

/// Equal but for the order of rows and of the elements of lists.
fn loosely(here: &[DataFrame], there: &[DataFrame]) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        here.len() == there.len() && here.iter().zip(there).all(|(l, r)| compare::compare_loose(l, r).is_equal())
    }))
    .unwrap_or(false)
}

pub fn describe(e: &QueryError) -> String {
    super::words::short(&format!("{}: {}", e.class, oracle::steady(&e.message).replace('\n', " ")))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
