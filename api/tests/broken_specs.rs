//! Every broken spec with the exact message a user reads. The cases are in broken_specs.txt (queries),
//! broken_contexts.txt and broken_schedules.txt: `=== name`, the YAML, `--- errors` and one line an error. FLOE_WRITE_GENERATED=1 writes the messages anew; read the difference.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::PathBuf;

fn path() -> PathBuf {
    named("broken_specs.txt")
}

fn named(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(file)
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

/// The same of a context, which needs nothing else.
fn complete_context(yaml: &str) -> String {
    match yaml.starts_with("spec:") {
        true => format!("apiVersion: floe.dev/v1alpha1\nkind: ComputeContext\nmetadata: {{name: warm}}\n{yaml}"),
        false => yaml.to_owned(),
    }
}

/// The same of a schedule, which needs times and a query.
fn complete_schedule(yaml: &str) -> String {
    if !yaml.starts_with("spec:") {
        return yaml.to_owned();
    }
    let head = "apiVersion: floe.dev/v1alpha1\nkind: ScheduledQuery\nmetadata: {name: nightly}\n";
    let mut text = format!("{head}{yaml}");
    if !yaml.contains("schedule:") {
        text.push_str("  schedule: '30 2 * * *'\n");
    }
    if !yaml.contains("queryTemplate:") {
        text.push_str("  queryTemplate: {spec: {plan: {sql: SELECT 1 AS one}}}\n");
    }
    text
}

#[test]
fn every_broken_spec_has_its_message() {
    hold(&path(), 40, |yaml| floe_api::from_yaml(&complete(yaml)).map(drop));
}

#[test]
fn every_broken_context_has_its_message() {
    hold(&named("broken_contexts.txt"), 12, |yaml| floe_api::context_from_yaml(&complete_context(yaml)).map(drop));
}

#[test]
fn every_broken_schedule_has_its_message() {
    hold(&named("broken_schedules.txt"), 20, |yaml| floe_api::schedule_from_yaml(&complete_schedule(yaml)).map(drop));
}

/// Holds the cases of a file, which has at least so many, against what reading them says.
fn hold(path: &std::path::Path, least: usize, read: impl Fn(&str) -> Result<(), Vec<floe_api::FieldError>>) {
    let text = std::fs::read_to_string(path).unwrap();
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
        let errors = match read(&yaml) {
            Ok(_) => "ACCEPTED\n".to_owned(),
            Err(errors) => errors.iter().fold(String::new(), |mut all, error| {
                writeln!(all, "{error}").unwrap();
                all
            }),
        };
        // Unknown fields are told in the order of the map they stand in, which hangs on how serde_json is built.
        let lines = |text: &str| {
            let mut lines: Vec<String> = text.trim_end().lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        if lines(&errors) != lines(expected) {
            differing.push(format!("{name}\nexpected:\n{expected}\ngot:\n{errors}"));
        }
        write!(written, "=== {name}\n{yaml}--- errors\n{errors}\n").unwrap();
        assert!(errors != "ACCEPTED\n" || name.starts_with("sound"), "{name} is accepted");
        cases += 1;
    }
    assert!(cases >= least, "{cases} cases");
    if std::env::var_os("FLOE_WRITE_GENERATED").is_some() {
        std::fs::write(path, written).unwrap();
    } else {
        assert!(differing.is_empty(), "{}", differing.join("\n\n"));
    }
}

/// A generator of its own, so that a failure can be run again by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n.max(1) as u64).unwrap()
    }
}

#[test]
fn no_text_makes_it_panic() {
    let cases = std::fs::read_to_string(path()).unwrap();
    let texts: Vec<String> = cases
        .split("\n=== ")
        .skip(1)
        .filter_map(|case| case.split_once('\n')?.1.split_once("--- errors\n").map(|(yaml, _)| complete(yaml)))
        .collect();
    let odd =
        ["{", "]", ": ", "\n", "- ", "\"", "~", "!!", "&a ", "*a", "é", "\u{0}", "0x", "1e999", "s3://", "..", "%"];
    for seed in 1..=3000u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut text = texts[random.below(texts.len())].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(text.len() + 1);
            let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            match random.below(3) {
                0 => text.insert_str(at, odd[random.below(odd.len())]),
                1 => text.truncate(at),
                _ => {
                    let other = &texts[random.below(texts.len())];
                    text.insert_str(at, other.get(..random.below(other.len())).unwrap_or(other));
                }
            }
        }
        let read = std::panic::catch_unwind(|| floe_api::from_yaml(&text));
        assert!(read.is_ok(), "seed {seed} panics on:\n{text}");
        // What is taken must survive its own writing.
        if let Ok(Ok(query)) = read {
            let again = floe_api::from_value(serde_json::to_value(&query).unwrap());
            assert_eq!(again.map_err(|e| format!("{e:?}")), Ok(query), "seed {seed}:\n{text}");
        }
    }
}

#[test]
fn deep_and_large_texts_are_refused_in_time() {
    let since = std::time::Instant::now();
    for deep in ["[".repeat(1 << 20), "{a: ".repeat(1 << 18), "[".repeat(3000), "- ".repeat(1 << 12)] {
        assert!(floe_api::from_yaml(&format!("spec: {deep}")).is_err());
    }
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]\ni: [*h,*h,*h,*h,*h,*h,*h,*h,*h]\n";
    assert!(floe_api::from_yaml(bomb).is_err());
    assert!(floe_api::from_yaml(&"x".repeat(4 << 20)).is_err());
    assert!(since.elapsed() < std::time::Duration::from_secs(20), "{:?}", since.elapsed());
}
