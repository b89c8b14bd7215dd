//! The generator: a seed reproduces its plan, every dtype occurs, most plans run.

use std::collections::BTreeSet;

use polars::prelude::*;

use super::super::oracle::{self, With};
use super::super::perturb;
use super::*;

fn text(seed: u64, index: u64, dir: &Path) -> String {
    let plan = plan(seed, index, dir).unwrap();
    let mut frames = Vec::new();
    perturb::frames(&plan, &mut frames);
    let frames: Vec<String> = frames.iter().map(|f| format!("{f:?}")).collect();
    // Cache ids are random.
    let nodes = plan.describe().unwrap_or_else(|e| e.to_string());
    let nodes: Vec<&str> = nodes.lines().map(|l| if l.contains("CACHE") { "CACHE" } else { l }).collect();
    format!("{}\n{}", nodes.join("\n"), frames.join("\n"))
}

#[test]
fn the_same_seed_gives_the_same_plan() {
    let dir = tempfile::tempdir().unwrap();
    let mut distinct = BTreeSet::new();
    for index in 0..40 {
        let first = text(7, index, dir.path());
        assert_eq!(first, text(7, index, dir.path()), "plan {index}");
        distinct.insert(first);
    }
    assert!(distinct.len() > 35, "{} distinct plans of 40", distinct.len());
}

#[test]
fn every_dtype_turns_up() {
    let mut g = Gen::new(3);
    let mut seen = BTreeSet::new();
    for _ in 0..3000 {
        let dtype = frames::dtype(&mut g, 2);
        let kind = match &dtype {
            DataType::Datetime(unit, zone) => format!("datetime {unit} {}", zone.is_some()),
            DataType::List(_) => "list".into(),
            DataType::Array(..) => "array".into(),
            DataType::Struct(_) => "struct".into(),
            other => format!("{other}"),
        };
        if seen.insert(kind) {
            let column = frames::column(&mut g, "a", &dtype, 50, 0.2).unwrap();
            assert_eq!((column.dtype(), column.len()), (&dtype, 50));
        }
    }
    for wanted in [
        "i8",
        "i128",
        "u128",
        "f16",
        "f32",
        "decimal[38,2]",
        "binary",
        "time",
        "null",
        "list",
        "array",
        "struct",
        "datetime μs true",
    ] {
        assert!(seen.contains(wanted), "no {wanted} among {seen:?}");
    }
}

#[test]
fn most_plans_run_and_survive_being_serialized() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ran, mut failed) = (0, Vec::new());
    for index in 0..60 {
        let bytes = plan_bytes(11, index, &dir.path().join(index.to_string())).unwrap();
        let plan = floe_codec::decode_dsl(&bytes).unwrap();
        match oracle::run(plan, With::InMemory, std::time::Duration::from_secs(60)).0 {
            Ok(_) => ran += 1,
            Err(e) => failed.push(e.message),
        }
    }
    assert!(ran >= 42, "{ran} of 60 ran; {failed:#?}");
    assert!(ran < 60, "none failed: those that must fail alike are missing");
}
