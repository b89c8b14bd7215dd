//! Manifests of the files that a snapshot adds.

use std::sync::Arc;

use serde_json::Value as Json;

use super::list::{ADDED, Counts, ManifestFile, Summary};
use super::partition::{self, Part};
use super::plan::Plan;
use crate::iceberg::avro::Result;
use crate::iceberg::avro::decode::Datum;
use crate::iceberg::avro::write::Writer;
use crate::iceberg::{schemas, values};
use crate::table::{Field, Type, Value};
use crate::write::Written;

/// Files in a manifest at most: such a manifest has a few megabytes, and one thread reads it.
pub const MANIFEST_FILES: usize = 20_000;

/// A manifest and its row in the list, without its place and its size.
pub fn manifest(plan: &Plan, files: &[Written], snapshot: i64, sequence: i64) -> Result<(Vec<u8>, ManifestFile)> {
    let state = &plan.state;
    let schema = schemas::manifest(&partition::avro(&plan.parts).map_err(|error| error.message)?, state.format_version);
    let spec = state.spec(state.default_spec_id).map_err(|error| error.message)?;
    let fields = spec.get("fields").unwrap_or(&Json::Null).to_string();
    let schema_id = plan.schema.get("schema-id").unwrap_or(&Json::Null).to_string();
    let (spec_id, version) = (state.default_spec_id.to_string(), state.format_version.to_string());
    let header = [
        ("schema", plan.schema.to_string()),
        ("schema-id", schema_id),
        ("partition-spec", fields),
        ("partition-spec-id", spec_id),
        ("format-version", version),
        ("content", "data".into()),
    ];
    let header: Vec<(&str, &str)> = header.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let mut writer = Writer::new(&schema, &header)?;
    let mut counts = Counts::default();
    let mut summaries = vec![Range::default(); plan.parts.len()];
    for file in files {
        let values = partition_values(&plan.parts, file);
        for (summary, value) in summaries.iter_mut().zip(&values) {
            summary.add(*value);
        }
        let path = state.own(&file.uri);
        let stats = Stats::of(file, &plan.columns);
        let rows = i64::try_from(file.rows).map_err(|_| "a file of too many rows")?;
        counts.files[ADDED] += 1;
        counts.rows[ADDED] += rows;
        let mut data = vec![
            (134, Datum::Int(0)),
            (100, Datum::String(&path)),
            (101, Datum::String("PARQUET")),
            (102, record(&plan.parts, &values)?),
            (103, Datum::Int(rows)),
            (104, Datum::Int(i64::try_from(file.bytes).map_err(|_| "a file of too many bytes")?)),
            (140, Datum::Int(0)),
        ];
        data.extend(stats.fields());
        writer.row(&Datum::Record(vec![(0, Datum::Int(1)), (1, Datum::Int(snapshot)), (2, Datum::Record(data))]))?;
    }
    let partitions: Arc<[Summary]> =
        summaries.iter().zip(&plan.parts).map(|(all, part)| all.summary(&part.dtype)).collect();
    let manifest = ManifestFile {
        spec: state.default_spec_id,
        sequence,
        min_sequence: sequence,
        snapshot,
        counts: Some(counts),
        partitions: Some(partitions),
        ..ManifestFile::default()
    };
    Ok((writer.finish()?, manifest))
}

/// The values of all fields of the specification, null for removed (`void`) ones.
pub fn partition_values<'a>(parts: &[Part], file: &'a Written) -> Vec<Option<&'a Value>> {
    let mut given = file.partition.iter();
    let value = |part: &Part| part.key.as_ref().and_then(|_| given.next()).and_then(Option::as_ref);
    parts.iter().map(value).collect()
}

/// A partition as Avro has it.
pub fn record<'a>(parts: &[Part], values: &[Option<&'a Value>]) -> Result<Datum<'a>> {
    let field = |(part, value): (&Part, &Option<&'a Value>)| match value {
        None => Ok((part.id, Datum::Null)),
        Some(value) => {
            let datum = datum(value, &part.dtype);
            let datum =
                datum.ok_or_else(|| format!("the partition value {value:?} is not of the type of {}", part.name));
            Ok((part.id, datum?))
        }
    };
    Ok(Datum::Record(parts.iter().zip(values).map(field).collect::<Result<_>>()?))
}

