//! Converts file sizes to row sizes. Polars limits a file by the bytes of its rows in memory; users mean bytes of the
//! file. The ratio is first guessed from the format, or from how well the query's source files are compressed, and then
//! measured on the files that this process writes.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use polars_io::{ExternalCompression, parquet::write::ParquetCompression};
use polars_plan::dsl::FileWriteFormat;

use super::Plan;

/// Default size of a directory's files without `maxFileSize`: a size that readers handle well.
pub(super) const DEFAULT_FILE_BYTES: u64 = 128 << 20;
/// Bytes of rows to write before the measured ratio replaces the guess.
const MIN_MEASURED_BYTES: u64 = 4 << 20;
/// Bounds of the measured ratio: at most this many bytes of rows per byte of file …
const MAX_PACKING: f64 = 64.0;
/// … and at least this many: numbers are longer as text.
const MIN_PACKING: f64 = 0.1;

/// Bytes of rows and of files by sink, over all tasks of this process.
static WRITTEN: LazyLock<Mutex<HashMap<(String, String), (u64, u64)>>> = LazyLock::new(Default::default);

fn all() -> MutexGuard<'static, HashMap<(String, String), (u64, u64)>> {
    WRITTEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(plan: &Plan) -> (String, String) {
    (plan.query.clone(), plan.uri())
}

/// Bytes of ordinary rows in memory per byte of file.
pub(super) fn packing(format: &FileWriteFormat) -> f64 {
    let text = |compression: ExternalCompression, plain: f64| match compression {
        ExternalCompression::Uncompressed => plain,
        ExternalCompression::Gzip { .. } | ExternalCompression::Zstd { .. } => 6.0,
    };
    match format {
        FileWriteFormat::Parquet(options) => match options.compression {
            ParquetCompression::Uncompressed => 2.0,
            _ => 4.0,
        },
        FileWriteFormat::Ipc(options) => options.compression.map_or(1.0, |_| 3.0),
        FileWriteFormat::Csv(options) => text(options.compression, 1.5),
        FileWriteFormat::NDJson(options) => text(options.compression, 0.6),
    }
}

/// Whether files of this format are compressed by column, like source files may be.
pub(super) fn packs(format: &FileWriteFormat) -> bool {
    matches!(format, FileWriteFormat::Parquet(options) if options.compression != ParquetCompression::Uncompressed)
}

pub(super) fn row_bytes_for(file_bytes: u64, packing: f64) -> u64 {
    (file_bytes as f64 * packing.clamp(MIN_PACKING, MAX_PACKING)) as u64
}

/// Bytes of rows after which a task starts another file.
pub(super) fn limit(plan: &Plan) -> Option<u64> {
    let Some(target) = plan.target_file_bytes else { return plan.max_file_bytes };
    let measured = all().get(&key(plan)).filter(|(rows, written)| *rows >= MIN_MEASURED_BYTES && *written > 0).copied();
    let packing = measured.map_or(plan.packing, |(rows, written)| rows as f64 / written as f64);
    Some(row_bytes_for(target, packing).max(1)).into_iter().chain(plan.max_file_bytes).min()
}

/// Records what a finished task wrote.
pub(super) fn learn(plan: &Plan, rows: u64, written: u64) {
    if plan.target_file_bytes.is_some() {
        let mut all = all();
        let known = all.entry(key(plan)).or_default();
        *known = (known.0 + rows, known.1 + written);
    }
}

pub(super) fn forget(query: &str) {
    all().retain(|(other, _), _| other != query);
}

#[cfg(test)]
mod tests {
    use floe_api::{Format, SinkSpec};

    use super::*;
    use crate::sink::from_spec;
    use floe_storage::Options;

    #[test]
    fn file_sizes_follow_the_compression_of_what_was_written() {
        let base = SinkSpec { uri: "/tmp/sizes/".into(), format: Some(Format::Parquet), ..SinkSpec::default() };
        let spec = SinkSpec { max_file_size: Some("128Mi".into()), ..base.clone() };
        let plan = from_spec(&spec, &Options::default(), "sizes").unwrap();
        assert_eq!(limit(&plan), Some(512 << 20), "packed four times");
        learn(&plan, 1000, 10);
        assert_eq!(limit(&plan), Some(512 << 20), "a few rows tell nothing");
        learn(&plan, 160 << 20, 20 << 20);
        let eight = (limit(&plan).unwrap() as f64) / f64::from(128 << 20);
        assert!((7.99..8.01).contains(&eight), "{eight}");
        let other = Plan { query: "another".into(), ..plan.clone() };
        assert_eq!(limit(&other), Some(512 << 20));
        forget("sizes");
        assert_eq!(limit(&plan), Some(512 << 20));
        let spec = SinkSpec { max_file_size: Some("1Mi".into()), format: Some(Format::Ipc), ..spec };
        assert_eq!(limit(&from_spec(&spec, &Options::default(), "sizes").unwrap()), Some(1 << 20));
        let usual = from_spec(&base, &Options::default(), "sizes").unwrap();
        assert_eq!(limit(&usual), Some(512 << 20), "128 MiB, packed four times");
        let by_rows = SinkSpec { max_file_rows: Some(10), ..base.clone() };
        assert_eq!(limit(&from_spec(&by_rows, &Options::default(), "sizes").unwrap()), None, "rows are counted");
        let one = SinkSpec { uri: "/tmp/sizes/x.parquet".into(), ..SinkSpec::default() };
        assert_eq!(limit(&from_spec(&one, &Options::default(), "sizes").unwrap()), None);
    }
}
