//! LazyFrames made by the Python of Polars 2.1 give the same rows here (`test_frames.py`).

use std::io::Cursor;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use polars::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Case {
    name: String,
    crossing: Crossing,
    rows: String,
    ordered: bool,
}

/// Runs the tests' Python with Polars 2.1; `None`, to skip the test, on a machine without it.
fn cases() -> Option<Vec<Case>> {
    let python = crate::load_tests::python()?;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("traverse.py"), TRAVERSE).unwrap();
    std::fs::write(dir.path().join("frames.py"), include_str!("test_frames.py")).unwrap();
    let output =
        Command::new(python).args(["-I", "-B"]).arg(dir.path().join("frames.py")).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn frames_of_the_newer_polars_give_the_same_rows() {
    let Some(cases) = cases() else { return };
    assert!(cases.len() > 50);
    let mut wrong = vec![];
    for case in cases {
        let want = IpcReader::new(Cursor::new(STANDARD.decode(&case.rows).unwrap())).finish().unwrap();
        let got =
            build(&case.crossing, &[], &[]).and_then(|(frame, _)| frame.collect().map_err(floe_polars::polars_error));
        let same = match &got {
            Err(error) => {
                wrong.push(format!("{}: {error}", case.name));
                continue;
            }
            Ok(got) if case.ordered => rows(got, false) == rows(&want, false),
            Ok(got) => rows(got, true) == rows(&want, true),
        };
        let got = got.unwrap();
        if !same || got.schema() != want.schema() {
            wrong.push(format!("{}: got {got}\nwanted {want}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn rows(frame: &DataFrame, sort: bool) -> Vec<String> {
    let number = |value: AnyValue| match value {
        // The last digits of floats differ between versions.
        AnyValue::Float64(value) => format!("{value:.9e}"),
        value => format!("{value}"),
    };
    let row = |at: usize| frame.columns().iter().map(|c| number(c.get(at).unwrap())).collect::<Vec<_>>().join("|");
    let mut rows: Vec<String> = (0..frame.height()).map(row).collect();
    if sort {
        rows.sort();
    }
    rows
}

#[test]
fn damaged_and_unsupported_plans_are_named() {
    let crossing = |nodes: &str, exprs: &str| -> Result<()> {
        let text = format!(r#"{{"version":2,"polars":"2.1.0","root":0,"nodes":{nodes},"exprs":{exprs}}}"#);
        build(&serde_json::from_str(&text).unwrap(), &[], &[]).map(|_| ())
    };
    let frame = r#"{"kind":"frame","columns":["a"],"dtypes":["Int64"],"height":1,"nulls":false,"values":[["1"]],"inputs":[],"schema":[["a","Int64"]]}"#;
    crossing(&format!("[{frame}]"), "[]").unwrap();
    let cases = [
        (
            r#"[{"kind":"unknown","name":"recursive query","inputs":[],"schema":[]}]"#,
            "[]",
            "the plan node recursive query",
        ),
        (r#"[{"kind":"project","inputs":[5],"schema":[]}]"#, "[]", "a node names one that comes after it"),
        ("[]", r#"[{"kind":"alias","input":0,"name":"x"}]"#, "an expression names one that comes after it"),
        ("[]", "[]", "its root is missing"),
    ];
    for (nodes, exprs, part) in cases {
        let message = crossing(nodes, exprs).unwrap_err().message;
        assert!(message.contains(part), "{message}");
    }
    let newer = serde_json::from_str(r#"{"version":3,"polars":"3","root":0,"nodes":[],"exprs":[]}"#).unwrap();
    assert!(build(&newer, &[], &[]).map(|_| ()).unwrap_err().message.contains("version 3"));
}
