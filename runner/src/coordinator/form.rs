//! The formats of results and their writers: Arrow, Parquet, CSV, JSON. Turns rows into bytes; knows neither where rows
//! come from nor HTTP.

use std::io::Write;
use std::sync::Arc;

use polars_arrow::io::ipc::write::{FileWriter, StreamWriter, WriteOptions};
use polars_core::frame::chunk_df_for_writing;
use polars_core::prelude::*;
use polars_io::SerWriter as _;
use polars_io::csv::write::{BatchedWriter as CsvBatches, CsvWriter};
use polars_io::json::BatchedWriter as JsonBatches;
use polars_io::parquet::write::{BatchedWriter as ParquetBatches, ParquetWriter};

/// Most rows of a batch or row group; smaller portions are combined into row groups.
const GROUP_ROWS: usize = 512 * 512;
/// Rows encoded as JSON in memory at once.
const JSON_ROWS: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An Arrow IPC stream.
    Stream,
    /// An Arrow IPC file (`ARROW1`), which a reader can map into its memory.
    File,
    Parquet,
    Csv,
    /// One array of objects.
    Json,
    /// An object on each line.
    Ndjson,
}

impl Form {
    pub const NAMES: &str = "stream, file, parquet, csv, json, ndjson or table";

    pub fn parse(text: &str) -> Option<Form> {
        Some(match text {
            "stream" => Form::Stream,
            "file" => Form::File,
            "parquet" => Form::Parquet,
            "csv" => Form::Csv,
            "json" => Form::Json,
            "ndjson" => Form::Ndjson,
            _ => return None,
        })
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Form::Stream => "application/vnd.apache.arrow.stream",
            Form::File => "application/vnd.apache.arrow.file",
            Form::Parquet => "application/vnd.apache.parquet",
            Form::Csv => "text/csv; charset=utf-8; header=present",
            Form::Json => "application/json",
            Form::Ndjson => "application/x-ndjson",
        }
    }

    /// Tells the user why this format cannot hold rows of the schema; none if it can.
    pub fn refuses(self, schema: &Schema) -> Option<String> {
        let nested = schema.iter().find(|(_, dtype)| dtype.is_nested()).filter(|_| self == Form::Csv)?;
        Some(format!(
            "csv has no nested values, and column {:?} is {}: take parquet, json or an Arrow stream, or select other columns",
            nested.0.as_str(),
            nested.1
        ))
    }
}

pub enum Writer<W: Write> {
    Stream(StreamWriter<W>, CompatLevel),
    File(Box<FileWriter<W>>, CompatLevel),
    Parquet { batches: Box<ParquetBatches<W>>, group: Option<DataFrame> },
    Csv(Box<CsvBatches<W>>),
    Json { out: W, begun: bool },
    Ndjson(JsonBatches<W>),
}

impl<W: Write> Writer<W> {
    pub fn start(form: Form, mut out: W, schema: &Schema, level: CompatLevel) -> PolarsResult<Writer<W>> {
        let options = WriteOptions { compression: None };
        Ok(match form {
            Form::Stream => {
                let mut writer = StreamWriter::new(out, options);
                writer.start(&schema.to_arrow(level), None)?;
                Writer::Stream(writer, level)
            }
            Form::File => {
                let file = FileWriter::try_new(out, Arc::new(schema.to_arrow(level)), None, options)?;
                Writer::File(Box::new(file), level)
            }
            Form::Parquet => {
                Writer::Parquet { batches: Box::new(ParquetWriter::new(out).batched(schema)?), group: None }
            }
            Form::Csv => Writer::Csv(Box::new(CsvWriter::new(out).batched(schema)?)),
            Form::Json => {
                out.write_all(b"[")?;
                Writer::Json { out, begun: false }
            }
            Form::Ndjson => Writer::Ndjson(JsonBatches::new(out)),
        })
    }

    pub fn write(&mut self, mut frame: DataFrame) -> PolarsResult<()> {
        match self {
            Writer::Stream(writer, level) => {
                for batch in chunk_df_for_writing(&mut frame, GROUP_ROWS)?.iter_chunks(*level, true) {
                    writer.write(&batch, None)?;
                }
                Ok(())
            }
            Writer::File(writer, level) => {
                for batch in chunk_df_for_writing(&mut frame, GROUP_ROWS)?.iter_chunks(*level, true) {
                    writer.write(&batch, None)?;
                }
                Ok(())
            }
            Writer::Parquet { batches, group } => {
                let mut all = match group.take() {
                    Some(mut before) => {
                        before.vstack_mut(&frame)?;
                        before
                    }
                    None => frame,
                };
                while all.height() >= GROUP_ROWS {
                    let mut full = all.head(Some(GROUP_ROWS));
                    full.rechunk_mut();
                    batches.write_batch(&full)?;
                    all = all.slice(GROUP_ROWS as i64, usize::MAX);
                }
                *group = Some(all);
                Ok(())
            }
            Writer::Csv(writer) => {
                frame.rechunk_mut();
                writer.write_batch(&frame)
            }
            Writer::Json { out, begun } => {
                for piece in pieces(&frame) {
                    let lines = lines(piece)?;
                    let Some(lines) = lines.strip_suffix(b"\n") else { continue };
                    if std::mem::replace(begun, true) {
                        out.write_all(b",\n")?;
                    }
                    // Line breaks in text are escaped, so that each one here ends a row.
                    for (at, line) in lines.split(|byte| *byte == b'\n').enumerate() {
                        if at > 0 {
                            out.write_all(b",\n")?;
                        }
                        out.write_all(line)?;
                    }
                }
                Ok(())
            }
            Writer::Ndjson(writer) => pieces(&frame).try_for_each(|mut piece| {
                piece.rechunk_mut();
                writer.write_batch(&piece)
            }),
        }
    }

