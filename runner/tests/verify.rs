//! `floe-runner verify` as users call it: random plans on warm workers, its exit codes, its JSON.

use std::process::{Command, Output};

fn verify(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_floe-runner")).arg("verify").args(args).output().expect("floe-runner starts")
}

/// 300 plans in every run; `FLOE_SEED=…` for others, and `floe verify --random 5000` for many.
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
