//! Completion for `kubectl floe`: kubectl runs `kubectl_complete-floe`, a link to this program, with the words typed so
//! far. The answer has cobra's format: one proposal per line, then a directive for the shell. Names of queries and
//! contexts come from the cluster.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Command, CommandFactory as _};

use crate::args::Args;
use crate::args::cluster::ClusterArgs;
use crate::cluster::Cluster;
use crate::error::Failure;
use crate::{block_on, print};

/// Timeout for the cluster: somebody waits at a prompt.
const PATIENCE: Duration = Duration::from_secs(3);
/// cobra's directive: propose no files.
const NO_FILES: &str = ":4";
const FILES: &str = ":0";
/// Commands whose arguments are names of queries.
const BY_NAME: [&str; 9] = ["get", "watch", "logs", "result", "explain", "cancel", "suspend", "resume", "delete"];

pub fn run(words: &[OsString]) -> ExitCode {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut command = Args::command();
    command.build();
    let proposals = match propose(&command, &words) {
        Proposals::Words(proposals) => {
            proposals.iter().for_each(print::out);
            NO_FILES
        }
        // If the cluster does not answer, propose nothing and print no message: it would disturb the prompt.
        Proposals::Named { kind, from, begin } => {
            names(kind, from).iter().filter(|name| name.starts_with(&begin)).for_each(print::out);
            NO_FILES
        }
        Proposals::Files => FILES,
    };
    print::out(proposals);
    ExitCode::SUCCESS
}

/// The kinds of objects whose names are proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Query,
    Context,
}

#[derive(Debug, PartialEq, Eq)]
enum Proposals {
    Words(Vec<String>),
    Named { kind: Kind, from: Vec<String>, begin: String },
    Files,
}

/// The last word is the one being typed.
fn propose(command: &Command, words: &[String]) -> Proposals {
    let (typed, before) = words.split_last().map_or(("", words), |(last, before)| (last.as_str(), before));
    let Some((name, rest)) = before.split_first() else {
        let names = command.get_subcommands().filter(|one| !one.is_hide_set());
        let fitting = names.filter(|one| one.get_name().starts_with(typed));
        let line = |one: &Command| match one.get_about() {
            Some(about) => format!("{}\t{about}", one.get_name()),
            None => one.get_name().to_owned(),
        };
        return Proposals::Words(fitting.map(line).collect());
    };
    let Some(command) = command.find_subcommand(name) else { return Proposals::Words(Vec::new()) };
    let takes_value =
        rest.last().and_then(|word| option(command, word)).filter(|option| option.get_action().takes_values());
    if let Some(option) = takes_value {
        let values = option.get_possible_values();
        if values.is_empty() {
            return Proposals::Files;
        }
        let names = values.iter().map(|value| value.get_name().to_owned());
        return Proposals::Words(names.filter(|value| value.starts_with(typed)).collect());
    }
    if typed.starts_with('-') {
        let options = command.get_arguments().filter(|one| !one.is_hide_set());
        let fitting = options.filter_map(|one| Some((format!("--{}", one.get_long()?), one)));
        let line = |(name, one): (String, &clap::Arg)| match one.get_help() {
            Some(help) => format!("{name}\t{help}"),
            None => name,
        };
        return Proposals::Words(fitting.filter(|(name, _)| name.starts_with(typed)).map(line).collect());
    }
    let named = |kind| Proposals::Named { kind, from: rest.to_vec(), begin: typed.to_owned() };
    match command.get_name() {
        "contexts" => named(Kind::Context),
        name if BY_NAME.contains(&name) => named(Kind::Query),
        _ => Proposals::Files,
    }
}

fn option<'a>(command: &'a Command, word: &str) -> Option<&'a clap::Arg> {
    let long = word.strip_prefix("--").filter(|long| !long.is_empty());
    let short =
        word.strip_prefix('-').filter(|short| short.chars().count() == 1).and_then(|short| short.chars().next());
    command.get_arguments().find(|one| match long {
        Some(long) => one.get_long() == Some(long),
        None => short.is_some() && one.get_short() == short,
    })
}

/// Names from the cluster and namespace that the preceding words select.
fn names(kind: Kind, words: Vec<String>) -> Vec<String> {
    let value = |names: &[&str]| {
        let at = words.iter().rposition(|word| names.contains(&word.as_str()))?;
        words.get(at + 1).cloned()
    };
    let args = ClusterArgs {
        namespace: value(&["-n", "--namespace"]),
        context: value(&["--context"]),
        kubeconfig: value(&["--kubeconfig"]).map(Into::into),
    };
    let mut found = Vec::new();
    let asked = block_on(async {
        let list = async {
            let cluster = Cluster::connect(&args).await?;
            match kind {
                Kind::Query => cluster.list(false, None).await,
                Kind::Context => cluster.list_contexts(false, None).await,
            }
        };
        if let Ok(listed) = tokio::time::timeout(PATIENCE, list).await {
            found = listed?.into_iter().filter_map(|object| object.metadata.name).collect();
        }
        Ok::<_, Failure>(ExitCode::SUCCESS)
    });
    if asked.is_ok() { found } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposed(line: &[&str]) -> Proposals {
        let mut command = Args::command();
        command.build();
        propose(&command, &line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    fn words(line: &[&str]) -> Vec<String> {
        match proposed(line) {
            Proposals::Words(words) => words.iter().map(|word| word.split('\t').next().unwrap().to_owned()).collect(),
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn commands_options_and_values_are_proposed() {
        assert_eq!(words(&["su"]), ["submit", "suspend"]);
        assert!(words(&[""]).contains(&"doctor".to_owned()));
        assert!(words(&["logs", "q", "--st"]).contains(&"--stage".to_owned()));
        assert_eq!(words(&["get", "-o", "w"]), ["wide"]);
        assert_eq!(words(&["get", "--output", "y"]), ["yaml"]);
        assert_eq!(words(&["nonsense", ""]), [""; 0]);
    }

    #[test]
    fn names_of_queries_and_files_come_from_elsewhere() {
        let line = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            proposed(&["watch", "-n", "a", "q"]),
            Proposals::Named { kind: Kind::Query, from: line(&["-n", "a"]), begin: "q".to_owned() }
        );
        assert_eq!(
            proposed(&["contexts", "w"]),
            Proposals::Named { kind: Kind::Context, from: Vec::new(), begin: "w".to_owned() }
        );
        assert_eq!(proposed(&["submit", ""]), Proposals::Files);
        assert_eq!(proposed(&["result", "q", "--out", ""]), Proposals::Files);
    }
}
