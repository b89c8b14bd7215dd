//! `floe-runner`: one binary with several roles. Contains only the command line; each role is a module of the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use floe_runner::coordinator::{args, cli};
use floe_runner::{convert, secrecy, setup, verify, worker};

/// The engine spills by the count of this allocator.
#[global_allocator]
static ALLOC: polars_ooc::Allocator = polars_ooc::Allocator;

#[derive(Parser)]
#[command(name = "floe-runner", version, about = "Floe's engine: runs one Polars query over many workers")]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Run one job: plan it, move its workers through the stages, commit the result
    Coordinator(args::CoordinatorArgs),
    /// Take tasks from a coordinator until it is gone
    Worker(worker::Args),
    /// Show the stages of a job without running it
    Explain(args::ExplainArgs),
    /// List the data files of a delta or iceberg table of a job
    Files(args::FilesArgs),
    /// Remove what a query left behind whose coordinator is gone
    Clean(args::CleanArgs),
    /// Keep a warm engine on this machine that takes jobs over HTTP
    Serve(args::ServeArgs),
    /// Make a table or a file of an Arrow IPC stream on standard input
    Convert(convert::Args),
    /// Make the Python environment that scripts and SQL run in
    Setup(setup::Args),
    /// Check plans: single-node Polars against this engine
    Verify(verify::Args),
}

fn main() -> ExitCode {
    secrecy::hide();
    // Secrets arrive in the environment, and are removed from it.
    // SAFETY: runs first, before any other thread is started.
    #[allow(unsafe_code)]
    let token = unsafe { secrecy::take_variable(c"FLOE_TOKEN") };
    let cli = Cli::parse();
    if let Role::Worker(args) = &cli.role {
        set_defaults(args.environment());
    }
    set_defaults(floe_plan::environment());
    match cli.role {
        Role::Coordinator(args) => cli::coordinator(args, token),
        Role::Worker(args) => worker::run(args, token),
        Role::Clean(args) => cli::clean(args),
        Role::Explain(args) => cli::explain(args),
        Role::Files(args) => cli::files(args),
        Role::Serve(args) => cli::serve(args, token),
        Role::Convert(args) => convert::main(&args),
        Role::Setup(args) => setup::run(&args),
        Role::Verify(args) => verify::main(&args),
    }
}

/// Sets environment variables of Polars and the standard library, unless they are set already.
#[allow(unsafe_code)]
fn set_defaults(defaults: Vec<(&'static str, String)>) {
    for (name, value) in defaults {
        if std::env::var_os(name).is_none() {
            // SAFETY: runs first, before any other thread could read the environment.
            unsafe { std::env::set_var(name, value) };
        }
    }
}
