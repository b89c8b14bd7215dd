//! What the shell itself handles: commands that begin with a backslash, and statements that define views.

use super::split::first_words;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// List the names of all tables and views, and their locations.
    Tables,
    /// Show the columns of a table or view.
    Describe(String),
    /// Define a table for the session: `name=uri`.
    Table(String),
    View {
        name: String,
        text: String,
        replace: bool,
    },
    DropView {
        name: String,
        if_exists: bool,
    },
    Timing(Option<bool>),
    /// How many rows of a result to show.
    Rows(u64),
    /// Run the statements of a file.
    Include(String),
    Help,
    Quit,
}

/// The commands with their arguments, as help and completion show them.
pub const COMMANDS: [(&str, &str, &str); 8] = [
    ("\\d", "[NAME]", "list tables and views, or the columns of one"),
    ("\\table", "NAME=URI", "name a table for this session"),
    ("\\rows", "N", "show so many rows of a result"),
    ("\\timing", "[on|off]", "show how long a query took"),
    ("\\i", "FILE", "run the statements of a file"),
    ("\\?", "", "show this help"),
    ("\\h", "", "show this help"),
    ("\\q", "", "leave (as do Ctrl-D, quit and exit)"),
];

/// Whether a line is a command of the shell, which needs no semicolon.
pub fn is_command(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('\\') || matches!(line.to_ascii_lowercase().as_str(), "quit" | "exit" | "help")
}

/// Parses a line for which `is_command` holds.
pub fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let no_argument = |command: Command| match rest {
        "" => Ok(command),
        _ => Err(format!("{name} takes no argument")),
    };
    match name.to_ascii_lowercase().as_str() {
        "\\d" | "\\dt" | "\\dv" if rest.is_empty() => Ok(Command::Tables),
        "\\d" => Ok(Command::Describe(rest.to_owned())),
        "\\table" if rest.contains('=') => Ok(Command::Table(rest.to_owned())),
        "\\table" => Err("write \\table name=uri".into()),
        "\\rows" => rest.parse().map(Command::Rows).map_err(|_| "write \\rows with a number".into()),
        "\\timing" => match rest.to_ascii_lowercase().as_str() {
            "" => Ok(Command::Timing(None)),
            "on" => Ok(Command::Timing(Some(true))),
            "off" => Ok(Command::Timing(Some(false))),
            _ => Err("write \\timing on or \\timing off".into()),
        },
        "\\i" if rest.is_empty() => Err("write \\i with the name of a file".into()),
        "\\i" => Ok(Command::Include(rest.to_owned())),
        "\\?" | "\\h" | "\\help" | "help" => no_argument(Command::Help),
        "\\q" | "\\quit" | "quit" | "exit" => no_argument(Command::Quit),
        _ => {
            let known = COMMANDS.iter().map(|(name, ..)| *name);
            let near = floe_api::suggest::nearest(name, known).map(|near| format!("; did you mean {near}?"));
            Err(format!("there is no command {name}{} (\\? lists them)", near.unwrap_or_default()))
        }
    }
}

/// A statement that the shell itself handles: `CREATE [OR REPLACE] VIEW name AS query`, `DROP VIEW [IF EXISTS] name`.
pub fn of_statement(text: &str) -> Option<Result<Command, String>> {
    let words = first_words(text, 5);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["CREATE", "VIEW", ..] => Some(create(text, 2, false)),
        ["CREATE", "OR", "REPLACE", "VIEW", ..] => Some(create(text, 4, true)),
        ["DROP", "VIEW", "IF", "EXISTS", ..] => Some(drop_view(text, 4, true)),
        ["DROP", "VIEW", ..] => Some(drop_view(text, 2, false)),
        _ => None,
    }
}

fn create(text: &str, skip: usize, replace: bool) -> Result<Command, String> {
    let wanted = || "write CREATE VIEW name AS SELECT …".to_owned();
    let (name, rest) = name(after_words(text, skip)).ok_or_else(wanted)?;
    let rest = rest.trim_start();
    let query = rest.get(..2).filter(|word| word.eq_ignore_ascii_case("as")).map(|_| &rest[2..]).ok_or_else(wanted)?;
    if query.trim().is_empty() || !query.starts_with(|c: char| c.is_whitespace() || c == '(') {
        return Err(wanted());
    }
    Ok(Command::View { name, text: query.trim().to_owned(), replace })
}

fn drop_view(text: &str, skip: usize, if_exists: bool) -> Result<Command, String> {
    match name(after_words(text, skip)) {
        Some((name, rest)) if rest.trim().is_empty() => Ok(Command::DropView { name, if_exists }),
        _ => Err("write DROP VIEW name".into()),
    }
}

/// Skips the first `words` words; comments between them are not handled.
fn after_words(text: &str, words: usize) -> &str {
    (0..words).fold(text, |rest, _| {
        let rest = rest.trim_start();
        &rest[rest.find(char::is_whitespace).unwrap_or(rest.len())..]
    })
}

/// Reads a name, quoted or not, with the parts of a schema; returns it and what follows.
fn name(text: &str) -> Option<(String, &str)> {
    let mut rest = text.trim_start();
    let mut name = String::new();
    loop {
        match rest.chars().next()? {
            quote @ ('"' | '`') => {
                let end = rest[1..].find(quote)? + 1;
                name.push_str(&rest[1..end]);
                rest = &rest[end + 1..];
            }
            _ => {
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                if end == 0 {
                    return None;
                }
                name.push_str(&rest[..end]);
                rest = &rest[end..];
            }
        }
        match rest.strip_prefix('.') {
            Some(more) => {
                name.push('.');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_their_arguments() {
        let fine = [
            ("\\d", Command::Tables),
            ("\\d orders ;", Command::Describe("orders".into())),
            ("\\table t=a b.csv", Command::Table("t=a b.csv".into())),
            ("\\rows 50", Command::Rows(50)),
            ("\\timing", Command::Timing(None)),
            ("\\timing OFF", Command::Timing(Some(false))),
            ("\\i x.sql", Command::Include("x.sql".into())),
            ("\\?", Command::Help),
            ("exit;", Command::Quit),
            ("\\q", Command::Quit),
        ];
        for (line, command) in fine {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
        for (line, part) in [
            ("\\rows many", "a number"),
            ("\\table t", "name=uri"),
            ("\\q now", "takes no argument"),
            ("\\timin", "did you mean \\timing?"),
            ("\\x", "\\? lists them"),
        ] {
            assert!(parse(line).unwrap_err().contains(part), "{line}");
        }
        assert!(is_command(" \\d") && is_command("QUIT") && !is_command("select 1") && !is_command("exit 1"));
    }

    #[test]
    fn views_are_the_session_s() {
        let view =
            |name: &str, replace| Some(Ok(Command::View { name: name.into(), text: "select\n 1".into(), replace }));
        assert_eq!(of_statement("create view v as select\n 1"), view("v", false));
        assert_eq!(of_statement("CREATE OR REPLACE VIEW s.\"My view\" AS\nselect\n 1"), view("s.My view", true));
        let dropped = |if_exists| Some(Ok(Command::DropView { name: "v".into(), if_exists }));
        assert_eq!(of_statement("drop view v"), dropped(false));
        assert_eq!(of_statement("drop view if exists v"), dropped(true));
        for wrong in ["create view as select 1", "create view v select 1", "create view v as", "drop view v w"] {
            assert!(of_statement(wrong).unwrap().is_err(), "{wrong}");
        }
        assert_eq!(of_statement("create table t as select 1"), None);
        assert_eq!(of_statement("select 1"), None);
    }
}
