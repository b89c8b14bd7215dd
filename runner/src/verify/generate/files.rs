//! Frames as sources: in the plan (whole or in parts), or written to parquet, ipc, csv or ndjson files (one or several,
//! some hive-partitioned) and scanned.

use std::fs::File;
use std::path::Path;

use polars::prelude::*;
use polars_plan::dsl::{
    DslPlan, FileSinkOptions, FileWriteFormat, PartitionStrategy, PartitionedSinkOptions, SinkTarget, SinkType,
    UnifiedSinkArgs,
};

use super::{Gen, Scope};

/// A frame as the source of a plan.
pub fn source(g: &mut Gen, frame: DataFrame, dir: &Path) -> PolarsResult<DslPlan> {
    let what = g.below(20);
    let scanned = match what {
        0..=11 => None,
        12..=14 => Some(parquet(g, &frame, dir)),
        15 => Some(hive(g, &frame, dir)),
        16 | 17 => Some(ipc(g, &frame, dir)),
        18 => Some(csv(g, &frame, dir)),
        _ => Some(ndjson(g, &frame, dir)),
    };
    // What a format cannot hold stays in the plan.
    if let Some(Ok(plan)) = scanned {
        return Ok(plan);
    }
    if g.chance(0.2) && frame.height() > 2 {
        let cut = 1 + g.below(frame.height() - 1);
        let parts = [frame.slice(0, cut), frame.slice(cut as i64, frame.height() - cut)];
        let parts = parts.map(|part| part.lazy());
        return Ok(concat(parts, UnionArgs::default())?.logical_plan);
    }
    Ok(frame.lazy().logical_plan)
}

