use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use polars_core::prelude::*;
use polars_plan::dsl::DataTypeExpr;

use super::carry::Carried;
use super::payload::{Kind, MARK, Packed, Payload, Returns};
use super::{check_placed, groups};

fn payload(returns: Returns) -> Payload {
    Payload {
        kind: Kind::Columns,
        polars: "2.1".into(),
        python: (11, 7),
        with_code: true,
        pickle: Bytes::from_static(b"pickled"),
        returns,
        scalar: false,
        by_batches: false,
        checked: true,
        args: String::new(),
        groups: None,
        by_rows: false,
    }
}

fn fields(dtypes: &[DataType]) -> Vec<Field> {
    dtypes.iter().map(|dtype| Field::new("x".into(), dtype.clone())).collect()
}

#[test]
fn payloads_travel_whole() {
    let schema = Arc::new(Schema::from_iter(fields(&[DataType::Int64])));
    let wanted = Returns::Type(Box::new(DataTypeExpr::Literal(DataType::List(Box::new(DataType::Date)))));
    for returns in [Returns::Unknown, wanted, Returns::Frame(schema), Returns::Same, Returns::Supertype] {
        let field = Some(Field::new("y".into(), DataType::Float64));
        let mut bytes = Vec::new();
        let packed = Packed { payload: payload(returns.clone()).into(), field: field.clone(), number: Some(3) };
        packed.write(&mut bytes).unwrap();
        let read = Packed::read(&bytes).unwrap().unwrap();
        assert_eq!((read.field, read.number), (field, Some(3)));
        assert_eq!(read.payload.key(), payload(Returns::Unknown).key());
        assert_eq!(format!("{:?}", read.payload.returns), format!("{returns:?}"));
    }
    assert!(Packed::read(b"PLPYFN and so on").is_none());
    assert!(Packed::read(&[MARK, b"damaged"].concat()).unwrap().is_err());
}

#[test]
fn return_types_are_known_without_a_call() {
    let (int, float) = (DataType::Int32, DataType::Float64);
    let given = fields(&[int.clone(), float.clone()]);
    let declared = |returns| payload(returns).declared(&Schema::default(), &given).unwrap();
    assert_eq!(declared(Returns::Unknown), None);
    assert_eq!(declared(Returns::Same), Some(int.clone()));
    assert_eq!(declared(Returns::Supertype), Some(float.clone()));
    assert_eq!(declared(Returns::Type(Box::new(DataTypeExpr::SelfDtype))), Some(int.clone()));
    let frame = Arc::new(Schema::from_iter(given.clone().into_iter().take(1)));
    assert_eq!(declared(Returns::Frame(frame)), Some(DataType::Struct(fields(&[int.clone()]))));
    let columns = |each, first| declared(Returns::Columns { each: Box::new(each), first });
    assert_eq!(columns(Returns::Same, true), Some(DataType::Struct(fields(&[int.clone(), int.clone()]))));
    assert_eq!(columns(Returns::Same, false), Some(DataType::Struct(fields(&[int]))));
    assert_eq!(columns(Returns::Supertype, false), Some(DataType::Struct(fields(&[float]))));
}

#[test]
fn group_types_follow_from_the_type_of_one_group() {
    let (int, float) = (DataType::Int32, DataType::Float64);
    let of = |scalar, columns: usize, given: &DataType| {
        let groups = Some(columns);
        let returns = Returns::Type(Box::new(DataTypeExpr::SelfDtype));
        let payload = Payload { scalar, groups, ..payload(returns) };
        payload.declared(&Schema::default(), &fields(&[given.clone()])).unwrap().unwrap()
    };
    assert_eq!(of(true, 1, &int.clone().implode()), int);
    assert_eq!(of(false, 1, &int.clone().implode()), int.clone().implode());
    let both = DataType::Struct(fields(&[float.clone().implode(), int.implode()]));
    assert_eq!(of(true, 2, &both), float);
}

#[test]
fn rows_of_groups_become_lists() {
    let rows = Series::new("rows".into(), ["a", "b", "c"]);
    let numbers = Series::new("group".into(), [1_u32, 1, 3]);
    let lists = groups::lists(&rows, &numbers, 5).unwrap();
    let lengths: Vec<usize> = lists.list().unwrap().series_iter().map(|list| list.unwrap().len()).collect();
    assert_eq!(lengths, [0, 2, 0, 1, 0]);
    assert_eq!(lists.explode(ExplodeOptions { empty_as_null: false, keep_nulls: true }).unwrap().len(), 3);
    assert!(groups::lists(&rows, &Series::new("group".into(), [1_u32, 0, 3]), 5).is_err());
}

#[test]
fn keys_identify_functions() {
    let one = payload(Returns::Same);
    let other = Payload { pickle: Bytes::from_static(b"another"), ..one.clone() };
    let windows = Payload { args: r#"{"window_size": 3}"#.into(), ..one.clone() };
    assert_ne!(one.key(), other.key());
    assert_ne!(one.key(), windows.key());
    assert_eq!(one.key(), payload(Returns::Unknown).key());
}

#[test]
fn an_unplaced_function_is_found_although_another_is_placed_twice() {
    let two = Carried { expressions: 2, ..Carried::default() };
    let mut placed = HashSet::from([1]);
    placed.extend([1]);
    assert_eq!(check_placed(&two, &placed).unwrap_err().class, "PythonInPlan");
    placed.insert(0);
    check_placed(&two, &placed).unwrap();
}
