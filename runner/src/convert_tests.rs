use polars_core::df;
use polars_io::SerReader;
use polars_io::ipc::{IpcReader, IpcStreamWriter};
use polars_io::parquet::read::ParquetReader;

use super::*;

fn frame() -> DataFrame {
    let mut frame = df!(
        "n" => [1i64, 2, 3],
        "word" => [Some("a"), None, Some("c")],
        "f" => [0.5f64, f64::NAN, -0.0],
        "list" => [Series::new("".into(), [1i32]), Series::new("".into(), Vec::<i32>::new()), Series::new("".into(), [2, 3])],
    )
    .unwrap();
    let typed = [
        Column::new("cat".into(), ["x", "y", "x"]).cast(&DataType::from_categories(Categories::global())).unwrap(),
        Column::new("dec".into(), [1i64, 25, 300]).cast(&DataType::Decimal(20, 2)).unwrap(),
        Column::new("wide".into(), [1i64, 2, 3]).cast(&DataType::Int128).unwrap(),
        Column::new("day".into(), [0i32, 1, 2]).cast(&DataType::Date).unwrap(),
    ];
    frame.hstack_mut(&typed).unwrap();
    frame
}

fn stream(frame: &DataFrame) -> Vec<u8> {
    let mut bytes = Vec::new();
    IpcStreamWriter::new(&mut bytes).with_compat_level(CompatLevel::oldest()).finish(&mut frame.clone()).unwrap();
    bytes
}

fn written(to: Target, stream: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    write(to, &mut Frames::open(stream)?, &mut out)?;
    Ok(out)
}

#[test]
fn files_have_every_row_and_dtype() {
    let want = frame();
    let bytes = stream(&want);
    let arrow = IpcReader::new(io::Cursor::new(written(Target::Arrow, &bytes).unwrap())).finish().unwrap();
    let parquet = ParquetReader::new(io::Cursor::new(written(Target::Parquet, &bytes).unwrap())).finish().unwrap();
    for got in [arrow, parquet] {
        assert_eq!(got.schema(), want.schema());
        assert!(got.equals_missing(&want), "{got}");
    }
    let csv = String::from_utf8(written(Target::Csv, &stream(&want.drop("list").unwrap())).unwrap()).unwrap();
    assert!(csv.starts_with("n,word,f,cat,dec,wide,day\n1,a,0.5,x,1.00,1,1970-01-01\n2,,NaN,y,"), "{csv}");
    let ndjson = String::from_utf8(written(Target::Ndjson, &bytes).unwrap()).unwrap();
    assert_eq!(ndjson.lines().count(), 3);
    assert!(ndjson.starts_with(r#"{"n":1,"word":"a","f":0.5,"list":[1],"cat":"x""#), "{ndjson}");
}

#[test]
fn many_batches_become_groups_and_none_is_lost() {
    let rows = GROUP_ROWS * 2 + 10;
    let mut big = df!("n" => (0..rows as i64).collect::<Vec<_>>()).unwrap();
    let mut bytes = Vec::new();
    IpcStreamWriter::new(&mut bytes).finish(&mut big).unwrap();
    let parquet = written(Target::Parquet, &bytes).unwrap();
    let mut reader = ParquetReader::new(io::Cursor::new(parquet));
    assert!(reader.get_metadata().unwrap().row_groups.len() <= 3);
    assert!(reader.finish().unwrap().equals(&big));
}

#[test]
fn a_result_without_rows_keeps_its_columns() {
    let bytes = stream(&frame().head(Some(0)));
    let parquet = ParquetReader::new(io::Cursor::new(written(Target::Parquet, &bytes).unwrap())).finish().unwrap();
    assert_eq!(parquet.schema(), frame().schema());
    let csv = written(Target::Csv, &stream(&frame().head(Some(0)).drop("list").unwrap())).unwrap();
    assert_eq!(csv, b"n,word,f,cat,dec,wide,day\n");
}

#[test]
fn a_stream_that_breaks_off_is_an_error() {
    let bytes = stream(&frame());
    for end in [8, bytes.len() / 2, bytes.len() - 8] {
        let error = written(Target::Parquet, &bytes[..end]).unwrap_err();
        assert!(!error.message.is_empty(), "{end}");
    }
    assert!(written(Target::Csv, b"no arrow at all").is_err());
}

#[test]
fn a_table_says_how_much_of_the_result_it_shows() {
    let text = table(&frame(), Some(3));
    assert!(text.starts_with("shape: (3, 8)") && text.contains("decimal[20,2]"), "{text}");
    assert!(table(&frame(), Some(900)).starts_with("first 3 of 900 rows\nshape: (3, 8)"));
}
