//! A function as it travels: its pickle, and what Polars must know about it without calling it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use polars_core::prelude::*;
use polars_core::utils::try_get_supertype;
use polars_plan::dsl::DataTypeExpr;
use serde::{Deserialize, Serialize};

/// Polars' marker of functions that are serialized by name, followed by Floe's name.
pub const MARK: &[u8] = b"PLNAMEDFNfloe.python!";

/// The signature of the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Columns to column.
    Columns,
    /// Frame to frame; both are sent as structs.
    Frame,
    /// Frame of one group to frame.
    Group,
    /// `fold`, `reduce`: two columns to one column.
    Fold,
    /// `cum_fold`, `cum_reduce`: every intermediate value.
    CumFold,
    /// `rolling_map`: one window of a column at a time.
    Rolling,
    /// Column names to column names.
    Names,
    /// IO plugin: nothing to frames.
    Source,
    /// IO plugin: nothing to the schema.
    Schema,
}

/// Return type of the function.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Returns {
    /// Inferred by calling the function.
    Unknown,
    Type(Box<DataTypeExpr>),
    /// A frame of these columns.
    Frame(SchemaRef),
    /// Type of the first input column.
    Same,
    /// Supertype of all input columns.
    Supertype,
    /// A struct with one field per input column, with or without the first.
    Columns {
        each: Box<Returns>,
        first: bool,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Payload {
    pub kind: Kind,
    /// Polars release that pickled it, such as `2.1`.
    pub polars: String,
    /// Python that pickled it: minor and micro version.
    pub python: (u8, u8),
    /// Pickled by value, with its code; only the same minor version of Python can load it.
    pub with_code: bool,
    pub pickle: Bytes,
    pub returns: Returns,
    /// Whether it is declared to return one value.
    pub scalar: bool,
    /// Whether it may be called with batches of its frame's rows.
    pub by_batches: bool,
    /// Whether a frame that differs from the declared schema is an error.
    pub checked: bool,
    /// Further arguments, as JSON.
    pub args: String,
    /// Called per group, with this many columns, which are then unnamed: one list per group, or a struct of lists for
    /// several columns.
    pub groups: Option<usize>,
    /// Whether each output row depends only on the same input row.
    pub by_rows: bool,
}

impl Payload {
    /// Identifies the function: a hash of its kind, pickle and arguments.
    pub fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.kind, &self.pickle, &self.args).hash(&mut hasher);
        hasher.finish()
    }

    /// Output type for these columns; `None` if it must be inferred by a call.
    pub fn declared(&self, schema: &Schema, fields: &[Field]) -> PolarsResult<Option<DataType>> {
        if self.groups.is_some() {
            let declared = self.returns.declared(schema, &self.fields_of_one_group(fields))?;
            return Ok(declared.map(|dtype| self.of_all_groups(dtype)));
        }
        self.returns.declared(schema, fields)
    }
}

impl Returns {
    fn declared(&self, schema: &Schema, fields: &[Field]) -> PolarsResult<Option<DataType>> {
        let first = fields.first().map_or(DataType::Null, |field| field.dtype().clone());
        Ok(Some(match self {
            Returns::Unknown => return Ok(None),
            Returns::Type(dtype) => (**dtype).clone().into_datatype_with_self(schema, &first)?,
            Returns::Frame(columns) => DataType::Struct(columns.iter_fields().collect()),
            // Give an untyped literal its type.
            Returns::Same => first.materialize_unknown(true)?,
            Returns::Supertype => {
                let rest = fields.iter().skip(1).map(Field::dtype);
                rest.into_iter()
                    .try_fold(first, |all, dtype| try_get_supertype(&all, dtype))?
                    .materialize_unknown(true)?
            }
            Returns::Columns { each, first } => {
                let Some(dtype) = each.declared(schema, fields)? else { return Ok(None) };
                let named = fields.iter().skip(usize::from(!first));
                DataType::Struct(named.map(|field| Field::new(field.name().clone(), dtype.clone())).collect())
            }
        }))
    }
}

impl Payload {
    /// The same function, for the columns of a single group.
    pub fn of_one_group(&self) -> Payload {
        Payload { groups: None, ..self.clone() }
    }

    /// Types of the columns of one group, from those of the lists.
    pub fn fields_of_one_group(&self, fields: &[Field]) -> Vec<Field> {
        let lists = match fields {
            [one] if self.groups.is_some_and(|columns| columns > 1) => match one.dtype() {
                DataType::Struct(lists) => lists.clone(),
                _ => Vec::new(),
            },
            other => other.to_vec(),
        };
        lists.into_iter().map(|list| Field::new(list.name().clone(), of_list(list.dtype()).clone())).collect()
    }

    /// Output type for a batch of groups, from that for one group.
    pub fn of_all_groups(&self, dtype: DataType) -> DataType {
        if self.scalar { dtype } else { dtype.implode() }
    }
}

/// Element type of a list.
pub fn of_list(dtype: &DataType) -> &DataType {
    dtype.inner_dtype().unwrap_or(dtype)
}

/// A payload with its inferred type.
#[derive(Serialize, Deserialize)]
pub struct Packed {
    pub payload: Arc<Payload>,
    pub field: Option<Field>,
    /// Number of the function in its document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
}

impl Packed {
    pub fn write(&self, out: &mut Vec<u8>) -> PolarsResult<()> {
        out.extend_from_slice(MARK);
        rmp_serde::encode::write_named(out, self)
            .map_err(|e| polars_err!(ComputeError: "a Python function cannot be written: {e}"))
    }

    /// Reads what `write` wrote; `None` if the bytes are not a payload.
    pub fn read(bytes: &[u8]) -> Option<PolarsResult<Packed>> {
        let packed = bytes.strip_prefix(MARK)?;
        Some(
            rmp_serde::from_slice(packed)
                .map_err(|e| polars_err!(ComputeError: "a Python function cannot be read: {e}")),
        )
    }
}
