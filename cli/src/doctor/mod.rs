//! The checks of `floe doctor`, one file per kind.

pub mod installed;
pub mod reach;
pub mod rights;
pub mod sources;
pub mod tables;
pub mod trial;

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// It works, but not completely, or not for long.
    Warn,
    Fail,
    /// It could not be checked.
    Unknown,
}

#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: String,
    pub state: State,
    pub message: String,
    #[serde(rename = "toDo", skip_serializing_if = "Option::is_none")]
    pub to_do: Option<String>,
}

impl Check {
    fn new(name: &str, state: State, message: impl Into<String>) -> Check {
        Check { name: name.to_owned(), state, message: message.into(), to_do: None }
    }

    pub fn ok(name: &str, message: impl Into<String>) -> Check {
        Check::new(name, State::Ok, message)
    }

    pub fn warn(name: &str, message: impl Into<String>, to_do: impl Into<String>) -> Check {
        Check { to_do: Some(to_do.into()), ..Check::new(name, State::Warn, message) }
    }

    pub fn fail(name: &str, message: impl Into<String>, to_do: impl Into<String>) -> Check {
        Check { to_do: Some(to_do.into()), ..Check::new(name, State::Fail, message) }
    }

    pub fn unknown(name: &str, message: impl Into<String>) -> Check {
        Check::new(name, State::Unknown, message)
    }

    pub fn text(&self) -> String {
        let state = match self.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "FAIL",
            State::Unknown => "?",
        };
        let mut text = format!("{state:<5} {:<11} {}", self.name, self.message);
        if let Some(to_do) = &self.to_do {
            text.push_str(&format!("\n      {:<11} to do: {to_do}", ""));
        }
        text
    }
}

/// Whether an error says that the user may not read this.
fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_forbidden())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_says_what_to_do_on_a_line_of_its_own() {
        assert_eq!(Check::ok("cluster", "answers").text(), "ok    cluster     answers");
        assert_eq!(
            Check::fail("operator", "is not there", "install it").text(),
            "FAIL  operator    is not there\n                  to do: install it"
        );
        assert_eq!(
            serde_json::to_value(Check::warn("clock", "a", "b")).unwrap(),
            serde_json::json!({"name": "clock", "state": "warn", "message": "a", "toDo": "b"})
        );
    }
}
