//! File contents: as Polars' own sinks write them, and readable by Polars.

use std::sync::Arc;

use floe_api::{CsvSinkSpec, Format, SinkCompression, SinkMode, SinkSpec};
use polars::prelude::*;
use polars_plan::{
    dsl::{FileWriteFormat, PartitionStrategy, SinkDestination, SinkTarget, SinkTypeIR, UnifiedSinkArgs},
    plans::IR,
};
use polars_utils::pl_path::PlRefPath;

use super::support::{Place, large, local, rows, s3, stage, task, write};
use crate::sink::{Plan, TaskSink, abort, begin, commit, from_ir, lease};
use floe_exec::RowSink;

fn path(place: &Place, below: &str) -> PlRefPath {
    PlRefPath::new(place.uri(below).as_str())
}

#[test]
fn every_format_is_read_back() {
    for place in [local(), s3()] {
        let frame = rows(0, 100);
        for (format, name) in [
            (Format::Csv, "x.csv"),
            (Format::Ndjson, "x.ndjson"),
            (Format::Ipc, "x.ipc"),
            (Format::Parquet, "x.parquet"),
            (Format::Csv, "x.csv.gz"),
        ] {
            let spec = SinkSpec { format: None, ..place.spec(name, SinkMode::Overwrite) };
            assert_eq!(spec.resolved_format(), Some(format));
            let summary = place.run(&spec, "q", std::slice::from_ref(&frame)).unwrap();
            let data = place.read(name);
            assert_eq!(summary.bytes, data.len() as u64);
            let cursor = std::io::Cursor::new(data);
            let back = match format {
                Format::Csv => CsvReader::new(cursor).finish(),
                Format::Ndjson => JsonReader::new(cursor).with_json_format(JsonFormat::JsonLines).finish(),
                Format::Ipc => IpcReader::new(cursor).finish(),
                _ => ParquetReader::new(cursor).finish(),
            };
            assert!(back.unwrap().equals_missing(&frame), "{name}");
        }
        assert!(place.is_clean());
    }
}

#[test]
fn options_reach_the_writers() {
    let place = local();
    let csv = CsvSinkSpec { separator: ";".into(), null_value: "NA".into(), ..CsvSinkSpec::default() };
    let spec = SinkSpec { format: Some(Format::Csv), csv: Some(csv), ..place.spec("c.csv", SinkMode::Error) };
    place.run(&spec, "q", &[df!("x" => [Some(1), None], "y" => ["a", "b;c"]).unwrap()]).unwrap();
    assert_eq!(place.read("c.csv"), "x;y\n1;a\nNA;\"b;c\"\n");

    let spec = SinkSpec {
        compression: Some(SinkCompression::Zstd),
        compression_level: Some(3),
        row_group_size: Some(10),
        ..place.spec("p.parquet", SinkMode::Error)
    };
    place.run(&spec, "q", &[rows(0, 35)]).unwrap();
    let mut reader = ParquetReader::new(std::io::Cursor::new(place.read("p.parquet")));
    let metadata = reader.get_metadata().unwrap();
    assert_eq!(metadata.row_groups.iter().map(|group| group.num_rows()).collect::<Vec<_>>(), [10, 10, 10, 5]);
}

#[test]
fn files_are_limited() {
    let place = local();
    let spec = SinkSpec { max_file_rows: Some(4), ..place.spec("t/", SinkMode::Error) };
    let summary = place.run(&spec, "q", &[rows(0, 10), rows(10, 12)]).unwrap();
    assert_eq!(summary.files, 4);
    assert_eq!(place.values(), (0..12).collect::<Vec<_>>());
}

/// A file has the requested size, whatever its rows take in memory, once the ratio is known.
#[test]
fn files_have_the_requested_size() {
    const WANTED: u64 = 1 << 20;
    let frame = large(0, 600_000);
    for (format, compression) in [
        (Format::Parquet, Some(SinkCompression::Zstd)),
        (Format::Csv, None),
        (Format::Csv, Some(SinkCompression::Gzip)),
        (Format::Ipc, None),
    ] {
        let place = local();
        let spec = SinkSpec {
            format: Some(format),
            compression,
            max_file_size: Some("1Mi".into()),
            ..place.spec("t/", SinkMode::Error)
        };
        let plan = place.prepare(&spec, "sized").unwrap();
        let staged = stage(&plan, &[frame.clone(), frame.clone()]);
        commit(&plan, &staged).unwrap();
        lease::die_quietly(&plan);
        let sizes: Vec<u64> = place
            .everything()
            .iter()
            .filter(|name| name.contains("-00001-"))
            .map(|name| place.read(name).len() as u64)
            .collect();
        let (_, whole) = sizes.split_last().unwrap();
        assert!(!whole.is_empty(), "{format:?}: {sizes:?}");
        let near = whole.iter().all(|size| (WANTED / 2..WANTED * 2).contains(size));
        assert!(near, "{format:?} {compression:?}: {sizes:?}");
        crate::sink::forget("sized");
    }
}

