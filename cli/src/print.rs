//! Writes to standard output and error. A reader that has closed the pipe (`floe crd | head`) is no reason to fail, let
//! alone to panic as `println!` does.

use std::fmt::Display;
use std::io::Write as _;

/// A line on standard output.
pub fn out(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// A line on standard error.
pub fn err(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
