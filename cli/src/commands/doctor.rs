//! `floe doctor`: the cluster, Floe in it and the user's rights, each with what to do. Looks only, unless queries are to be run.

use std::process::ExitCode;

use serde_json::json;

use crate::args::Output;
use crate::args::cluster::DoctorArgs;
use crate::cluster::Cluster;
use crate::doctor::{Check, State, installed, reach, rights, sources, tables, trial};
use crate::error::Failure;
use crate::{block_on, print, query};

/// Exit code when a check failed.
const FAILED: u8 = crate::commands::watch::FAILED;

pub fn run(args: DoctorArgs) -> Result<ExitCode, Failure> {
    let none = crate::args::QueryArgs::default();
    let files = args.files.iter().map(|file| query::load(file, &none)).collect::<Result<Vec<_>, _>>()?;
    block_on(async {
        let cluster = Cluster::connect(&args.cluster).await?;
        let mut told = Told { output: args.output, all: Vec::new() };
        let answers = reach::checks(&cluster).await;
        let is_reached = answers.iter().all(|check| check.state != State::Fail);
        told.tell(answers);
        // Each further check would only fail in the same way.
        if is_reached {
            told.tell(installed::crd(&cluster).await);
            told.tell(rights::checks(&cluster).await);
            told.tell(installed::operator(&cluster).await);
            told.tell(sources::checks(&cluster, &files).await);
            if args.run {
                told.tell(trial::checks(&cluster, args.timeout).await);
                let tried = tables::checks(&cluster, &files, &told.all, args.timeout).await;
                told.tell(tried);
            }
        }
        Ok(told.end())
    })
}

/// Collects the checks, and prints them as they finish.
struct Told {
    output: Output,
    all: Vec<Check>,
}

impl Told {
    fn tell(&mut self, checks: Vec<Check>) {
        if self.output == Output::Table {
            checks.iter().for_each(|check| print::out(check.text()));
        }
        self.all.extend(checks);
    }

    fn end(self) -> ExitCode {
        let failed = self.all.iter().filter(|check| check.state == State::Fail).count();
        if self.output == Output::Json {
            print::out(json!({"ok": failed == 0, "checks": self.all}));
        }
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
    }
}
