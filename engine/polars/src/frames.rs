//! Converts frames to IPC and back. A piece is one IPC file with one record batch, so that a column has one dictionary.
//!
//! Polars marks columns that it knows to be sorted, and some of its aggregates depend on these marks (for example which
//! of several equal minima `arg_min` returns). IPC drops the marks, so they are sent as metadata of the file.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use polars_arrow::datatypes::Metadata;
use polars_core::prelude::*;
use polars_core::series::IsSorted;
use polars_core::utils::accumulate_dataframes_vertical_unchecked;
use polars_io::ipc::{IpcCompression, IpcReader, IpcStreamReader, IpcStreamWriter, IpcWriter};
use polars_io::{SerReader, SerWriter};

use super::carried;
use super::polars_error;
use floe_wire::error::{QueryError, Result};

pub fn frame_to_ipc(df: DataFrame) -> Result<Bytes> {
    let mut buf = Vec::new();
    write_ipc(&mut buf, df, None)?;
    Ok(Bytes::from(buf))
}

pub fn write_ipc(buf: &mut Vec<u8>, mut df: DataFrame, compression: Option<IpcCompression>) -> Result<()> {
    df.rechunk_mut();
    let (mut df, changed) = carried::pack(df)?;
    let mut writer =
        IpcWriter::new(buf).with_compression(compression).with_compat_level(CompatLevel::newest()).with_parallel(false);
    let marks = marks(&df);
    let mut metadata = Metadata::default();
    if marks.contains(['<', '>']) {
        metadata.insert(PlSmallStr::from_static(SORTED), PlSmallStr::from_string(marks));
    }
    if !changed.is_empty() {
        let changed = serde_json::to_string(&changed).map_err(|e| QueryError::internal(e.to_string()))?;
        metadata.insert(PlSmallStr::from_static(CHANGED), PlSmallStr::from_string(changed));
    }
    if !metadata.is_empty() {
        writer.set_custom_schema_metadata(Arc::new(metadata));
    }
    writer.finish(&mut df).map_err(polars_error)
}

/// Writes one batch as a stream, which Python reads and writes ten times as fast as a file. Sort marks are not sent.
pub fn write_stream(mut df: DataFrame) -> Result<Vec<u8>> {
    df.rechunk_mut();
    let (mut df, _) = carried::pack(df)?;
    let mut bytes = Vec::with_capacity(df.estimated_size() + 1024);
    let mut writer = IpcStreamWriter::new(&mut bytes).with_compat_level(CompatLevel::newest());
    writer.finish(&mut df).map_err(polars_error)?;
    Ok(bytes)
}

pub fn frame_from_stream(stream: &[u8]) -> Result<DataFrame> {
    IpcStreamReader::new(Cursor::new(stream)).set_rechunk(false).finish().map_err(polars_error)
}

/// `height` is for frames without columns, whose height IPC cannot express.
pub fn frame_from_ipc(ipc: &[u8], height: usize, schema: &SchemaRef) -> Result<DataFrame> {
    if schema.is_empty() {
        return Ok(DataFrame::empty_with_height(height));
    }
    let mut reader = IpcReader::new(Cursor::new(ipc)).set_rechunk(false);
    let metadata = reader.custom_metadata().map_err(polars_error)?;
    let mut df = reader.finish().map_err(polars_error)?;
    let noted = |key: &str| metadata.as_ref().and_then(|metadata| metadata.get(key));
    if let Some(changed) = noted(CHANGED) {
        let changed: Vec<(usize, DataType)> =
            serde_json::from_str(changed).map_err(|e| QueryError::internal(e.to_string()))?;
        df = carried::unpack(df, &changed)?;
    }
    match noted(SORTED) {
        Some(marks) => marked(df, marks),
        None => Ok(df),
    }
}

/// Concatenates frames of one relation, in order. The chunks stay where they are.
pub fn concat_frames(mut frames: Vec<DataFrame>, schema: &SchemaRef) -> Result<DataFrame> {
    match frames.len() {
        0 => return Ok(DataFrame::empty_with_schema(schema)),
        1 => return Ok(frames.swap_remove(0)),
        _ => {}
    }
    // A single row is always marked as sorted. Several single-row frames would then make a sorted column, while
    // single-node Polars, which reads all rows at once, knows nothing of an order: so only frames with more rows
    // decide.
    let before: Vec<Vec<u8>> = frames.iter().filter(|df| df.height() > 1).map(|df| marks(df).into_bytes()).collect();
    let df = accumulate_dataframes_vertical_unchecked(frames);
    let agreed = |(at, mark): (usize, char)| {
        let all = before.iter().all(|marks| marks.get(at).copied().map(char::from) == Some(mark));
        if all && !before.is_empty() { mark } else { '-' }
    };
    let agreed: String = marks(&df).chars().enumerate().map(agreed).collect();
    marked(df, &agreed)
}

/// The metadata key of the marks.
const SORTED: &str = "floe.sorted";

/// The key of the types of columns that are written as another type.
const CHANGED: &str = "floe.changed";

/// One letter per column: `<` if it is marked as ascending, `>` as descending, `-` if not marked.
fn marks(df: &DataFrame) -> String {
    let mark = |column: &Column| match column.get_flags().is_sorted() {
        IsSorted::Ascending => '<',
        IsSorted::Descending => '>',
        IsSorted::Not => '-',
    };
    df.columns().iter().map(mark).collect()
}

fn marked(df: DataFrame, wanted: &str) -> Result<DataFrame> {
    if marks(&df) == wanted {
        return Ok(df);
    }
    let height = df.height();
    let mut columns = df.into_columns();
    for (column, mark) in columns.iter_mut().zip(wanted.chars()) {
        let sorted = match mark {
            '<' => IsSorted::Ascending,
            '>' => IsSorted::Descending,
            _ => IsSorted::Not,
        };
        if column.get_flags().is_sorted() != sorted {
            column.set_sorted_flag(sorted);
        }
    }
    DataFrame::new(height, columns).map_err(polars_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_sorted_columns_travel_with_the_rows() {
        let mut falling = Series::new("b".into(), [3, 2, 1]);
        falling.set_sorted_flag(IsSorted::Descending);
        let df = DataFrame::new(3, vec![Column::new("a".into(), [1, 2, 3]), falling.into_column()]).unwrap();
        assert_eq!(marks(&df), "->");
        let schema = df.schema().clone();
        let read = frame_from_ipc(&frame_to_ipc(df).unwrap(), 3, &schema).unwrap();
        assert_eq!(marks(&read), "->");
        assert_eq!(marks(&marked(read, "<-").unwrap()), "<-");
    }
}