    pub fn finish(self) -> PolarsResult<()> {
        match self {
            Writer::Stream(mut writer, _) => writer.finish(),
            Writer::File(mut writer, _) => writer.finish(),
            Writer::Parquet { mut batches, group } => {
                if let Some(mut rest) = group.filter(|rest| rest.height() > 0) {
                    rest.rechunk_mut();
                    batches.write_batch(&rest)?;
                }
                batches.finish().map(drop)
            }
            Writer::Csv(mut writer) => writer.finish(),
            Writer::Json { mut out, .. } => Ok(out.write_all(b"]")?),
            Writer::Ndjson(_) => Ok(()),
        }
    }
}

fn pieces(frame: &DataFrame) -> impl Iterator<Item = DataFrame> + '_ {
    (0..frame.height()).step_by(JSON_ROWS).map(move |at| frame.slice(at as i64, JSON_ROWS))
}

fn lines(mut frame: DataFrame) -> PolarsResult<Vec<u8>> {
    frame.rechunk_mut();
    let mut lines = Vec::new();
    JsonBatches::new(&mut lines).write_batch(&frame)?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars_core::df;
    use polars_io::SerReader;
    use polars_io::ipc::{IpcReader, IpcStreamReader};
    use polars_io::parquet::read::ParquetReader;
    use std::io::Cursor;

    fn written(form: Form, frames: &[DataFrame]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::start(form, &mut out, frames[0].schema(), CompatLevel::oldest()).unwrap();
        frames.iter().for_each(|frame| writer.write(frame.clone()).unwrap());
        writer.finish().unwrap();
        out
    }

    #[test]
    fn every_form_has_all_rows_of_several_portions() {
        let one = df!["n" => [1, 2], "word" => [Some("a\nb"), None]].unwrap();
        let two = df!["n" => [3], "word" => [Some("\"c\", d")]].unwrap();
        let (none, want) = (one.clear(), one.vstack(&two).unwrap());
        let frames = [one, none, two];
        let stream = IpcStreamReader::new(Cursor::new(written(Form::Stream, &frames))).finish().unwrap();
        let file = IpcReader::new(Cursor::new(written(Form::File, &frames))).finish().unwrap();
        let parquet = ParquetReader::new(Cursor::new(written(Form::Parquet, &frames))).finish().unwrap();
        for got in [stream, file, parquet] {
            assert!(got.equals_missing(&want), "{got}");
        }
        let text = |form| String::from_utf8(written(form, &frames)).unwrap();
        assert_eq!(text(Form::Csv), "n,word\n1,\"a\nb\"\n2,\n3,\"\"\"c\"\", d\"\n");
        assert_eq!(
            text(Form::Ndjson),
            "{\"n\":1,\"word\":\"a\\nb\"}\n{\"n\":2,\"word\":null}\n{\"n\":3,\"word\":\"\\\"c\\\", d\"}\n"
        );
        let json: serde_json::Value = serde_json::from_str(&text(Form::Json)).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 3);
        assert_eq!(json[2]["word"], "\"c\", d");
    }

    #[test]
    fn no_rows_are_a_whole_answer_in_every_form() {
        let none = [df!["n" => Vec::<i32>::new()].unwrap()];
        assert_eq!(written(Form::Json, &none), b"[]");
        assert_eq!(written(Form::Ndjson, &none), b"");
        assert_eq!(written(Form::Csv, &none), b"n\n");
        let parquet = ParquetReader::new(Cursor::new(written(Form::Parquet, &none))).finish().unwrap();
        assert_eq!(parquet.schema(), none[0].schema());
    }

    #[test]
    fn portions_are_put_together_into_row_groups() {
        let frames: Vec<DataFrame> = (0..5).map(|_| df!["n" => vec![1i64; GROUP_ROWS / 2 + 1]].unwrap()).collect();
        let bytes = written(Form::Parquet, &frames);
        let mut reader = ParquetReader::new(Cursor::new(bytes));
        assert_eq!(reader.get_metadata().unwrap().row_groups.len(), 3);
        assert_eq!(reader.finish().unwrap().height(), 5 * (GROUP_ROWS / 2 + 1));
    }

    #[test]
    fn csv_refuses_nested_columns_by_name() {
        let list = Column::new("tags".into(), [Series::new("".into(), [1])]);
        let frame = DataFrame::new(1, vec![list]).unwrap();
        assert!(Form::Csv.refuses(frame.schema()).unwrap().contains("column \"tags\" is list["));
        assert_eq!(Form::Json.refuses(frame.schema()), None);
    }
}
