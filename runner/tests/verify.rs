//! `floe-runner verify` as a command: random plans on warm workers, its exit codes, its JSON.

use std::process::{Command, Output};

fn verify(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_floe-runner")).arg("verify").args(args).output().expect("floe-runner starts")
}

/// 300 plans in every run; set `FLOE_SEED` for other plans, or run `floe verify --random 5000` for more.
#[test]
fn random_plans_come_out_equal_on_three_workers() {
    let seed = std::env::var("FLOE_SEED").unwrap_or_else(|_| "9".into());
    let out = verify(&["--random", "300", "--seed", &seed, "--workers", "3"]);
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "seed {seed}\n{text}\n{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("ran in more than one stage"), "{text}");
}

#[test]
fn the_report_is_json_on_request() {
    let out = verify(&["--random", "5", "--seed", "3", "--oracles", "--json", "-"]);
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(report["plans"], 5);
    assert_eq!(report["seed"], 3);
    assert_eq!(report["checked"].as_array().map(Vec::len), Some(5));
}

#[test]
fn calls_that_cannot_be_carried_out_say_why() {
    for (args, why) in [
        (&["/no/such/plan.bin"][..], "no such file"),
        (&[][..], "nothing to check"),
        (&["--random", "1", "--in-process", "--mode", "sideways"][..], "no mode `sideways`"),
    ] {
        let out = verify(args);
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(why), "{args:?}: {text}");
    }
}

/// An engine that puts every plan into one stage returns equal rows, but does not pass.
#[test]
fn a_share_of_distributed_plans_below_its_floor_fails() {
    let dir = tempfile::tempdir().expect("a directory");
    let table = dir.path().join("expected.yaml");
    std::fs::write(&table, "floors: {most: {equal: 0.5, staged: 0.5, distributed: 0.2}}").expect("a file");
    let table = table.to_str().expect("a path");
    for (mode, passes) in [("single-node", false), ("distributed", true)] {
        let args = ["--random", "30", "--seed", "9", "--mode", mode, "--expect", table, "--floor", "most"];
        let out = verify(&args);
        let text = String::from_utf8_lossy(&out.stdout);
        assert_eq!(out.status.code(), Some(i32::from(!passes)), "{mode}: {text}");
        assert_eq!(text.contains("BELOW the floor of 50.0%"), !passes, "{mode}: {text}");
    }
}

/// Interpreters that are missing, of another version, or fail on every plan.
#[test]
fn wheels_are_checked_and_their_answers_count() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a directory");
    let fake = |name: &str, version: &str| {
        let path = dir.path().join(name);
        let script = format!(
            "#!/usr/bin/env python3
import json, sys
def answer(head):
    sys.stdout.write(json.dumps(head) + '\\n')
    sys.stdout.flush()
answer({{'version': '{version}'}})
while line := sys.stdin.buffer.readline():
    sys.stdin.buffer.read(json.loads(line)['bytes'])
    answer({{'class': 'ComputeError', 'message': 'not today'}})
"
        );
        std::fs::write(&path, script).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a program");
        format!("1.43.2={}", path.display())
    };
    let random = ["--random", "8", "--seed", "9", "--in-process", "--oracle", "python", "--python"];
    for (python, why) in [
        (fake("other", "1.42.0"), "has Polars 1.42.0"),
        ("1.43.2=/no/such/python".to_owned(), "make one with tests/wheels"),
        ("1.42.0=python3".to_owned(), "no Polars `1.42.0` is accepted"),
    ] {
        let out = verify(&[&random[..], &[&python]].concat());
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{python}: {text}");
        assert!(text.contains(why), "{python}: {text}");
    }
    let out = verify(&[&random[..], &[&fake("failing", "1.43.2")]].concat());
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("fails in Polars only: ComputeError: not today"), "{text}");
}
