//! Every form of input that `--help` promises, through the built `floe` and `floe-runner`: plans that wheels wrote,
//! queries in YAML and JSON, standard input, scripts over tables and parameters, references to Secrets and ConfigMaps.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};

const VERSIONS: [&str; 4] = ["1.43.2", "1.44.2", "2.0.0", "2.1.0"];

/// Plans of `tests/plans` name their files relative to it.
fn plans_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/plans").canonicalize().unwrap()
}

fn fixture(version: &str, name: &str) -> String {
    format!("fixtures/{version}/{name}.bin")
}

/// All plans of a version that are accepted and carry their rows.
fn accepted(version: &str) -> Vec<String> {
    let dir = plans_dir().join("fixtures").join(version);
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        files.filter_map(|file| Some(file.strip_suffix(".bin")?.to_owned()).filter(|n| n.starts_with("ok-"))).collect();
    names.sort();
    assert!(names.len() >= 40, "few accepted plans of {version}: {names:?}");
    names.iter().map(|name| fixture(version, name)).collect()
}

fn command(args: &[&str]) -> Command {
    let floe = Path::new(env!("CARGO_BIN_EXE_floe"));
    let runner = floe.with_file_name("floe-runner");
    assert!(runner.exists(), "{} is not built: cargo build --release --workspace --bins", runner.display());
    let mut command = Command::new(floe);
    command
        .args(args)
        .current_dir(plans_dir())
        .env_remove("FLOE_RUNNER")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(python) = python() {
        command.env("FLOE_PYTHON", python);
    }
    command
}

/// A Python with Polars: `FLOE_PYTHON`, or the environment that `tests/setup` makes.
fn python() -> Option<PathBuf> {
    if let Some(python) = std::env::var_os("FLOE_PYTHON") {
        return Some(python.into());
    }
    let cache = std::env::var_os("FLOE_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/floe")));
    let python = cache.map(|cache| cache.join("venv/bin/python")).filter(|python| python.exists());
    if python.is_none() {
        let why = "no Python with Polars (FLOE_PYTHON, or tests/setup): scripts are not tested";
        // Where all tests must run (tests/run), this is a failure.
        assert!(std::env::var_os("FLOE_TEST_ALL").is_none_or(|all| all != "1"), "{why}");
        eprintln!("{why}");
    }
    python
}

