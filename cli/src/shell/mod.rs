//! `floe shell`: SQL statements one after another on a warm engine or a warm context, typed at a prompt or read from
//! standard input.
//!
//! `split`, `command`, `complete`, `edit`, `keys` and `catalog` are pure; `session` runs statements on an `engine`,
//! `terminal` reads keys and draws, and `history` stores what was typed.

mod catalog;
mod command;
mod complete;
mod edit;
mod engine;
mod history;
mod keys;
mod local;
mod progress;
mod remote;
mod session;
mod split;
mod terminal;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use floe_api::report::Category;

use self::command::{COMMANDS, Command};
use self::engine::Ended;
use self::session::Session;
use self::terminal::{Terminal, Typed};
use crate::args::ShellArgs;
use crate::error::Failure;
use crate::{human, print};

const PROMPT: &str = "floe> ";
/// Propose the columns of at most this many tables if the text names none.
const MAX_TABLES: usize = 16;
/// Maximum depth of included files, for files that include each other.
const MAX_DEPTH: usize = 16;

pub fn run(args: ShellArgs) -> Result<ExitCode, Failure> {
    let text = args.query.sql.clone();
    let keep_going = args.keep_going;
    let is_typed = text.is_none() && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut shell = Shell { session: Session::new(args)?, keep_going: keep_going || is_typed, code: 0, depth: 0 };
    let done = shell.session.start().and_then(|()| match text {
        Some(text) => shell.input(crate::query::sql_text(&text)?.as_bytes()).map(drop),
        None if is_typed => shell.prompt(),
        None => shell.input(std::io::stdin().lock()).map(drop),
    });
    shell.session.close();
    done?;
    // An interactive user has seen each failure.
    Ok(ExitCode::from(if is_typed { 0 } else { shell.code }))
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Go,
    Stop,
}

struct Shell {
    session: Session,
    /// Do not stop at a statement that fails.
    keep_going: bool,
    /// Exit code of the first failure.
    code: u8,
    depth: usize,
}

