//! The decoder alone, on bytes made here: how they are cut into pieces must not matter, and broken ones are refused.

use super::*;

fn select(types: &[Type]) -> Select {
    let names = (0..types.len()).map(|at| format!("c{at}")).collect();
    Select { sql: String::new(), names, types: types.to_vec() }
}

fn stream(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([0; 8]);
    for row in rows {
        bytes.extend((row.len() as i16).to_be_bytes());
        for field in *row {
            match field {
                None => bytes.extend((-1i32).to_be_bytes()),
                Some(value) => {
                    bytes.extend((value.len() as i32).to_be_bytes());
                    bytes.extend(*value);
                }
            }
        }
    }
    bytes.extend((-1i16).to_be_bytes());
    bytes
}

fn decode(types: &[Type], bytes: &[u8], piece: usize) -> Result<Batch> {
    let mut decoder = Decoder::new(&select(types));
    for piece in bytes.chunks(piece) {
        decoder.push(piece)?;
    }
    decoder.finish()?;
    decoder.take()
}

#[test]
fn pieces_end_anywhere() {
    let types = [Type::Int32, Type::String];
    let one = 1i32.to_be_bytes();
    let rows: [&[Option<&[u8]>]; 3] =
        [&[Some(&one), Some("grüße".as_bytes())], &[None, None], &[Some(&one), Some(b"")]];
    let bytes = stream(&rows);
    let whole = decode(&types, &bytes, bytes.len()).unwrap();
    assert_eq!(whole.rows, 3);
    assert_eq!(whole.columns[0].values, Values::Int32(vec![1, 0, 1]));
    assert_eq!(whole.columns[1].values, Values::Bytes { offsets: vec![0, 7, 7, 7], bytes: "grüße".into() });
    assert_eq!(whole.columns[0].validity.as_ref().unwrap().bytes, [0b101]);
    for piece in 1..bytes.len() {
        let cut = decode(&types, &bytes, piece).unwrap();
        assert_eq!(cut.columns, whole.columns, "pieces of {piece}");
    }
}

#[test]
fn a_batch_is_what_came_since_the_last() {
    let mut decoder = Decoder::new(&select(&[Type::Int16]));
    let two = 2i16.to_be_bytes();
    let bytes = stream(&[&[Some(&two)], &[Some(&two)]]);
    decoder.push(&bytes[..19 + 8]).unwrap();
    assert_eq!(decoder.rows(), 1);
    assert_eq!(decoder.take().unwrap().rows, 1);
    decoder.push(&bytes[19 + 8..]).unwrap();
    let last = decoder.take().unwrap();
    assert_eq!((last.rows, &last.columns[0].values), (1, &Values::Int16(vec![2])));
}

#[test]
fn rows_without_columns_are_counted() {
    assert_eq!(decode(&[], &stream(&[&[], &[]]), 3).unwrap().rows, 2);
}

#[test]
fn what_breaks_off_or_is_something_else_is_refused() {
    let one = 1i32.to_be_bytes();
    let bytes = stream(&[&[Some(&one)]]);
    for end in 0..bytes.len() {
        assert!(decode(&[Type::Int32], &bytes[..end], 100).is_err(), "{end} bytes");
    }
    assert!(decode(&[Type::Int32, Type::Int32], &bytes, 100).is_err(), "too few fields");
    assert!(decode(&[Type::Int64], &bytes, 100).unwrap_err().message.contains("column c0: a value of 4 bytes"));
    assert!(decode(&[Type::Int32], b"PGDUMP\n", 100).is_err());
    let mut flags = bytes.clone();
    flags[12] = 1;
    assert!(decode(&[Type::Int32], &flags, 100).is_err(), "a flag that has to be understood");
}

#[test]
fn text_is_checked_to_be_utf8() {
    // Two values that are UTF-8 only together.
    let halves = stream(&[&[Some(&[0xc3])], &[Some(&[0xbc])]]);
    assert!(decode(&[Type::String], &halves, 100).unwrap_err().message.contains("column c0: not UTF-8"));
    assert!(decode(&[Type::Binary], &halves, 100).is_ok());
}

#[test]
fn times_without_a_place_are_refused() {
    for (r#type, value, expected) in [
        (Type::Date, i32::MAX.to_be_bytes().to_vec(), "infinity"),
        (Type::Date, i32::MIN.to_be_bytes().to_vec(), "infinity"),
        (Type::Datetime, i64::MAX.to_be_bytes().to_vec(), "infinity"),
        (Type::DatetimeUtc, i64::MIN.to_be_bytes().to_vec(), "infinity"),
        (Type::Datetime, (i64::MAX - 1).to_be_bytes().to_vec(), "year 294246"),
        (Type::Time, DAY_US.to_be_bytes().to_vec(), "24:00"),
    ] {
        let error = decode(&[r#type], &stream(&[&[Some(&value)]]), 100).unwrap_err();
        assert!(error.message.starts_with("column c0: ") && error.message.contains(expected), "{}", error.message);
    }
}

#[test]
fn lists_have_one_dimension() {
    let array = |dimensions: i32, items: &[Option<i32>]| {
        let mut value = [dimensions, 1, 23].map(i32::to_be_bytes).concat();
        for _ in 0..dimensions {
            value.extend([items.len() as i32, 1].map(i32::to_be_bytes).concat());
        }
        for item in items {
            match item {
                None => value.extend((-1i32).to_be_bytes()),
                Some(item) => value.extend([4, *item].map(i32::to_be_bytes).concat()),
            }
        }
        value
    };
    let list = Type::List(Box::new(Type::Int32));
    let (full, empty) = (array(1, &[Some(7), None]), array(0, &[]));
    let batch = decode(std::slice::from_ref(&list), &stream(&[&[Some(&full)], &[None], &[Some(&empty)]]), 5).unwrap();
    let Values::List { offsets, items } = &batch.columns[0].values else { panic!() };
    assert_eq!(offsets, &[0, 2, 2, 2]);
    assert_eq!(items.values, Values::Int32(vec![7, 0]));
    assert!(!batch.columns[0].validity.as_ref().unwrap().get(1) && batch.columns[0].validity.as_ref().unwrap().get(2));
    let error = decode(&[list], &stream(&[&[Some(&array(2, &[]))]]), 100).unwrap_err();
    assert!(error.message.contains("2 dimensions"), "{}", error.message);
}