#[test]
fn no_rows_still_have_a_schema() {
    for place in [local(), s3()] {
        let summary =
            place.run(&place.spec("t/", SinkMode::Error), "q", &[rows(0, 0), rows(0, 0), rows(0, 0)]).unwrap();
        assert_eq!((summary.files, summary.rows), (1, 0));
        let name = place.everything().pop().unwrap();
        let back = ParquetReader::new(std::io::Cursor::new(place.read(&name))).finish().unwrap();
        assert_eq!(back.schema(), rows(0, 0).schema());
    }
}

/// Unusual values in keys: partitions are named as by Polars, and its scan reads them back.
#[test]
fn partitions_are_those_of_polars() {
    for place in [local(), s3()] {
        let frame = df!(
            "a" => (0..6i64).collect::<Vec<_>>(),
            "k" => [Some("x y"), Some("a/b"), None, Some("50%"), Some("ü=é"), Some("")],
            "d" => [1i32, 1, 2, 2, 3, 3],
        )
        .unwrap();
        let spec = SinkSpec {
            partition_by: vec!["k".into(), "d".into()],
            include_keys: false,
            ..place.spec("ours/t/", SinkMode::Error)
        };
        place.run(&spec, "q", &[frame.slice(0, 3), frame.slice(3, 3)]).unwrap();
        let keys = |names: &[&str]| names.iter().map(|name| col(*name)).collect::<Vec<_>>();
        let arguments = UnifiedSinkArgs {
            mkdir: true,
            cloud_options: place.options.cloud_options(&place.uri("")).unwrap().map(Arc::new),
            ..UnifiedSinkArgs::default()
        };
        frame
            .clone()
            .lazy()
            .sink(
                SinkDestination::Partitioned {
                    base_path: path(&place, "theirs/t"),
                    file_path_provider: None,
                    partition_strategy: PartitionStrategy::Keyed {
                        keys: keys(&["k", "d"]),
                        include_keys: false,
                        keys_pre_grouped: false,
                    },
                    max_rows_per_file: u32::MAX,
                    approximate_bytes_per_file: u64::MAX,
                },
                FileWriteFormat::Parquet(Default::default()),
                arguments,
            )
            .unwrap()
            .with_streaming(true)
            .collect()
            .unwrap();
        let directories = |top: &str| {
            let mut all: Vec<String> = place
                .everything()
                .iter()
                .filter_map(|name| Some(name.strip_prefix(top)?.rsplit_once('/')?.0.to_owned()))
                .collect();
            all.sort();
            all
        };
        assert_eq!(directories("ours/"), directories("theirs/"));
        assert_eq!(directories("ours/").len(), 6);
        let scan = ScanArgsParquet {
            cloud_options: place.options.cloud_options(&place.uri("")).unwrap(),
            hive_options: polars::prelude::HiveOptions::new_enabled(),
            ..ScanArgsParquet::default()
        };
        let back = LazyFrame::scan_parquet(path(&place, "ours/t/"), scan).unwrap().sort(["a"], Default::default());
        let back = back.select([col("a"), col("d").cast(DataType::Int32)]).collect().unwrap();
        assert!(back.equals(&frame.select(["a", "d"]).unwrap()), "{back}");
        assert!(place.is_clean());
    }
}

/// Runs a plan that ends in its own sink, with one task per element of `parts`.
fn run_own(place: &Place, destination: SinkDestination, parts: &[DataFrame]) -> floe_wire::error::Result<Plan> {
    let plan = parts[0]
        .clone()
        .lazy()
        .sink(destination, FileWriteFormat::Parquet(Default::default()), UnifiedSinkArgs::default())
        .unwrap()
        .to_alp_optimized()
        .unwrap();
    let IR::Sink { payload, .. } = plan.lp_arena.get(plan.lp_top) else { panic!("no sink") };
    let mut sink = from_ir(payload, &plan.expr_arena, &|_| place.options.clone(), "own")?.unwrap();
    begin(&mut sink)?;
    let staged = stage(&sink, parts);
    commit(&sink, &staged)?;
    Ok(sink)
}