impl Shell {
    /// Reads statements at a prompt.
    fn prompt(&mut self) -> Result<(), Failure> {
        let failed = |error| Failure::io("cannot use the terminal", error);
        if !self.session.quiet {
            let names = self.session.names().len();
            print::err(format_args!(
                "floe {}, {}; \\? for help, Ctrl-D to leave",
                env!("CARGO_PKG_VERSION"),
                human::plural(names as u64, "table")
            ));
        }
        let path = history::path();
        let mut terminal = Terminal::new(path.as_ref().map(history::load).unwrap_or_default());
        loop {
            let session = &mut self.session;
            let propose = |before: &str, text: &str| {
                let tables: Vec<String> = session.names().into_keys().collect();
                let mut named: Vec<String> = complete::tables_in(text, &tables).into_iter().cloned().collect();
                if named.is_empty() {
                    // The columns are typed before FROM names their table.
                    named = tables.iter().take(MAX_TABLES).cloned().collect();
                }
                complete::propose(before, text, &tables, session.columns_of(&named))
            };
            match terminal.read(PROMPT, is_whole, propose).map_err(failed)? {
                Typed::End => return Ok(()),
                Typed::Abandoned => {}
                Typed::Text(text) => {
                    if terminal.editor.remember(text.trim_end())
                        && let Some(path) = &path
                    {
                        history::add(path, &text);
                    }
                    if self.input(text.as_bytes())? == Next::Stop {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Reads statements line by line; the last one needs no semicolon.
    fn input(&mut self, input: impl std::io::BufRead) -> Result<Next, Failure> {
        let mut buffer = String::new();
        for line in input.lines() {
            let line = line.map_err(|error| Failure::io("cannot read standard input", error))?;
            if self.line(&mut buffer, &line)? == Next::Stop {
                return Ok(Next::Stop);
            }
        }
        if split::split(&buffer).rest.is_empty() { Ok(Next::Go) } else { self.statement(&buffer) }
    }

    /// Appends a line, and runs the statements that it completes.
    fn line(&mut self, buffer: &mut String, line: &str) -> Result<Next, Failure> {
        if split::split(buffer).rest.is_empty() && command::is_command(line) {
            buffer.clear();
            let command = command::parse(line);
            return self.command(command);
        }
        buffer.push_str(line);
        buffer.push('\n');
        let split = split::split(buffer);
        *buffer = split.rest;
        for statement in split.statements {
            if self.statement(&statement)? == Next::Stop {
                return Ok(Next::Stop);
            }
        }
        Ok(Next::Go)
    }

    fn statement(&mut self, text: &str) -> Result<Next, Failure> {
        if let Some(command) = command::of_statement(text) {
            return self.command(command);
        }
        match self.session.run(text) {
            Ok(()) => Ok(Next::Go),
            Err(ended) => {
                match &ended {
                    Ended::Query(error) if error.category == Category::Cancelled => print::err("cancelled"),
                    Ended::Query(error) => print::err(format_args!("error: {}: {}", error.class, error.message)),
                    Ended::Failure(failure) => failure.print(),
                }
                // Cancelling ends the whole input, unless there is a prompt to return to.
                let cancelled = ended.category() == Category::Cancelled;
                Ok(self.failed(ended.category(), cancelled))
            }
        }
    }

    fn failed(&mut self, category: Category, cancelled: bool) -> Next {
        if self.code == 0 || cancelled {
            self.code = category.exit_code();
        }
        let is_typed = std::io::stdin().is_terminal();
        if self.keep_going && (!cancelled || is_typed) { Next::Go } else { Next::Stop }
    }

    fn command(&mut self, command: Result<Command, String>) -> Result<Next, Failure> {
        let done = match command {
            Err(message) => Err(Failure::Usage(message)),
            Ok(Command::Quit) => return Ok(Next::Stop),
            Ok(Command::Help) => {
                print::out(help());
                Ok(())
            }
            Ok(Command::Tables) => {
                print::out(self.tables());
                Ok(())
            }
            Ok(Command::Describe(name)) => return self.statement(&format!("DESCRIBE {name}")),
            Ok(Command::Table(text)) => self.session.name_table(&text),
            Ok(Command::View { name, text, replace }) => self.session.name_view(&name, &text, replace),
            Ok(Command::DropView { name, if_exists }) => self.session.drop_view(&name, if_exists),
            Ok(Command::Timing(to)) => {
                self.session.timing = to.unwrap_or(!self.session.timing);
                print::err(format_args!("timing is {}", if self.session.timing { "on" } else { "off" }));
                Ok(())
            }
            Ok(Command::Rows(rows)) => {
                self.session.rows = rows;
                Ok(())
            }
            Ok(Command::Include(path)) => return self.include(&path),
        };
        match done {
            Ok(()) => Ok(Next::Go),
            Err(failure) => {
                failure.print();
                Ok(self.failed(failure.category(), false))
            }
        }
    }

    fn include(&mut self, path: &str) -> Result<Next, Failure> {
        let text = std::fs::read_to_string(path).map_err(|source| Failure::Read { path: path.into(), source });
        let text = match text {
            Ok(_) if self.depth >= MAX_DEPTH => {
                Err(Failure::Usage(format!("{path}: files include each other more than {MAX_DEPTH} deep")))
            }
            other => other,
        };
        match text {
            Ok(text) => {
                self.depth += 1;
                let next = self.input(text.as_bytes());
                self.depth -= 1;
                next
            }
            Err(failure) => {
                failure.print();
                Ok(self.failed(failure.category(), false))
            }
        }
    }

    fn tables(&self) -> String {
        let names = self.session.names();
        if names.is_empty() {
            return "no tables: \\table NAME=URI names one".to_owned();
        }
        let mut rows = vec![["name", "kind", "where"].map(str::to_owned).to_vec()];
        rows.extend(names.into_iter().map(|(name, (kind, at))| vec![name, kind, at.replace('\n', " ")]));
        human::aligned(&rows).join("\n")
    }
}

fn help() -> String {
    let rows: Vec<Vec<String>> =
        COMMANDS.iter().map(|(name, argument, what)| vec![format!("{name} {argument}"), (*what).to_owned()]).collect();
    format!(
        "A statement ends with a semicolon: SELECT, WITH, FROM, VALUES; EXPLAIN, DESCRIBE, SUMMARIZE; SHOW TABLES;\n\
         CREATE [OR REPLACE] VIEW name AS SELECT, DROP VIEW name (for this session). Ctrl-C cancels the query that runs.\n{}",
        human::aligned(&rows).join("\n")
    )
}

/// Whether a typed text can be run: a command, or nothing but complete statements.
fn is_whole(text: &str) -> bool {
    command::is_command(text.lines().next().unwrap_or_default()) || split::split(text).rest.is_empty()
}