fn datum<'a>(value: &'a Value, dtype: &Type) -> Option<Datum<'a>> {
    // Checks the type, and lengths and ranges too.
    values::to_bytes(value, dtype)?;
    Some(match value {
        Value::Boolean(value) => Datum::Boolean(*value),
        Value::Int(value) => Datum::Int(*value),
        Value::Float(value) if *dtype == Type::Float32 => Datum::Float(*value as f32),
        Value::Float(value) => Datum::Double(*value),
        Value::Decimal(value) => Datum::Decimal(*value),
        Value::String(value) => Datum::String(value),
        Value::Binary(value) => Datum::Bytes(value),
    })
}

/// The least and the greatest value of a partition field.
#[derive(Clone, Default)]
struct Range<'a> {
    nulls: bool,
    nans: bool,
    ends: Option<(&'a Value, &'a Value)>,
}

impl<'a> Range<'a> {
    fn add(&mut self, value: Option<&'a Value>) {
        match value {
            None => self.nulls = true,
            Some(Value::Float(value)) if value.is_nan() => self.nans = true,
            Some(value) => {
                let (least, greatest) = self.ends.unwrap_or((value, value));
                let less =
                    |left: &Value, right: &Value| values::compare(left, right).is_some_and(std::cmp::Ordering::is_lt);
                let least = if less(value, least) { value } else { least };
                self.ends = Some((least, if less(greatest, value) { value } else { greatest }));
            }
        }
    }

    fn summary(&self, dtype: &Type) -> Summary {
        let float = matches!(dtype, Type::Float32 | Type::Float64);
        let bytes = |value: &Value| values::to_bytes(value, dtype);
        Summary {
            nulls: self.nulls,
            nans: float.then_some(self.nans),
            lower: self.ends.and_then(|(least, _)| bytes(least)),
            upper: self.ends.and_then(|(_, greatest)| bytes(greatest)),
        }
    }
}

/// What is said of the columns of a file, by their ids.
#[derive(Default)]
struct Stats {
    rows: i64,
    columns: Vec<i32>,
    nulls: Vec<(i32, u64)>,
    lower: Vec<(i32, Vec<u8>)>,
    upper: Vec<(i32, Vec<u8>)>,
}

impl Stats {
    fn of(file: &Written, columns: &[Field]) -> Self {
        let mut stats = Stats { rows: i64::try_from(file.rows).unwrap_or(i64::MAX), ..Stats::default() };
        for column in columns {
            let (Some(bounds), Some(id)) = (file.bounds.get(&column.name), column.id) else { continue };
            stats.columns.push(id);
            stats.nulls.extend(bounds.nulls.map(|nulls| (id, nulls)));
            let lower = bounds.min.as_ref().and_then(|min| values::lower_bound(min, &column.dtype));
            let upper = bounds.max.as_ref().and_then(|max| values::upper_bound(max, &column.dtype));
            stats.lower.extend(lower.map(|bytes| (id, bytes)));
            stats.upper.extend(upper.map(|bytes| (id, bytes)));
        }
        stats
    }

    fn fields(&self) -> Vec<(i32, Datum<'_>)> {
        let count = |(id, count): &(i32, u64)| {
            (Datum::Int((*id).into()), Datum::Int(i64::try_from(*count).unwrap_or(i64::MAX)))
        };
        let rows = |id: &i32| (Datum::Int((*id).into()), Datum::Int(self.rows));
        let mut fields = vec![
            (109, Datum::Map(self.columns.iter().map(rows).collect())),
            (110, Datum::Map(self.nulls.iter().map(count).collect())),
        ];
        for (id, bounds) in [(125, &self.lower), (128, &self.upper)] {
            let bounds = bounds.iter().map(|(id, bytes)| (Datum::Int((*id).into()), Datum::Bytes(bytes)));
            fields.push((id, Datum::Map(bounds.collect())));
        }
        fields
    }
}
