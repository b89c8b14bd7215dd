//! `floe-runner setup`: creates the Python environment for scripts, SQL and Python functions.

use std::path::PathBuf;
use std::process::ExitCode;

use floe_plan::python::{Choice, NEWEST, Purpose, RELEASES, make};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Install from the wheels in this directory, without a package index
    #[arg(long)]
    pub wheels: Option<PathBuf>,
    /// The release of Polars: that of the clients whose Python functions are called
    #[arg(long, default_value = NEWEST, value_parser = RELEASES)]
    pub polars: String,
    /// Only when no Python fits this purpose.
    #[arg(long, value_enum)]
    pub if_needed_for: Option<For>,
    /// Do not print where the Python is; failures are left to who needs it.
    #[arg(long)]
    pub quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum For {
    Script,
    Sql,
}

pub fn run(args: &Args) -> ExitCode {
    let made = match args.if_needed_for {
        Some(For::Script) => Choice::of_environment().find(Purpose::Script, &mut say),
        Some(For::Sql) => Choice::of_environment().find(Purpose::Sql, &mut say),
        None => make(&args.polars, args.wheels.as_deref(), &mut say),
    };
    match made {
        Ok(python) if !args.quiet => println!("{}", python.display()),
        Ok(_) => {}
        Err(_) if args.quiet => {}
        Err(error) => {
            eprintln!("{}: {}", error.class, error.message);
            return ExitCode::from(error.category.exit_code());
        }
    }
    ExitCode::SUCCESS
}

fn say(line: &str) {
    eprintln!("{line}");
}
