//! `floe-runner convert`: converts an Arrow IPC stream on standard input to a table for the terminal or to a file.
//! `floe result` starts it, so that the command line needs no Polars. Holds one batch in memory. A stream without its
//! end marker is an error, so that a partial result is never taken for a complete one.

use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use polars_arrow::io::ipc::read::{StreamReader, StreamState, read_stream_metadata};
use polars_core::prelude::*;
use polars_core::schema::SchemaExt;
use polars_io::SerWriter;
use polars_io::csv::write::{BatchedWriter as CsvBatches, CsvWriter};
use polars_io::ipc::{IpcCompression, IpcWriter};
use polars_io::json::BatchedWriter as JsonBatches;
use polars_io::parquet::write::{BatchedWriter as ParquetBatches, ParquetWriter};

use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result};

/// Rows of a row group or record batch; smaller batches of the stream are combined.
const GROUP_ROWS: usize = 512 * 512;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to make of the stream.
    #[arg(long, value_enum)]
    pub to: Target,
    /// The file; without it, standard output.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// With --to table: rows of the whole result, of which the stream may be the first part.
    #[arg(long)]
    pub total: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    Table,
    Parquet,
    Csv,
    Ndjson,
    Arrow,
}

pub fn main(args: &Args) -> ExitCode {
    match run(args, BufReader::with_capacity(1 << 20, io::stdin().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {}", error.class, error.message);
            ExitCode::from(error.category.exit_code())
        }
    }
}

fn run(args: &Args, input: impl Read) -> Result<()> {
    let mut frames = Frames::open(input)?;
    if args.to == Target::Table {
        let text = table(&frames.whole()?, args.total);
        return writeln!(io::stdout().lock(), "{text}").or_else(gone).map_err(io_error);
    }
    match &args.out {
        Some(path) => {
            let file = std::fs::File::create(path).map_err(|error| path_error(path, &error))?;
            let mut out = BufWriter::new(file);
            write(args.to, &mut frames, &mut out)?;
            out.flush().map_err(|error| path_error(path, &error))
        }
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            write(args.to, &mut frames, &mut out)?;
            out.flush().or_else(gone).map_err(io_error)
        }
    }
}

/// A closed output pipe is no failure: the reader has read enough.
fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

fn io_error(error: io::Error) -> QueryError {
    QueryError::io(error.to_string())
}

fn path_error(path: &Path, error: &io::Error) -> QueryError {
    QueryError::io(format!("{}: {error}", path.display()))
}

/// The table as Polars prints it, with the dtypes. POLARS_FMT_MAX_ROWS sets the number of rows.
fn table(frame: &DataFrame, total: Option<u64>) -> String {
    match total {
        Some(total) if total > frame.height() as u64 => format!("first {} of {total} rows\n{frame}", frame.height()),
        Some(_) | None => frame.to_string(),
    }
}

fn write<R: Read, W: Write>(to: Target, frames: &mut Frames<R>, out: &mut W) -> Result<()> {
    let schema = frames.schema.clone();
    let mut sink = match to {
        Target::Parquet => Sink::Parquet(Box::new(ParquetWriter::new(out).batched(&schema).map_err(polars_error)?)),
        Target::Csv => Sink::Csv(Box::new(CsvWriter::new(out).batched(&schema).map_err(polars_error)?)),
        Target::Ndjson => Sink::Ndjson(JsonBatches::new(out)),
        // A Polars IPC file has one dictionary per column, and that of a Categorical is complete only after the last
        // row.
        Target::Arrow => {
            let mut whole = frames.whole()?;
            whole.rechunk_mut();
            let mut writer = IpcWriter::new(out).with_compression(Some(IpcCompression::ZSTD(Default::default())));
            return writer.finish(&mut whole).map_err(polars_error);
        }
        Target::Table => return Err(QueryError::internal("a table is no file")),
    };
    while let Some(group) = frames.group()? {
        sink.write(&group).map_err(polars_error)?;
    }
    sink.finish().map_err(polars_error)
}

enum Sink<W: Write> {
    Parquet(Box<ParquetBatches<W>>),
    Csv(Box<CsvBatches<W>>),
    Ndjson(JsonBatches<W>),
}

impl<W: Write> Sink<W> {
    fn write(&mut self, frame: &DataFrame) -> PolarsResult<()> {
        match self {
            Sink::Parquet(writer) => writer.write_batch(frame),
            Sink::Csv(writer) => writer.write_batch(frame),
            Sink::Ndjson(writer) => writer.write_batch(frame),
        }
    }

    fn finish(self) -> PolarsResult<()> {
        match self {
            Sink::Parquet(writer) => writer.finish().map(drop),
            Sink::Csv(mut writer) => writer.finish(),
            Sink::Ndjson(_) => Ok(()),
        }
    }
}

/// The batches of a stream as frames.
struct Frames<R: Read> {
    reader: StreamReader<Forward<R>>,
    schema: SchemaRef,
}

impl<R: Read> Frames<R> {
    fn open(input: R) -> Result<Frames<R>> {
        let mut input = Forward { input, at: 0 };
        let metadata = read_stream_metadata(&mut input).map_err(polars_error)?;
        let schema = Arc::new(Schema::from_arrow_schema(&metadata.schema));
        Ok(Frames { reader: StreamReader::new(input, metadata, None), schema })
    }

    fn next(&mut self) -> Result<Option<DataFrame>> {
        match self.reader.next() {
            None => Ok(None),
            Some(Ok(StreamState::Some(batch))) => Ok(Some(DataFrame::from(batch))),
            // No end marker: the sender broke off.
            Some(Ok(StreamState::Waiting)) => Err(QueryError::io("the stream ended in the middle of the result")),
            Some(Err(error)) => Err(polars_error(error)),
        }
    }

    /// Combines batches up to a group's size.
    fn group(&mut self) -> Result<Option<DataFrame>> {
        let Some(mut group) = self.next()? else { return Ok(None) };
        while group.height() < GROUP_ROWS {
            let Some(more) = self.next()? else { break };
            group.vstack_mut(&more).map_err(polars_error)?;
        }
        group.rechunk_mut();
        Ok(Some(group))
    }

    fn whole(&mut self) -> Result<DataFrame> {
        let mut all = DataFrame::empty_with_schema(&self.schema);
        while let Some(more) = self.next()? {
            all.vstack_mut(&more).map_err(polars_error)?;
        }
        Ok(all)
    }
}

/// Polars' reader requires Seek. Over a pipe it only skips forward, which is all that the format needs.
struct Forward<R> {
    input: R,
    at: u64,
}

impl<R: Read> Read for Forward<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<R: Read> Seek for Forward<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(_) => None,
        };
        let ahead = target.and_then(|target| target.checked_sub(self.at));
        let ahead = ahead.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "a stream goes forward only"))?;
        let skipped = io::copy(&mut self.by_ref().take(ahead), &mut io::sink())?;
        if skipped < ahead {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.at)
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
