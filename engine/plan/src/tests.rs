//! Plans that every accepted version's own wheel wrote (`tests/plans`): decoded, optimized and run.

use std::path::{Path, PathBuf};

use polars_core::prelude::*;
use polars_io::SerReader;
use polars_lazy::frame::LazyFrame;

use super::*;
use crate::decode::{adapt, parsed};
use floe_polars::contain_panics;

pub(crate) const VERSIONS: [&str; 4] = ["1.43.2", "1.44.2", "2.0.0", "2.1.0"];

pub(super) fn plans_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/plans")
}

pub(crate) fn fixture(version: &str, name: &str) -> Vec<u8> {
    let path = plans_dir().join("fixtures").join(version).join(format!("{name}.bin"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn names(version: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(plans_dir().join("fixtures").join(version))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() > 70, "few fixtures of {version}");
    names
}

fn expected(dir: &str, name: &str) -> DataFrame {
    let path = plans_dir().join(dir).join(format!("{name}.ipc"));
    polars_io::ipc::IpcReader::new(std::fs::File::open(path).unwrap()).finish().unwrap()
}

/// How a result differs from the wheel's, if it does.
fn difference(got: &DataFrame, want: &DataFrame) -> Option<String> {
    if got.schema() != want.schema() {
        return Some(format!("schema {:?} instead of {:?}", got.schema(), want.schema()));
    }
    (!got.equals_missing(want)).then(|| format!("{got} instead of {want}"))
}

#[test]
fn plans_of_every_version_give_the_rows_of_their_wheel() {
    let storage = StorageOptions::default();
    let mut failures = vec![];
    for version in VERSIONS {
        for name in names(version) {
            if !name.starts_with("ok-") && !name.starts_with("files-") {
                continue;
            }
            let outcome = decode_at(&fixture(version, &name), &storage, Some(&plans_dir())).and_then(|loaded| {
                optimize(loaded.plan.clone())?;
                contain_panics("running", || LazyFrame::from(loaded.plan).collect().map_err(polars_error))
            });
            match outcome {
                Err(error) => failures.push(format!("{version} {name}: {} {error}", error.class)),
                Ok(got) => {
                    failures.extend(
                        difference(&got, &expected("expected", &name)).map(|d| format!("{version} {name}: {d}")),
                    );
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn plans_that_read_stores_or_write_decode() {
    let storage: StorageOptions =
        [("aws_access_key_id", "QUERY-KEY"), ("aws_secret_access_key", "QUERY-SECRET")].into_iter().collect();
    let mut failures = vec![];
    for version in VERSIONS {
        for name in names(version).iter().filter(|name| name.starts_with("scan-") || name.starts_with("sink-")) {
            match decode_at(&fixture(version, name), &storage, Some(Path::new("/base"))) {
                Err(error) => failures.push(format!("{version} {name}: {} {error}", error.class)),
                Ok(loaded) => {
                    let text = format!("{:?}", loaded.plan);
                    if name.contains("s3") && (!text.contains("QUERY-SECRET") || text.contains("PLAN-")) {
                        failures.push(format!("{version} {name}: reads with other options than the query's"));
                    }
                    // Options that the query does not set stay as the client gave them.
                    if ["scan-s3", "sink-s3"].contains(&name.as_str()) && !text.contains("eu-central-1") {
                        failures.push(format!("{version} {name}: the plan's region is lost"));
                    }
                    if name == "sink-parquet" && !text.contains("/base/out/x.parquet") {
                        failures.push(format!("{version} {name}: not relative to the base directory: {text}"));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn errors_name_paths_as_the_user_wrote_them() {
    let renamed = [("/base/no/x.csv".to_owned(), "no/x.csv".to_owned())];
    let error = QueryError::user("FileNotFoundError", "No such file or directory (os error 2): /base/no/x.csv");
    assert_eq!(as_written(error, &renamed).message, "No such file or directory (os error 2): no/x.csv");
    for version in VERSIONS {
        for name in names(version).iter().filter(|name| *name == "sink-parquet") {
            let loaded =
                decode_at(&fixture(version, name), &StorageOptions::default(), Some(Path::new("/base"))).unwrap();
            assert!(
                loaded.renamed.contains(&("/base/out/x.parquet".into(), "out/x.parquet".into())),
                "{:?}",
                loaded.renamed
            );
        }
    }
}

/// Fixtures whose functions are called.
const CALLED: [&str; 9] = [
    "python-map-elements",
    "python-map-batches",
    "python-agg",
    "python-frame",
    "python-map-groups",
    "python-fold",
    "python-reduce",
    "python-name-map",
    "python-scan",
];

#[test]
fn python_and_sql_are_refused_by_name() {
    let table = [
        (
            "python-map-elements",
            "a function over the values of column \"id\" (map_elements, map_batches); write it with",
        ),
        (
            "python-map-batches",
            "a function over the values of column \"id\" (map_elements, map_batches); write it with",
        ),
        ("python-agg", "a function over the values of column \"id\""),
        ("python-frame", "a function over whole frames (LazyFrame.map_batches); write it with LazyFrame methods"),
        ("python-map-groups", "a function applied to whole groups (map_groups)"),
        ("python-delta", "a table that is resolved in Python; give the URI of a Delta table"),
        ("python-iceberg", "a table that is resolved in Python; give the URI of a Delta table"),
        ("python-pipe-dtype", "a function over the dtype of an expression (pipe_with_dtype)"),
        ("python-pipe", "a function over the plan and its schema (pipe_with_schema); call it with LazyFrame.pipe"),
        ("python-fold", "a function that folds columns (fold, reduce); use sum_horizontal"),
        ("python-reduce", "a function that folds columns (fold, reduce); use sum_horizontal"),
        ("python-name-map", "a function over column names (name.map); use name.prefix"),
        ("python-scan", "a source in Python (an IO plugin or a PyArrow dataset); read the files with scan_parquet"),
        ("python-sink-provider", "a function that names the sink's files (file_path_provider); leave the names"),
        ("python-sink-batches", "a sink that calls a function (sink_batches); write to files"),
    ];
    for version in VERSIONS {
        for name in names(version) {
            if name.starts_with("python-") {
                let part = table.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no message for {name}")).1;
                let bytes = fixture(version, &name);
                // The fixtures with callable functions are refused where functions are switched off.
                let (client, document) = versions::split(&bytes).unwrap();
                let mut tree = parsed(document).unwrap();
                let error = refuse::check(&tree).unwrap_err();
                let carried = functions::carry(&mut tree, client, true).unwrap();
                assert_eq!(!carried.is_empty(), CALLED.contains(&name.as_str()), "{version} {name}");
                let decoded = decode(&bytes, &StorageOptions::default());
                assert_eq!(decoded.is_ok(), CALLED.contains(&name.as_str()), "{version} {name}: {decoded:?}");
                assert_eq!(error.class, "PythonInPlan", "{version} {name}: {error}");
                let start = "the plan holds Python code, which this engine does not run: ";
                assert!(error.message.starts_with(&format!("{start}{part}")), "{version} {name}: {error}");
            }
            if name.starts_with("sql-") {
                let outcome = decode(&fixture(version, &name), &StorageOptions::default());
                if version.starts_with("1.") {
                    outcome.unwrap();
                } else {
                    let error = outcome.unwrap_err();
                    assert_eq!(error.class, "SqlInPlan", "{version} {name}: {error}");
                    assert!(error.message.starts_with("the plan holds SQL as text (SELECT "), "{error}");
                }
            }
        }
    }
}

/// Every field of a plan must be known to the decoder or removed by a rewrite: the decoder silently skips unknown
/// fields, and the query would do something else.
#[test]
fn no_field_of_any_version_is_skipped_silently() {
    let mut skipped = std::collections::BTreeSet::new();
    for version in VERSIONS {
        for name in names(version) {
            if !["python-", "sql-", "new-"].iter().any(|kind| name.starts_with(kind)) {
                let fields =
                    skipped_fields(&fixture(version, &name)).unwrap_or_else(|e| panic!("{version} {name}: {e}"));
                skipped.extend(fields.into_iter().map(|field| format!("{version} {name}: {field}")));
            }
        }
    }
    assert!(skipped.is_empty(), "{skipped:#?}");
}

/// The fields that are missing after decoding and encoding a plan.
fn skipped_fields(bytes: &[u8]) -> Result<std::collections::BTreeSet<String>> {
    fn collect(node: &msgpack::Node<'_>, parent: &str, out: &mut std::collections::BTreeSet<String>) {
        if let Some(items) = node.as_seq() {
            items.iter().for_each(|item| collect(item, parent, out));
        }
        for (key, value) in node.as_map().unwrap_or_default() {
            let key = key.as_str().unwrap_or("?");
            if key != "fields" {
                out.insert(format!("{parent}.{key}"));
                collect(value, key, out);
            }
        }
    }
    let (client, document) = versions::split(bytes)?;
    on_big_stack(|| {
        let rewritten = adapt(client, document, &StorageOptions::default(), None)?.bytes;
        let plan = floe_codec::decode_dsl(&rewritten).map_err(polars_error)?;
        let again = floe_codec::encode_dsl(&plan).map_err(polars_error)?;
        let (mut before, mut after) = (Default::default(), Default::default());
        collect(&msgpack::parse(versions::split(&rewritten)?.1).unwrap(), "", &mut before);
        collect(&msgpack::parse(versions::split(&again)?.1).unwrap(), "", &mut after);
        Ok(before.difference(&after).cloned().collect())
    })
}

#[test]
fn what_2x_added_is_refused_by_name() {
    let table = [
        ("new-struct-eval", "the plan uses struct.eval, which came with Polars 2.0 and this engine"),
        ("new-erf", "the plan of Polars 2.1 uses `Erf`, which this engine (Rust Polars 0.55.2) does not have"),
    ];
    let seen = names("2.1.0").into_iter().filter(|name| name.starts_with("new-"));
    for name in seen {
        let part = table.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no message for {name}")).1;
        let error = decode(&fixture("2.1.0", &name), &StorageOptions::default()).unwrap_err();
        assert_eq!(error.class, "UnsupportedPlan", "{name}: {error}");
        assert!(error.message.starts_with(part), "{name}: {error}");
    }
}

/// Damaged plans must not panic, hang or allocate without bound: every prefix of a plan, and random changes from a
/// seed.
#[test]
fn damaged_plans_are_errors() {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    let plan = fixture("2.1.0", "ok-join-left");
    let storage = StorageOptions::default();
    for end in (0..plan.len()).step_by(7) {
        let error = decode(&plan[..end], &storage).unwrap_err();
        assert_eq!(error.class, "BadPlan", "prefix of {end}: {error}");
    }
    let seed = std::env::var("FLOE_SEED").map_or(20_261_121, |seed| seed.parse().unwrap());
    let rounds = std::env::var("FLOE_ROUNDS").map_or(300, |rounds| rounds.parse().unwrap());
    println!("FLOE_SEED={seed} FLOE_ROUNDS={rounds}");
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..rounds {
        let mut broken = plan.clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(versions::HEADER_LEN..broken.len());
            broken[at] = rng.random();
        }
        // Many changes hit the data of a frame and still decode; only panics and hangs count here.
        if let Err(error) = decode(&broken, &storage) {
            assert!(!error.message.is_empty());
        }
    }
}

#[test]
fn changes_between_versions_are_warned_of() {
    for version in ["1.43.2", "1.44.2"] {
        for name in names(version).iter().filter(|name| name.starts_with("warn-")) {
            assert_eq!(
                decode(&fixture(version, name), &StorageOptions::default()).unwrap().warnings,
                [""; 0],
                "{name}"
            );
        }
    }
    let table = [
        ("warn-mixed-integers", "UInt64 combined with a signed integer is Int128 there"),
        ("warn-struct-float", "arithmetic of a struct with a float"),
        ("warn-zfill", "str.zfill counts characters there"),
        ("warn-join-keys", "the dtype of a joined key"),
        ("warn-no-columns", "a literal column on a frame with no columns"),
    ];
    for version in ["2.0.0", "2.1.0"] {
        for (name, part) in table {
            let warnings = decode(&fixture(version, name), &StorageOptions::default()).unwrap().warnings;
            let [warning] = warnings.as_slice() else { panic!("{version} {name}: {warnings:?}") };
            assert!(warning.starts_with("Polars 2.x and this engine (0.55.2) differ here: "), "{warning}");
            assert!(warning.contains(part), "{warning}");
            // A warning where nothing differs would be noise.
            let here = decode(&fixture(version, name), &StorageOptions::default())
                .and_then(|loaded| LazyFrame::from(loaded.plan).collect().map_err(polars_error))
                .unwrap();
            assert!(difference(&here, &expected("expected/2.x", name)).is_some(), "{version} {name} does not differ");
        }
        for name in names(version).iter().filter(|name| name.starts_with("ok-")) {
            let warnings = decode(&fixture(version, name), &StorageOptions::default()).unwrap().warnings;
            assert_eq!(warnings, [""; 0], "{version} {name} warns for nothing");
        }
    }
}

/// The formats differ in joins of all kinds, scans, selections and structs.
#[test]
fn plans_round_trip_through_every_client() {
    let storage = StorageOptions::default();
    let kept = |name: &&String| name.starts_with("ok-") || name.starts_with("files-") || name.starts_with("sink-");
    for name in names("1.43.2").iter().filter(kept) {
        let bytes = floe_codec::encode_dsl(&decode(&fixture("1.43.2", name), &storage).unwrap().plan).unwrap();
        for reader in [Client::V1_43, Client::V1_44, Client::V2_0, Client::V2_1] {
            let written = as_written_by(reader, &bytes).unwrap();
            assert_eq!(client(&written).unwrap(), reader);
            let back = floe_codec::encode_dsl(&decode(&written, &storage).unwrap().plan).unwrap();
            assert!(back == bytes, "{name} for {reader:?}");
            assert_eq!(as_written_by(Client::V2_1, &written).unwrap(), written, "a client's plan stays as it is");
        }
    }
}