/// A fresh directory for one source.
fn fresh(g: &mut Gen, dir: &Path) -> PolarsResult<std::path::PathBuf> {
    g.files += 1;
    let dir = dir.join(format!("source{}", g.files));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// One to four slices of the frame.
fn parts(g: &mut Gen, frame: &DataFrame) -> Vec<DataFrame> {
    let count = 1 + g.below(4);
    let height = frame.height();
    (0..count)
        .map(|i| {
            let (from, to) = (height * i / count, height * (i + 1) / count);
            let mut part = frame.slice(from as i64, to - from);
            part.rechunk_mut();
            part
        })
        .collect()
}

fn reference(path: &Path) -> PlRefPath {
    PlRefPath::new(path.to_string_lossy().as_ref())
}

fn parquet(g: &mut Gen, frame: &DataFrame, dir: &Path) -> PolarsResult<DslPlan> {
    let dir = fresh(g, dir)?;
    for (i, mut part) in parts(g, frame).into_iter().enumerate() {
        let rows = *g.pick(&[3_usize, 50, 1000]);
        let compression = *g.pick(&[ParquetCompression::Snappy, ParquetCompression::Uncompressed]);
        ParquetWriter::new(File::create(dir.join(format!("part-{i}.parquet")))?)
            .with_row_group_size(Some(rows))
            .with_compression(compression)
            .finish(&mut part)?;
    }
    let at = if g.chance(0.5) { dir.join("*.parquet") } else { dir };
    let mut args = ScanArgsParquet::default();
    if g.chance(0.1) {
        args.row_index = Some(RowIndex { name: "row".into(), offset: 3 });
    }
    if g.chance(0.1) {
        args.n_rows = Some(g.below(frame.height() + 2));
    }
    Ok(LazyFrame::scan_parquet(reference(&at), args)?.logical_plan)
}

/// Partitions by `k`, which then comes last and is read from the paths.
fn hive(g: &mut Gen, frame: &DataFrame, dir: &Path) -> PolarsResult<DslPlan> {
    let dir = fresh(g, dir)?;
    let groups = frame.partition_by_stable(["k"], true)?;
    polars_ensure!(!groups.is_empty() && groups.len() < 40, ComputeError: "too many or no partitions");
    for group in groups {
        let key = match group.column("k")?.get(0)? {
            AnyValue::Int64(v) => v.to_string(),
            _ => "__HIVE_DEFAULT_PARTITION__".into(),
        };
        let inside = dir.join(format!("k={key}"));
        std::fs::create_dir_all(&inside)?;
        let mut rest = group.drop("k")?;
        ParquetWriter::new(File::create(inside.join("part.parquet"))?).finish(&mut rest)?;
    }
    let args = ScanArgsParquet { hive_options: HiveOptions::new_enabled(), ..ScanArgsParquet::default() };
    Ok(LazyFrame::scan_parquet(reference(&dir), args)?.logical_plan)
}

fn ipc(g: &mut Gen, frame: &DataFrame, dir: &Path) -> PolarsResult<DslPlan> {
    let dir = fresh(g, dir)?;
    for (i, mut part) in parts(g, frame).into_iter().enumerate() {
        let compression = *g.pick(&[None, Some(IpcCompression::LZ4)]);
        IpcWriter::new(File::create(dir.join(format!("part-{i}.arrow")))?)
            .with_compression(compression)
            .finish(&mut part)?;
    }
    let args = UnifiedScanArgs::default();
    Ok(LazyFrame::scan_ipc(reference(&dir.join("*.arrow")), IpcScanOptions::default(), args)?.logical_plan)
}

/// The plan with its own sink on top: one file, or files partitioned by `k` if there is such a column.
pub fn sink(g: &mut Gen, plan: DslPlan, scope: &Scope, dir: &Path) -> DslPlan {
    let flat = scope.cols.iter().all(|(_, d)| !d.is_nested() && !matches!(d, DataType::Binary));
    let (extension, file_format) = match g.below(if flat { 4 } else { 2 }) {
        0 => ("parquet", FileWriteFormat::Parquet(ParquetWriteOptions::default().into())),
        1 => ("arrow", FileWriteFormat::Ipc(IpcWriterOptions::default())),
        2 => ("csv", FileWriteFormat::Csv(CsvWriterOptions::default())),
        _ => ("ndjson", FileWriteFormat::NDJson(NDJsonWriterOptions::default())),
    };
    let unified_sink_args =
        UnifiedSinkArgs { mkdir: true, maintain_order: g.chance(0.8), ..UnifiedSinkArgs::default() };
    let keyed = scope.dtype("k") == Some(&DataType::Int64) && scope.cols.len() > 1 && g.chance(0.4);
    let payload = if keyed {
        SinkType::Partitioned(PartitionedSinkOptions {
            base_path: reference(&dir.join("out")),
            file_path_provider: None,
            partition_strategy: PartitionStrategy::Keyed {
                keys: vec![col("k")],
                include_keys: g.chance(0.5),
                keys_pre_grouped: false,
            },
            file_format,
            unified_sink_args,
            max_rows_per_file: IdxSize::MAX,
            approximate_bytes_per_file: u64::MAX,
        })
    } else {
        let target = SinkTarget::Path(reference(&dir.join(format!("out.{extension}"))));
        SinkType::File(FileSinkOptions { target, file_format, unified_sink_args })
    };
    DslPlan::Sink { input: plan.into(), payload }
}

/// The columns that text files preserve.
fn texts(frame: &DataFrame, json: bool) -> PolarsResult<DataFrame> {
    let keep: Vec<PlSmallStr> = frame
        .columns()
        .iter()
        .filter(|c| {
            if json {
                return matches!(c.dtype(), DataType::Int64 | DataType::Float64 | DataType::Boolean | DataType::String);
            }
            matches!(
                c.dtype(),
                DataType::Int8
                    | DataType::Int16
                    | DataType::Int32
                    | DataType::Int64
                    | DataType::UInt32
                    | DataType::Float64
                    | DataType::Boolean
                    | DataType::Date
                    | DataType::String
            ) || c.name() == "t"
        })
        .map(|c| c.name().clone())
        .collect();
    frame.select(keep)
}

fn csv(g: &mut Gen, frame: &DataFrame, dir: &Path) -> PolarsResult<DslPlan> {
    let dir = fresh(g, dir)?;
    let frame = texts(frame, false)?;
    let schema = frame.schema().clone();
    for (i, mut part) in parts(g, &frame).into_iter().enumerate() {
        CsvWriter::new(File::create(dir.join(format!("part-{i}.csv")))?).finish(&mut part)?;
    }
    let reader = LazyCsvReader::new(reference(&dir.join("*.csv"))).with_schema(Some(schema));
    Ok(reader.finish()?.logical_plan)
}

fn ndjson(g: &mut Gen, frame: &DataFrame, dir: &Path) -> PolarsResult<DslPlan> {
    let dir = fresh(g, dir)?;
    let frame = texts(frame, true)?;
    let schema = frame.schema().clone();
    for (i, mut part) in parts(g, &frame).into_iter().enumerate() {
        JsonWriter::new(File::create(dir.join(format!("part-{i}.ndjson")))?)
            .with_json_format(JsonFormat::JsonLines)
            .finish(&mut part)?;
    }
    let reader = LazyJsonLineReader::new(reference(&dir.join("*.ndjson"))).with_schema(Some(schema));
    Ok(reader.finish()?.logical_plan)
}
