//! The program's name: `floe`, or `kubectl floe` when kubectl runs it as its plugin (a link named `kubectl-floe`).

use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

static NAME: OnceLock<&'static str> = OnceLock::new();

/// The name as the user types it, for messages that suggest a command.
pub fn name() -> &'static str {
    NAME.get_or_init(|| of(std::env::args_os().next().as_deref()))
}

/// Whether kubectl asks for completions: it then runs `kubectl_complete-floe`, another link.
pub fn completes() -> bool {
    let called = std::env::args_os().next();
    file_of(called.as_deref()).starts_with("kubectl_complete-floe")
}

fn file_of(called: Option<&OsStr>) -> &str {
    called.and_then(|path| Path::new(path).file_name()).and_then(OsStr::to_str).unwrap_or_default()
}

fn of(called: Option<&OsStr>) -> &'static str {
    let file = file_of(called);
    // kubectl finds `kubectl floe` as kubectl-floe or kubectl_floe.
    if file.starts_with("kubectl-floe") || file.starts_with("kubectl_floe") { "kubectl floe" } else { "floe" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_called_as_kubectl_calls_it() {
        for (called, name) in [
            ("/usr/bin/floe", "floe"),
            ("floe", "floe"),
            ("/opt/kubectl-floe", "kubectl floe"),
            ("kubectl_floe", "kubectl floe"),
            ("/opt/kubectl-floe/floe", "floe"),
        ] {
            assert_eq!(of(Some(OsStr::new(called))), name, "{called}");
        }
        assert_eq!(of(None), "floe");
    }
}
