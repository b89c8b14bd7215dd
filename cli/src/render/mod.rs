//! Live progress for terminals (`live`), for logs (`plain`) or of a cluster (`cluster`), and the summary at the end.

pub mod cluster;
mod live;
mod plain;
mod summary;

use std::io::IsTerminal as _;

use floe_api::report::{PlanReport, StageProgress, WorkerEvent};

pub use summary::{error_json, print_error, print_outcome};

pub trait Render {
    fn start(&mut self, name: &str, workers: u32);
    fn planned(&mut self, planned: &PlanReport);
    fn stage(&mut self, stage: &StageProgress);
    fn worker(&mut self, worker: &WorkerEvent);
    fn log(&mut self, message: &str);
    /// Removes what is shown only while the query runs.
    fn finish(&mut self);
}

/// The renderer for standard error, where all progress goes.
pub fn for_stderr(quiet: bool) -> Box<dyn Render> {
    if quiet {
        Box::new(Quiet)
    } else if std::io::stderr().is_terminal() {
        Box::new(live::Live::new())
    } else {
        Box::new(plain::Plain::new(std::io::stderr()))
    }
}

/// Prints nothing but the log lines that `--verbose` asks for.
struct Quiet;

impl Render for Quiet {
    fn start(&mut self, _: &str, _: u32) {}
    fn planned(&mut self, _: &PlanReport) {}
    fn stage(&mut self, _: &StageProgress) {}
    fn worker(&mut self, _: &WorkerEvent) {}
    fn log(&mut self, message: &str) {
        crate::print::err(message);
    }
    fn finish(&mut self) {}
}
