//! Converts a sink spec to a plan: formats, options, modes, and which of them exclude each other.

use std::sync::Arc;

use floe_api::{CsvSinkSpec, Format, QuoteStyle, SinkCompression, SinkMode, SinkSpec};
use polars_io::{
    ExternalCompression,
    csv::write::{CsvWriterOptions, QuoteStyle as PolarsQuoteStyle, SerializeOptions},
    ipc::IpcWriterOptions,
    ndjson::NDJsonWriterOptions,
    parquet::write::{ParquetCompression, ParquetWriteOptions},
    prelude::IpcCompression,
};
use polars_parquet::write::StatisticsOptions;
use polars_plan::dsl::{Expr, FileWriteFormat};
use polars_utils::compression::{BrotliLevel, GzipLevel, ZstdLevel};

use super::{Key, Mode, Names, Plan, Run, file_size, from_ir::encode_expression};
use floe_storage::{Location, Options, display_uri};
use floe_wire::error::{QueryError, Result};

/// `storage` has the job's options for the sink's URI. Checks the spec only; `begin` checks the target.
pub fn from_spec(spec: &SinkSpec, storage: &Options, query: &str) -> Result<Plan> {
    let bad = |message: String| QueryError::user("BadSpec", message);
    let kind = spec.resolved_format().ok_or_else(|| {
        bad(format!(
            "sink.format is missing, and '{}' has no extension that tells it (.parquet, .csv, .ipc, .ndjson)",
            display_uri(&spec.uri)
        ))
    })?;
    let location = Location::parse(&spec.uri)?;
    if let Location::Http(url) = &location {
        return Err(bad(format!("sink.uri: {}: http(s) is for reading only", display_uri(url))));
    }
    let is_directory = location.local_path().is_some_and(|path| path.is_dir());
    let single = spec.is_single_file() && !is_directory;
    if single {
        let refuse = |field: &str| {
            Err(bad(format!(
                "{field} writes many files, and sink.uri '{}' names one; write the uri as a directory that ends in /",
                display_uri(&spec.uri)
            )))
        };
        if !spec.partition_by.is_empty() {
            return refuse("sink.partitionBy");
        }
        if spec.max_file_rows.is_some() {
            return refuse("sink.maxFileRows");
        }
        if spec.max_file_size.is_some() {
            return refuse("sink.maxFileSize");
        }
        if spec.mode == SinkMode::Append {
            return refuse("sink.mode: append");
        }
    }
    if let Some(twice) = spec.partition_by.iter().enumerate().find(|(i, key)| spec.partition_by[..*i].contains(key)) {
        return Err(bad(format!("sink.partitionBy names column '{}' twice", twice.1)));
    }
    let format = format(spec, kind)?;
    let (root, file) = match single.then(|| location.split()).flatten() {
        Some((parent, name)) => (parent, Some(name)),
        None => (location, None),
    };
    let keys = spec.partition_by.iter().map(|name| key(name, None)).collect::<Result<_>>()?;
    let target_file_bytes = match &spec.max_file_size {
        None if single || spec.max_file_rows.is_some() => None,
        None => Some(file_size::DEFAULT_FILE_BYTES),
        Some(size) => match size.bytes() {
            Some(bytes) if bytes > 0 => Some(bytes),
            _ => return Err(bad(format!("sink.maxFileSize '{size}' is no size such as 256Mi"))),
        },
    };
    Ok(Plan {
        query: query.to_owned(),
        run: Run::new(1),
        root,
        file,
        extension: extension(&format),
        mode: match spec.mode {
            SinkMode::Error => Mode::Error,
            SinkMode::Overwrite => Mode::Overwrite,
            SinkMode::Append => Mode::Append,
        },
        names: Names::Floe,
        packing: file_size::packing(&format),
        format,
        keys,
        include_keys: spec.include_keys,
        // Polars counts a file's rows in 32 bits; a larger limit means no limit.
        max_file_rows: spec.max_file_rows.and_then(|rows| u32::try_from(rows).ok()).filter(|rows| *rows > 0),
        max_file_bytes: None,
        target_file_bytes,
        maintain_order: true,
        mkdir: true,
        sync: true,
        storage: storage.clone(),
        staging: None,
        made: Vec::new(),
        table: None,
    })
}

