//! The Avro schemas of manifest lists and manifests, for writing them (versions 2 and 3 of the format, which is the
//! parameter `format`).

use serde_json::{Value as Json, json};

fn optional(name: &str, dtype: Json, id: i32) -> Json {
    json!({"name": name, "type": ["null", dtype], "default": null, "field-id": id})
}

fn required(name: &str, dtype: Json, id: i32) -> Json {
    json!({"name": name, "type": dtype, "field-id": id})
}

/// A map whose keys are ids.
fn by_id(value: &str, key_id: i32, value_id: i32) -> Json {
    json!({"type": "array", "logicalType": "map", "items": {
        "type": "record", "name": format!("k{key_id}_v{value_id}"), "fields": [
            required("key", json!("int"), key_id),
            required("value", json!(value), value_id),
        ],
    }})
}

pub fn manifest_list(format: u32) -> Json {
    let summary = json!({"type": "record", "name": "r508", "fields": [
        required("contains_null", json!("boolean"), 509),
        optional("contains_nan", json!("boolean"), 518),
        optional("lower_bound", json!("bytes"), 510),
        optional("upper_bound", json!("bytes"), 511),
    ]});
    let mut fields = vec![
        required("manifest_path", json!("string"), 500),
        required("manifest_length", json!("long"), 501),
        required("partition_spec_id", json!("int"), 502),
        required("content", json!("int"), 517),
        required("sequence_number", json!("long"), 515),
        required("min_sequence_number", json!("long"), 516),
        required("added_snapshot_id", json!("long"), 503),
        required("added_files_count", json!("int"), 504),
        required("existing_files_count", json!("int"), 505),
        required("deleted_files_count", json!("int"), 506),
        required("added_rows_count", json!("long"), 512),
        required("existing_rows_count", json!("long"), 513),
        required("deleted_rows_count", json!("long"), 514),
        optional("partitions", json!({"type": "array", "items": summary, "element-id": 508}), 507),
        optional("key_metadata", json!("bytes"), 519),
    ];
    if format >= 3 {
        fields.push(optional("first_row_id", json!("long"), 520));
    }
    json!({"type": "record", "name": "manifest_file", "fields": fields})
}

/// A field of the record of partition values.
pub fn partition_field(name: &str, dtype: Json, id: i32) -> Json {
    optional(name, dtype, id)
}

/// `partition` is the record of partition values.
pub fn manifest(partition: &Json, format: u32) -> Json {
    let list = |dtype: &str, id: i32| json!({"type": "array", "items": dtype, "element-id": id});
    let mut fields = vec![
        required("content", json!("int"), 134),
        required("file_path", json!("string"), 100),
        required("file_format", json!("string"), 101),
        required("partition", partition.clone(), 102),
        required("record_count", json!("long"), 103),
        required("file_size_in_bytes", json!("long"), 104),
        optional("column_sizes", by_id("long", 117, 118), 108),
        optional("value_counts", by_id("long", 119, 120), 109),
        optional("null_value_counts", by_id("long", 121, 122), 110),
        optional("nan_value_counts", by_id("long", 138, 139), 137),
        optional("lower_bounds", by_id("bytes", 126, 127), 125),
        optional("upper_bounds", by_id("bytes", 129, 130), 128),
        optional("key_metadata", json!("bytes"), 131),
        optional("split_offsets", list("long", 133), 132),
        optional("equality_ids", list("int", 136), 135),
        optional("sort_order_id", json!("int"), 140),
        optional("referenced_data_file", json!("string"), 143),
    ];
    if format >= 3 {
        fields.push(optional("first_row_id", json!("long"), 142));
        fields.push(optional("content_offset", json!("long"), 144));
        fields.push(optional("content_size_in_bytes", json!("long"), 145));
    }
    let file = json!({"type": "record", "name": "r2", "fields": fields});
    json!({"type": "record", "name": "manifest_entry", "fields": [
        required("status", json!("int"), 0),
        optional("snapshot_id", json!("long"), 1),
        optional("sequence_number", json!("long"), 3),
        optional("file_sequence_number", json!("long"), 4),
        required("data_file", file, 2),
    ]})
}

/// The record of partition values of these fields.
pub fn partition(fields: Vec<Json>) -> Json {
    json!({"type": "record", "name": "r102", "fields": fields})
}