fn words(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The standard output of a call that succeeds.
fn floe(args: &[&str]) -> String {
    let output = command(args).output().unwrap();
    assert!(output.status.success(), "floe {}: {}", args.join(" "), words(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The same with something on standard input.
fn floe_reading(args: &[&str], input: &[u8]) -> Output {
    let mut child = command(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// The outcomes of `floe run --output json`, one object a line.
fn outcomes(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

/// A query over the files of `tests/plans/data`.
fn query(script: &str) -> Value {
    json!({
        "apiVersion": "floe.dev/v1alpha1",
        "kind": "DistributedQuery",
        "metadata": {"name": "q"},
        "spec": {
            "plan": {"python": {"script": script}},
            "params": {"low": 2},
            "tables": {
                "parquet": {"uri": "data/numbers.parquet"},
                "csv": {"uri": "data/numbers.csv"},
                "ndjson": {"uri": "data/numbers.ndjson"},
                "ipc": {"uri": "data/numbers.ipc"},
                "hive": {"uri": "data/hive", "format": "parquet"},
            },
            "compute": {"workers": 1},
            "execution": {"mode": "distributed"},
        },
    })
}

/// Four tables of four rows, of which a filter by the parameter leaves two each.
const FORMATS: &str = "frames = [scan(name).select('x') for name in ('parquet', 'csv', 'ndjson', 'ipc')]\n\
                       result = pl.concat(frames, how='vertical_relaxed').filter(pl.col('x') > params['low'])\n";

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn yaml(value: &Value) -> String {
    serde_yaml_ng::to_string(value).unwrap()
}

#[test]
fn plans_of_every_accepted_version_are_validated_and_explained() {
    for version in VERSIONS {
        let plans = accepted(version);
        let mut args = vec!["validate"];
        args.extend(plans.iter().map(String::as_str));
        let stdout = floe(&args);
        assert_eq!(stdout.lines().filter(|line| line.ends_with(": ok")).count(), plans.len(), "{stdout}");
        for plan in &plans {
            let stdout = floe(&["explain", plan]);
            assert!(stdout.contains("stage 0: ") && stdout.contains("result: stage "), "{plan}: {stdout}");
        }
    }
}

#[test]
fn plans_of_every_accepted_version_run() {
    for version in VERSIONS {
        let plans = [fixture(version, "ok-join-left"), fixture(version, "files-parquet"), fixture(version, "ok-empty")];
        let mut args = vec!["run", "--workers", "1", "--mode", "distributed", "--output", "json"];
        args.extend(plans.iter().map(String::as_str));
        let outcomes = outcomes(&floe(&args));
        let rows: Vec<_> = outcomes.iter().map(|o| (o["name"].clone(), o["outcome"]["rows"].clone())).collect();
        let expected = [("ok-join-left", 6), ("files-parquet", 3), ("ok-empty", 0)];
        assert_eq!(rows, expected.map(|(name, rows)| (json!(name), json!(rows))), "{version}");
        assert!(outcomes.iter().all(|o| o["outcome"]["fellBack"].is_null()), "{version}: {outcomes:?}");
    }
}

#[test]
fn explain_has_its_formats() {
    let plan = fixture("2.1.0", "ok-join-left");
    let shown = |format: &str| floe(&["explain", &plan, "--format", format]);
    assert!(shown("text").contains("stage 0: "));
    assert!(shown("dot").starts_with("digraph query {"));
    assert!(shown("mermaid").starts_with("flowchart BT"));
    let json: Value = serde_json::from_str(&shown("json")).unwrap();
    assert!(!json["stages"].as_array().unwrap().is_empty());
}

#[test]
fn verify_takes_plans_queries_and_directories() {
    let dir = tempfile::tempdir().unwrap();
    for version in VERSIONS {
        let plan = plans_dir().join(fixture(version, "ok-group-by"));
        std::fs::copy(plan, dir.path().join(format!("{version}.bin"))).unwrap();
    }
    write(dir.path(), "notes.txt", "not a plan");
    let join = fixture("2.1.0", "ok-join-left");
    let mut args = vec!["verify", "--workers", "2", "--json", "-", dir.path().to_str().unwrap(), &join];
    let mut count = 5;
    let query = write(dir.path(), "q.yaml", yaml(&query(FORMATS)));
    if python().is_some() {
        count += 1;
    } else {
        std::fs::remove_file(&query).unwrap();
    }
    let report: Value = serde_json::from_str(&floe(&args)).unwrap();
    assert_eq!(report["plans"], count, "{report}");
    args.extend(["--filter", "1.43"]);
    let report: Value = serde_json::from_str(&floe(&args)).unwrap();
    assert_eq!(report["plans"], 1, "{report}");
}

#[test]
fn queries_are_yaml_or_json_in_files_or_on_standard_input() {
    if python().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let query = query(FORMATS);
    let (as_yaml, as_json) = (yaml(&query), query.to_string());
    let files = [write(dir.path(), "q.yaml", &as_yaml), write(dir.path(), "q.json", &as_json)];
    for file in &files {
        assert_eq!(floe(&["validate", file]), format!("{file}: ok\n"));
        assert!(floe(&["explain", file]).contains("stage 0: "));
    }
    let ran = outcomes(&floe(&["run", "-o", "json", &files[0], &files[1]]));
    assert_eq!(ran.iter().map(|o| &o["outcome"]["rows"]).collect::<Vec<_>>(), [8, 8], "{ran:?}");
    for text in [&as_yaml, &as_json] {
        for (args, shows) in [
            (&["validate", "-"][..], "-: ok"),
            (&["explain", "-"], "stage 0: "),
            (&["run", "--quiet", "-"], "shape: (8, 1)"),
        ] {
            let output = floe_reading(args, text.as_bytes());
            assert!(output.status.success() && words(&output).contains(shows), "{args:?}: {}", words(&output));
        }
    }
    let bytes = std::fs::read(plans_dir().join(fixture("2.1.0", "ok-join-left"))).unwrap();
    for command in ["run", "explain", "validate"] {
        let output = floe_reading(&[command, "-"], &bytes);
        assert_eq!(output.status.code(), Some(2));
        assert!(words(&output).contains("a serialized plan must be a file: give its path"), "{}", words(&output));
    }
}

#[test]
fn the_command_line_changes_a_query() {
    if python().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "q.yaml", yaml(&query(FORMATS)));
    let rows = |args: &[&str]| {
        let mut all = vec!["run", "-o", "json", &file];
        all.extend(args);
        outcomes(&floe(&all))[0]["outcome"].clone()
    };
    assert_eq!(rows(&["--param", "low=0"])["rows"], 16);
    assert_eq!(rows(&["--set", "spec.params.low=3", "--workers", "2", "--mode", "single-node"])["rows"], 4);
    let out = dir.path().join("out");
    let sink = format!("spec.sink={{uri: \"{}/\", format: csv}}", out.display());
    let outcome = rows(&["--set", &sink, "--scratch", dir.path().join("scratch").to_str().unwrap()]);
    assert_eq!((&outcome["rows"], &outcome["files"]), (&json!(8), &json!(std::fs::read_dir(&out).unwrap().count())));
    let slow = write(dir.path(), "slow.yaml", yaml(&query("import time\ntime.sleep(60)\nresult = scan('csv')")));
    let output = command(&["run", &slow, "--timeout", "1s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", words(&output));
}

#[test]
fn secrets_and_config_maps_of_a_cluster_are_files_here() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(plans_dir().join(fixture("2.0.0", "ok-join-left"))).unwrap();
    // A Secret as a directory of files, a ConfigMap as lines with base64 in them.
    let secret = dir.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("plan"), &bytes).unwrap();
    let encoded = base64::engine::general_purpose::STANDARD.encode(&bytes);
    let config_map = write(dir.path(), "plans.env", format!("# plans\nplan={encoded}\n"));
    for (reference, option, path) in
        [("secretKeyRef", "--secret", secret.to_str().unwrap()), ("configMapKeyRef", "--config-map", &config_map)]
    {
        let mut query = query("");
        query["spec"]["plan"] = json!({"dsl": {reference: {"name": "plans", "key": "plan"}}});
        query["spec"].as_object_mut().unwrap().remove("tables");
        let file = write(dir.path(), "q.yaml", yaml(&query));
        let given = format!("plans={path}");
        assert!(floe(&["explain", &file, option, &given]).contains("stage 0: "));
        let ran = outcomes(&floe(&["run", "-o", "json", &file, option, &given]));
        assert_eq!(ran[0]["outcome"]["rows"], 6);
        let output = command(&["run", &file]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(words(&output).contains(&format!("add {option} plans=")), "{}", words(&output));
    }
}

#[test]
fn sql_takes_tables_with_a_format_and_views_in_files() {
    if python().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Its name does not tell the format.
    let table = write(dir.path(), "numbers", std::fs::read(plans_dir().join("data/numbers.parquet")).unwrap());
    let view = write(dir.path(), "big.sql", "select x from n where x > 2");
    let (table, views) =
        (format!("n=parquet:{table}"), [format!("big={view}"), "big=select x from n where x > 3".into()]);
    let rows = |view: &str| {
        let args = ["run", "-o", "json", "--table", &table, "--view", view, "--sql", "select * from big"];
        outcomes(&floe(&args))[0]["outcome"]["rows"].clone()
    };
    assert_eq!((rows(&views[0]), rows(&views[1])), (json!(2), json!(1)));
}

#[test]
fn sql_errors_have_their_place() {
    let refused = |args: &[&str], part: &str| {
        let output = command(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", words(&output));
        assert!(words(&output).contains(part), "{}", words(&output));
    };
    for command_name in ["run", "explain"] {
        refused(&[command_name, "--sql", "select 1;\nselect 2"], "line 2, column 1: a second statement begins here");
        refused(&[command_name, "--sql", "drop table t"], "DROP is no query");
        refused(&[command_name, "--sql", "select $x"], "no parameter x in spec.params");
        refused(&[command_name, "--sql", "nowhere.sql"], "nowhere.sql");
    }
}