/// The column of this name as a partition key.
pub(super) fn key(column: &str, directory: Option<String>) -> Result<Key> {
    let expression = encode_expression(&Expr::Column(column.into()))?;
    Ok(Key { name: column.to_owned(), expression, directory })
}

pub(super) fn extension(format: &FileWriteFormat) -> String {
    let compression = match format {
        FileWriteFormat::Csv(options) => options.compression,
        FileWriteFormat::NDJson(options) => options.compression,
        FileWriteFormat::Parquet(_) | FileWriteFormat::Ipc(_) => ExternalCompression::Uncompressed,
    };
    format!("{}{}", format.extension(), compression.file_suffix().unwrap_or_default())
}

fn format(spec: &SinkSpec, kind: Format) -> Result<FileWriteFormat> {
    let bad = |message: String| QueryError::user("BadSpec", message);
    if spec.csv.is_some() && kind != Format::Csv {
        return Err(bad(format!("sink.csv goes with format csv, not {}", kind.as_str())));
    }
    if spec.row_group_size.is_some() && kind != Format::Parquet {
        return Err(bad(format!("sink.rowGroupSize goes with format parquet, not {}", kind.as_str())));
    }
    if spec.compression_level.is_some() && matches!(spec.compression, None | Some(SinkCompression::None)) {
        return Err(bad("sink.compressionLevel needs sink.compression beside it".to_owned()));
    }
    Ok(match kind {
        Format::Parquet => FileWriteFormat::Parquet(Arc::new(ParquetWriteOptions {
            compression: parquet_compression(spec)?,
            statistics: if spec.statistics { StatisticsOptions::default() } else { StatisticsOptions::empty() },
            row_group_size: match spec.row_group_size {
                None => None,
                Some(rows) => Some(
                    u32::try_from(rows)
                        .ok()
                        .filter(|rows| *rows > 0)
                        .ok_or_else(|| bad(format!("sink.rowGroupSize {rows} is not between 1 and {}", u32::MAX)))?
                        as usize,
                ),
            },
            ..ParquetWriteOptions::default()
        })),
        Format::Csv => FileWriteFormat::Csv(CsvWriterOptions {
            compression: external_compression(spec, kind)?,
            ..csv(spec.csv.as_ref())?
        }),
        Format::Ndjson => FileWriteFormat::NDJson(NDJsonWriterOptions {
            compression: external_compression(spec, kind)?,
            ..NDJsonWriterOptions::default()
        }),
        Format::Ipc => FileWriteFormat::Ipc(IpcWriterOptions {
            compression: match spec.compression {
                None | Some(SinkCompression::None) => None,
                Some(SinkCompression::Lz4) if spec.compression_level.is_none() => Some(IpcCompression::LZ4),
                Some(SinkCompression::Lz4) => return Err(no_level(spec)),
                Some(SinkCompression::Zstd) => Some(IpcCompression::ZSTD(zstd(spec)?.unwrap_or_default())),
                Some(other) => return Err(no_compression(kind, other, "none, lz4 or zstd")),
            },
            ..IpcWriterOptions::default()
        }),
        Format::Delta | Format::Iceberg => {
            return Err(QueryError::internal("a table is written as Parquet files"));
        }
        Format::Postgres => return Err(QueryError::internal("a database is only read")),
    })
}

fn parquet_compression(spec: &SinkSpec) -> Result<ParquetCompression> {
    let level = spec.compression_level;
    Ok(match spec.compression {
        None => ParquetCompression::default(),
        Some(SinkCompression::Zstd) => ParquetCompression::Zstd(zstd(spec)?),
        Some(SinkCompression::Gzip) => ParquetCompression::Gzip(
            level
                .map(|level| GzipLevel::try_new(u8::try_from(level).unwrap_or(u8::MAX)))
                .transpose()
                .map_err(bad_level)?,
        ),
        Some(SinkCompression::Brotli) => ParquetCompression::Brotli(
            level
                .map(|level| BrotliLevel::try_new(u32::try_from(level).unwrap_or(u32::MAX)))
                .transpose()
                .map_err(bad_level)?,
        ),
        Some(_) if level.is_some() => return Err(no_level(spec)),
        Some(SinkCompression::None) => ParquetCompression::Uncompressed,
        Some(SinkCompression::Lz4) => ParquetCompression::Lz4Raw,
        Some(SinkCompression::Snappy) => ParquetCompression::Snappy,
    })
}

