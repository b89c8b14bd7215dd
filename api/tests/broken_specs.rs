//! Every broken spec with the exact message a user reads. The cases are in broken_specs.txt: `=== name`, the YAML,
//! `--- errors` and one line an error. FLOE_WRITE_GENERATED=1 writes the messages anew; read the difference.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::PathBuf;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/broken_specs.txt")
}

/// Cases write only what they break: the rest of a sound query goes around it.
fn complete(yaml: &str) -> String {
    if !yaml.starts_with("spec:") {
        return yaml.to_owned();
    }
    let mut text = "apiVersion: floe.dev/v1alpha1\nkind: DistributedQuery\nmetadata: {name: q}\n".to_owned();
    text.push_str(yaml);
    if !yaml.contains("\n  plan:") {
        text.push_str("  plan: {python: {script: 'result = scan(\"t\")'}}\n");
    }
    text
}

#[test]
fn every_broken_spec_has_its_message() {
    let text = std::fs::read_to_string(path()).unwrap();
    let mut written = String::new();
    let mut cases = 0;
    let (head, rest) = text.split_once("=== ").unwrap();
    written.push_str(head);
    let mut differing = Vec::new();
    for case in rest.split("\n=== ") {
        let (name, body) = case.split_once('\n').unwrap_or((case, ""));
        let (yaml, expected) = body.split_once("--- errors\n").unwrap_or((body, ""));
        let mut yaml = yaml.to_owned();
        if !yaml.ends_with('\n') {
            yaml.push('\n');
        }
        let errors = match floe_api::from_yaml(&complete(&yaml)) {
            Ok(_) => "ACCEPTED\n".to_owned(),
            Err(errors) => errors.iter().fold(String::new(), |mut all, error| {
                writeln!(all, "{error}").unwrap();
                all
            }),
        };
        if errors.trim_end() != expected.trim_end() {
            differing.push(format!("{name}\nexpected:\n{expected}\ngot:\n{errors}"));
        }
        write!(written, "=== {name}\n{yaml}--- errors\n{errors}\n").unwrap();
        assert!(errors != "ACCEPTED\n" || name.starts_with("sound"), "{name} is accepted");
        cases += 1;
    }
    assert!(cases >= 40, "{cases} cases");
    if std::env::var_os("FLOE_WRITE_GENERATED").is_some() {
        std::fs::write(path(), written).unwrap();
    } else {
        assert!(differing.is_empty(), "{}", differing.join("\n\n"));
    }
}
