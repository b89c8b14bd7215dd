//! `floe completion` and `floe man`: generated from the command line's definition, so that they are never outdated.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::args::{Args, CompletionArgs, ManArgs};
use crate::error::Failure;
use crate::print;

pub fn completion(args: &CompletionArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "floe", &mut script);
    print::out(String::from_utf8_lossy(&script).trim_end());
    Ok(ExitCode::SUCCESS)
}

pub fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    match &args.directory {
        Some(directory) => pages(directory)
            .map_err(|error| Failure::io(format!("cannot write manual pages into {}", directory.display()), error))?,
        None => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Args::command()).render(&mut page);
            rendered.map_err(|error| Failure::io("cannot write the manual page", error))?;
            print::out(String::from_utf8_lossy(&page).trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes `floe.1`, and `floe-COMMAND.1` for each command.
fn pages(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Args::command(), directory)?;
    print::err(format_args!("manual pages written to {}", directory.display()));
    std::io::stderr().flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_every_command_and_a_script_for_every_shell() {
        let dir = tempfile::tempdir().unwrap();
        pages(dir.path()).unwrap();
        let mut names: Vec<String> =
            Args::command().get_subcommands().map(|c| format!("floe-{}.1", c.get_name())).collect();
        names.push("floe.1".to_owned());
        for name in names {
            let page = std::fs::read_to_string(dir.path().join(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}: {page}");
        }
        use clap::ValueEnum as _;
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "floe", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("doctor") && script.contains("suspend"), "{shell}");
        }
    }
}
