use clap::Parser as _;

use super::*;
use crate::args::{Args, Command};

fn args(line: &[&str]) -> SubmitArgs {
    let parsed = Args::try_parse_from(["floe", "submit"].iter().chain(line)).unwrap_or_else(|e| panic!("{e}"));
    match parsed.command {
        Command::Submit(args) => args,
        other => panic!("{other:?}"),
    }
}

fn made(line: &[&str]) -> Value {
    let mut all = queries(&args(line), true).unwrap_or_else(|e| panic!("{:?}", e.lines()));
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn refused(line: &[&str]) -> String {
    queries(&args(line), true).unwrap_err().lines().join("\n")
}

fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_query_is_put_on_a_warm_context_which_has_the_workers() {
    let dir = tempfile::tempdir().unwrap();
    let text = "apiVersion: floe.dev/v1alpha1\nkind: DistributedQuery\nmetadata: {name: q}\n\
                spec: {plan: {sql: SELECT 1}, compute: {workers: 3}}\n";
    let query = file(&dir, "q.yaml", text);
    assert_eq!(made(&[&query, "--on", "warm"])["spec"]["compute"], json!({"contextRef": {"name": "warm"}}));
    let both = Args::try_parse_from(["floe", "submit", &query, "--on", "warm", "--cpus", "4"]).unwrap_err();
    assert!(both.to_string().contains("--on"), "{both}");
}

#[test]
fn options_alone_make_a_query_and_nothing_that_was_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let script = file(&dir, "Daily Top.py", "result = scan('orders')\n");
    let line = [
        "--script",
        &script,
        "--table",
        "orders=s3://lake/orders/",
        "-t",
        "days=s3://lake/days.csv",
        "--sink",
        "s3://lake/out.csv",
        "--sink-mode",
        "overwrite",
        "--workers",
        "8",
        "--cpus",
        "4",
        "--memory",
        "16Gi",
        "--storage",
        "keys",
    ];
    assert_eq!(
        made(&line),
        json!({
            "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"generateName": "daily-top-"},
            "spec": {
                "plan": {"python": {"script": "result = scan('orders')\n"}},
                "tables": {"orders": {"uri": "s3://lake/orders/", "format": "parquet"}, "days": {"uri": "s3://lake/days.csv"}},
                "sink": {"uri": "s3://lake/out.csv", "format": "csv", "mode": "overwrite"},
                "compute": {"workers": 8, "cpus": "4", "memory": "16Gi"},
                "storage": {"secretRef": {"name": "keys"}},
            },
        })
    );
    let mut named = line.to_vec();
    named.extend(["--name", "top"]);
    assert_eq!(made(&named)["metadata"], json!({"name": "top"}));
    // When it is applied repeatedly, it keeps its name.
    assert_eq!(queries(&args(&line), false).unwrap()[0]["metadata"], json!({"name": "daily-top"}));
}

#[test]
fn plans_and_sql_are_sources_too() {
    let sql = made(&["--sql", "SELECT a FROM t", "-t", "t=s3://b/t.parquet"]);
    assert_eq!(sql["spec"]["plan"], json!({"sql": "SELECT a FROM t"}));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/plans/fixtures/2.0.0");
    let plan = std::fs::read_dir(fixtures)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "bin"));
    let plan = plan.unwrap();
    let query = made(&["--plan", plan.to_str().unwrap(), "--name", "p"]);
    let inline = query["spec"]["plan"]["dsl"]["inline"].as_str().unwrap();
    assert_eq!(STANDARD.decode(inline).unwrap(), std::fs::read(&plan).unwrap());
    assert!(query["spec"]["plan"]["dsl"].get("path").is_none());
    let dir = tempfile::tempdir().unwrap();
    let none = file(&dir, "p.bin", "PAR1");
    assert!(refused(&["--plan", &none]).contains("is no plan made by LazyFrame.serialize()"));
}

#[test]
fn a_file_is_changed_by_options_and_keeps_the_rest_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(
        &dir,
        "q.yaml",
        "apiVersion: floe.dev/v1alpha1\nkind: DistributedQuery\nmetadata: {name: q, labels: {team: a}}\nspec:\n  plan: \
         {python: {script: result = 1}}\n  sink: {uri: s3://b/o/, format: ipc, mode: append}\n",
    );
    let query = made(&["-f", &path, "--name", "other", "--sink", "s3://c/o/", "--set", "spec.priority=3"]);
    assert_eq!(query["metadata"], json!({"name": "other", "labels": {"team": "a"}}));
    assert_eq!(query["spec"]["sink"], json!({"uri": "s3://c/o/", "format": "ipc", "mode": "append"}));
    assert_eq!(query["spec"]["priority"], 3);
    assert!(query["spec"].get("backoffLimit").is_none(), "{query}");
}

#[test]
fn what_cannot_be_is_told_before_anything_is_created() {
    let dir = tempfile::tempdir().unwrap();
    let script = file(&dir, "s.py", "result = 1");
    assert!(refused(&["--script", &script, "--cpus", "many"]).contains("spec.compute.cpus"));
    assert!(
        refused(&["--script", &script, "--sink", "s3://b/o/", "--sink-mode", "replace"]).contains("spec.sink.mode")
    );
    assert!(refused(&["--script", &script, "--name", "Bad_Name"]).contains("metadata.name"));
    assert!(
        refused(&["--script", &script, "--secret", "keys=keys.env"]).contains("kubectl create secret generic keys")
    );
    assert!(refused(&["--script", "missing.py"]).contains("cannot read missing.py"));
    let unnamed = "apiVersion: floe.dev/v1alpha1\nkind: DistributedQuery\nmetadata: {generateName: a-}\nspec: {plan: {python: {script: result = 1}}}\n";
    let unnamed = file(&dir, "unnamed.yaml", unnamed);
    assert!(queries(&args(&[&unnamed]), true).is_ok());
    let told = queries(&args(&[&unnamed]), false).unwrap_err().lines().join("\n");
    assert!(told.contains("`apply` needs to know which query it is"), "{told}");
    let two = refused(&["--script", &script, &script.replace("s.py", "none.yaml"), "--name", "a"]);
    assert!(two.contains("none.yaml"), "{two}");
    assert!(Args::try_parse_from(["floe", "submit"]).is_err());
    assert!(Args::try_parse_from(["floe", "submit", "--script", "a", "--sql", "b"]).is_err());
}
