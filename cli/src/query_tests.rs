use super::*;

const QUERY: &str = "
apiVersion: floe.dev/v1alpha1
kind: DistributedQuery
metadata: {name: q}
spec:
  plan: {python: {script: 'result = scan(\"t\")'}}
  tables: {t: {format: parquet, uri: s3://b/t/}}
  storage: {secretRef: {name: keys}}
  compute: {minWorkers: 1, maxWorkers: 2}
";

fn file(dir: &Path, name: &str, text: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
    given.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn faults(failure: Failure) -> Vec<String> {
    match failure {
        Failure::Spec { faults, .. } => faults.iter().map(ToString::to_string).collect(),
        other => vec![other.to_string()],
    }
}

#[test]
fn the_command_line_wins_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "q.yaml", QUERY.as_bytes());
    let args = QueryArgs {
        workers: Some(5),
        mode: Some("distributed".into()),
        set: pairs(&[("spec.compute.memory", "4Gi"), ("spec.execution.shuffle.compression", "zstd")]),
        param: pairs(&[("n", "3"), ("day", "2026-11-21"), ("list", "[1, a]")]),
        ..QueryArgs::default()
    };
    let query = load(&path, &args).unwrap();
    assert_eq!(query.spec.compute.worker_count(), 5);
    assert_eq!(query.spec.compute.memory.as_str(), "4Gi");
    assert_eq!(query.spec.execution.mode, floe_api::Mode::Distributed);
    assert_eq!(query.spec.params["n"], json!(3));
    assert_eq!(query.spec.params["list"], json!([1, "a"]));
}

#[test]
fn what_the_command_line_breaks_is_told_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "q.yaml", QUERY.as_bytes());
    for (set, told) in [
        (("spec.compute.wrokers", "3"), "spec.compute.wrokers: unknown field, did you mean \"workers\"?"),
        (
            ("spec.plan.python.script.x", "3"),
            "spec.plan.python.script.x: cannot be set: what holds it is not an object",
        ),
        (("spec.compute.env[0].name", "A"), "spec.compute.env[0].name: cannot be set: there is no item 0 in the list"),
        (("spec.compute.env[x]", "A"), "spec.compute.env[x]: write an item of a list as name[0]"),
        (
            ("spec.execution.mode", "fast"),
            "spec.execution.mode: must be one of auto, distributed and single-node, is \"fast\"",
        ),
    ] {
        let args = QueryArgs { set: pairs(&[set]), ..QueryArgs::default() };
        assert_eq!(faults(load(&path, &args).unwrap_err()), [told]);
    }
    let args = QueryArgs { set: pairs(&[("spec.sink", "[")]), ..QueryArgs::default() };
    assert!(faults(load(&path, &args).unwrap_err())[0].starts_with("--set spec.sink: the value is not YAML"));
}

#[test]
fn secrets_come_from_files_and_directories_and_are_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "q.yaml", QUERY.as_bytes());
    let keys = file(dir.path(), "keys.env", b"# keys\naws_access_key_id=me\naws_secret_access_key = hunter2\n");
    let given = |path: &Path| QueryArgs { secret: pairs(&[("keys", path.to_str().unwrap())]), ..QueryArgs::default() };

    let prepared = prepare(load(&path, &given(&keys)).unwrap(), &given(&keys)).unwrap();
    assert_eq!(prepared.job.secrets[""]["aws_secret_access_key"].reveal(), "hunter2");
    assert!(!format!("{prepared:?}").contains("hunter2"));

    let mounted = dir.path().join("mounted");
    std::fs::create_dir_all(mounted.join("..data")).unwrap();
    file(&mounted, "aws_access_key_id", b"you\n");
    let prepared = prepare(load(&path, &given(&mounted)).unwrap(), &given(&mounted)).unwrap();
    assert_eq!(prepared.job.secrets[""]["aws_access_key_id"].reveal(), "you");
    assert_eq!(prepared.job.secrets[""].len(), 1);

    let none = QueryArgs::default();
    assert_eq!(
        faults(prepare(load(&path, &none).unwrap(), &none).unwrap_err()),
        [
            "spec.storage.secretRef: the Secret \"keys\" is in a cluster: add --secret keys=<a file of key=value lines, or a directory with a file per key>"
        ]
    );
}