fn external_compression(spec: &SinkSpec, kind: Format) -> Result<ExternalCompression> {
    let level = spec.compression_level.map(|level| u32::try_from(level).unwrap_or(u32::MAX));
    Ok(match spec.compression {
        // Readers expect a file named `.csv.gz` to be compressed.
        None if spec.is_single_file() && spec.uri.ends_with(".gz") => ExternalCompression::Gzip { level },
        None if spec.is_single_file() && (spec.uri.ends_with(".zst") || spec.uri.ends_with(".zstd")) => {
            ExternalCompression::Zstd { level }
        }
        None | Some(SinkCompression::None) => ExternalCompression::Uncompressed,
        Some(SinkCompression::Gzip) if level.is_none_or(|level| level <= 9) => ExternalCompression::Gzip { level },
        Some(SinkCompression::Gzip) => {
            return Err(QueryError::user("BadSpec", "sink.compressionLevel: gzip has levels 0 to 9"));
        }
        Some(SinkCompression::Zstd) => {
            zstd(spec)?;
            ExternalCompression::Zstd { level }
        }
        Some(other) => return Err(no_compression(kind, other, "none, gzip or zstd")),
    })
}

fn zstd(spec: &SinkSpec) -> Result<Option<ZstdLevel>> {
    spec.compression_level.map(ZstdLevel::try_new).transpose().map_err(bad_level)
}

fn bad_level(error: polars_error::PolarsError) -> QueryError {
    QueryError::user("BadSpec", format!("sink.compressionLevel: {error}"))
}

fn no_level(spec: &SinkSpec) -> QueryError {
    let name = spec.compression.map_or("", SinkCompression::as_str);
    QueryError::user("BadSpec", format!("sink.compressionLevel: compression {name} has no levels"))
}

fn no_compression(kind: Format, compression: SinkCompression, possible: &str) -> QueryError {
    let message = format!(
        "sink.compression {} is not possible with format {}: use {possible}",
        compression.as_str(),
        kind.as_str()
    );
    QueryError::user("BadSpec", message)
}

fn csv(spec: Option<&CsvSinkSpec>) -> Result<CsvWriterOptions> {
    let Some(csv) = spec else { return Ok(CsvWriterOptions::default()) };
    let byte = |field: &str, text: &str| match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(QueryError::user("BadSpec", format!("sink.csv.{field} '{text}' is not one single-byte character"))),
    };
    let text = |value: &Option<String>| value.as_deref().map(Into::into);
    Ok(CsvWriterOptions {
        include_bom: csv.include_bom,
        include_header: csv.include_header,
        serialize_options: Arc::new(SerializeOptions {
            date_format: text(&csv.date_format),
            time_format: text(&csv.time_format),
            datetime_format: text(&csv.datetime_format),
            float_scientific: csv.float_scientific,
            float_precision: csv.float_precision.map(|digits| digits as usize),
            decimal_comma: csv.decimal_comma,
            separator: byte("separator", &csv.separator)?,
            quote_char: byte("quoteChar", &csv.quote_char)?,
            null: csv.null_value.as_str().into(),
            line_terminator: csv.line_terminator.as_str().into(),
            quote_style: match csv.quote_style {
                QuoteStyle::Necessary => PolarsQuoteStyle::Necessary,
                QuoteStyle::Always => PolarsQuoteStyle::Always,
                QuoteStyle::NonNumeric => PolarsQuoteStyle::NonNumeric,
                QuoteStyle::Never => PolarsQuoteStyle::Never,
            },
        }),
        ..CsvWriterOptions::default()
    })
}