#[test]
fn a_plans_own_sink_uses_the_same_commit() {
    for place in [local(), s3()] {
        let file = |name: &str| SinkDestination::File { target: SinkTarget::Path(path(&place, name)) };
        let sink = run_own(&place, file("one.parquet"), &[rows(0, 5)]).unwrap();
        assert!(sink.single_file() && sink.single_task());
        assert_eq!(place.everything(), ["one.parquet"]);
        // Polars replaces an existing file.
        run_own(&place, file("one.parquet"), &[rows(5, 7)]).unwrap();
        assert_eq!(place.values(), [5, 6]);
        floe_storage::delete_prefix(&place.uri("one.parquet"), &place.options).unwrap();
    }
    let place = local();
    let missing = SinkDestination::File { target: SinkTarget::Path(path(&place, "no/such/x.parquet")) };
    let error = run_own(&place, missing, &[rows(0, 1)]).map(drop).unwrap_err();
    assert_eq!(error.class, "FileNotFoundError");
    assert!(error.message.starts_with("No such file or directory (os error 2): "), "{error}");

    let device = SinkDestination::File { target: SinkTarget::Path(PlRefPath::new("/dev/null")) };
    run_own(&place, device, &[rows(0, 1)]).unwrap();
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn a_partitioned_sink_keeps_its_names() {
    let place = local();
    let keyed = SinkDestination::Partitioned {
        base_path: path(&place, "p"),
        file_path_provider: None,
        partition_strategy: PartitionStrategy::Keyed {
            keys: vec![(col("a") % lit(2)).alias("even")],
            include_keys: true,
            keys_pre_grouped: false,
        },
        max_rows_per_file: u32::MAX,
        approximate_bytes_per_file: u64::MAX,
    };
    let sink = run_own(&place, keyed, &[rows(0, 4), rows(4, 8)]).unwrap();
    assert!(!sink.single_task());
    assert_eq!(
        place.everything(),
        [
            "p/even=0/00000000.parquet",
            "p/even=0/00000001.parquet",
            "p/even=1/00000000.parquet",
            "p/even=1/00000001.parquet"
        ]
    );
    assert_eq!(place.values(), [0, 2, 4, 6, 1, 3, 5, 7]);
}

#[test]
fn a_dropped_task_removes_its_files() {
    let place = local();
    let plan = place.prepare(&place.spec("t.parquet", SinkMode::Error), "q").unwrap();
    let sink = TaskSink::new(&plan, task(0), 1).unwrap();
    let mut other = rows(0, 3).lazy().to_alp_optimized().unwrap();
    sink.attach(&mut other, Arc::new(|frame, _| Ok(frame))).unwrap();
    assert!(matches!(other.lp_arena.get(other.lp_top), IR::Sink { payload: SinkTypeIR::File(_), .. }));
    let staged = |place: &Place| place.everything().iter().filter(|name| !name.ends_with("lock")).count();
    assert_eq!(staged(&place), 1);
    drop(sink);
    assert_eq!(staged(&place), 0);
    let done = stage(&plan, &[rows(0, 2)]);
    commit(&plan, &done).unwrap();
    assert_eq!(place.values(), [0, 1]);
    abort(&plan).unwrap();
    assert_eq!(place.values(), [0, 1], "what is committed stays");
}

#[test]
fn unsupported_types_give_the_error_of_polars() {
    let place = local();
    let nested = df!("l" => [Series::new("".into(), [1, 2])]).unwrap();
    let spec = SinkSpec { format: Some(Format::Csv), ..place.spec("t/", SinkMode::Error) };
    let plan = place.prepare(&spec, "q").unwrap();
    let ours = write(&plan, task(0), &nested).unwrap_err();
    let theirs = CsvWriter::new(std::io::sink()).finish(&mut nested.clone()).unwrap_err();
    assert_eq!((ours.category, ours.class.as_str()), (floe_wire::error::Category::User, "ComputeError"));
    assert!(theirs.to_string().contains(&ours.message), "{ours} != {theirs}");
    abort(&plan).unwrap();
    assert_eq!(place.everything(), Vec::<String>::new());
}