#[test]
fn plans_by_reference_become_inline() {
    let dir = tempfile::tempdir().unwrap();
    let text = "
apiVersion: floe.dev/v1alpha1
kind: DistributedQuery
metadata: {name: q}
spec:
  plan: {dsl: {configMapKeyRef: {name: plans, key: q.bin}}}
  compute: {requirements: [six==1.17.0, attrs], env: [{name: A, value: b}, {name: C, valueFrom: {configMapKeyRef: {name: plans, key: c}}}]}
";
    let path = file(dir.path(), "q.yaml", text.as_bytes());
    let plans = dir.path().join("plans");
    std::fs::create_dir(&plans).unwrap();
    file(&plans, "c", b"d");
    let args = QueryArgs { config_map: pairs(&[("plans", plans.to_str().unwrap())]), ..QueryArgs::default() };
    assert_eq!(
        faults(prepare(load(&path, &args).unwrap(), &args).unwrap_err()),
        ["spec.plan.dsl.configMapKeyRef: the ConfigMap \"plans\" has no key \"q.bin\""]
    );
    for bytes in [b"\x18\x00\x00\x00\xff\xfe".as_slice(), b"GAAAAP/+\n"] {
        file(&plans, "q.bin", bytes);
        let prepared = prepare(load(&path, &args).unwrap(), &args).unwrap();
        assert_eq!(prepared.job.spec.plan.dsl.unwrap().inline.as_deref(), Some("GAAAAP/+"));
        let env: Vec<_> = prepared.env.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
        assert_eq!(
            env,
            [("A", "b"), ("C", "d"), ("FLOE_FUNCTION_ENV", "A,C"), ("FLOE_REQUIREMENTS", "six==1.17.0\nattrs")]
        );
    }
}

/// Plans written by the wheel of each accepted version.
fn written_by_wheels() -> Vec<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/plans/fixtures");
    let versions = std::fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path());
    let plans = versions.flat_map(|version| std::fs::read_dir(version).unwrap().map(|entry| entry.unwrap().path()));
    plans.filter(|path| path.extension().is_some_and(|extension| extension == "bin")).collect()
}

#[test]
fn plans_of_every_accepted_version_are_recognised() {
    let plans = written_by_wheels();
    assert!(plans.len() > 4 * 70, "only {} fixtures", plans.len());
    for path in plans {
        let query = load(&path, &QueryArgs::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(query.spec.plan.dsl.unwrap().path.as_deref(), path.to_str());
    }
}

#[test]
fn a_serialized_plan_is_a_query_named_after_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(written_by_wheels().pop().unwrap()).unwrap();
    for (name, expected) in [("Top Ten.bin", "top-ten"), ("8bae.bin", "plan-8bae"), ("___.bin", "plan")] {
        let path = file(dir.path(), name, &bytes);
        let query = load(&path, &QueryArgs::default()).unwrap();
        assert_eq!(query.metadata.name.as_deref(), Some(expected));
        assert_eq!(query.spec.plan.dsl.unwrap().path.as_deref(), path.to_str());
    }
}

#[test]
fn files_that_are_no_queries_are_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let none = QueryArgs::default();
    assert!(matches!(load(&dir.path().join("missing.yaml"), &none), Err(Failure::Read { .. })));
    assert!(matches!(load(dir.path(), &none), Err(Failure::Usage(_))));
    let binary = file(dir.path(), "x.parquet", b"PAR1\xff\xfe\x00");
    assert_eq!(
        faults(load(&binary, &none).unwrap_err()),
        ["is neither YAML text nor a plan made by LazyFrame.serialize()"]
    );
    let suspended = file(dir.path(), "s.yaml", format!("{QUERY}  suspend: true\n").as_bytes());
    assert_eq!(
        faults(prepare(load(&suspended, &none).unwrap(), &none).unwrap_err()),
        ["spec.suspend: is true: add --set spec.suspend=false to run the query"]
    );
    let later = file(dir.path(), "l.yaml", format!("{QUERY}  after: [{{query: first}}]\n").as_bytes());
    assert_eq!(
        faults(prepare(load(&later, &none).unwrap(), &none).unwrap_err()),
        ["spec.after: names queries of a cluster: run those first, and this one with --set spec.after=[]"]
    );
    let args = QueryArgs { set: pairs(&[("spec.after", "[]")]), ..QueryArgs::default() };
    assert!(load(&later, &args).unwrap().spec.after.is_empty());
}
