//! A function as it travels: its pickle, and what Polars has to know of it without calling it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use polars_core::prelude::*;
use polars_core::utils::try_get_supertype;
use polars_plan::dsl::DataTypeExpr;
use serde::{Deserialize, Serialize};

/// How Polars marks functions that travel by name, and ours.
pub const MARK: &[u8] = b"PLNAMEDFNfloe.python!";

/// What is passed to the function, and what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A list of columns, for one.
    Columns,
    /// A frame (as a struct), for a frame.
    Frame,
    /// The frame of one group, for a frame.
    Group,
    /// Columns, two at a time.
    Fold,
    /// The same, for all that is given on the way.
    CumFold,
    /// Windows of a column, one at a time.
    Rolling,
    /// Column names.
    Names,
    /// Nothing, for the frames of a source.
    Source,
    /// Nothing, for the schema of a source.
    Schema,
}

/// The type of what it gives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Returns {
    /// Found out by calling it.
    Unknown,
    Type(Box<DataTypeExpr>),
    /// A frame of these columns.
    Frame(SchemaRef),
    /// That of the first column passed.
    Same,
    /// The one that all columns passed can become.
    Supertype,
    /// A struct of columns by the names of those passed, with or without the first.
    Columns {
        each: Box<Returns>,
        first: bool,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Payload {
    pub kind: Kind,
    /// The Polars that pickled it, such as `2.1`.
    pub polars: String,
    /// The Python that pickled it, minor and micro version.
    pub python: (u8, u8),
    /// Pickled with its code, which only the same minor version of Python reads.
    pub with_code: bool,
    pub pickle: Bytes,
    pub returns: Returns,
    /// Whether it says that it gives one value.
    pub scalar: bool,
    /// Whether it may be called with some rows of its frame at a time.
    pub by_batches: bool,
    /// Whether a frame of another schema than the one declared is an error.
    pub checked: bool,
    /// More arguments, as JSON.
    pub args: String,
    /// Called for each group, with so many columns, which have no names then: they come as one list for each group, or as a
    /// struct of lists if there are several.
    pub groups: Option<usize>,
    /// Whether each row that it gives is made of that row alone.
    pub by_rows: bool,
}

impl Payload {
    /// Tells functions apart.
    pub fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.kind, &self.pickle, &self.args).hash(&mut hasher);
        hasher.finish()
    }

    /// The type of what it gives for these columns; nothing if it must be called to know.
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
            // A literal has no type yet.
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
    /// The same function, called with the columns of one group.
    pub fn of_one_group(&self) -> Payload {
        Payload { groups: None, ..self.clone() }
    }

    /// The columns of one group, by those of all.
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

    /// The type of what is given for all groups, by that for one.
    pub fn of_all_groups(&self, dtype: DataType) -> DataType {
        if self.scalar { dtype } else { dtype.implode() }
    }
}

/// What a list is of.
pub fn of_list(dtype: &DataType) -> &DataType {
    dtype.inner_dtype().unwrap_or(dtype)
}

/// The payload with the type that was found for it.
#[derive(Serialize, Deserialize)]
pub struct Packed {
    pub payload: Arc<Payload>,
    pub field: Option<Field>,
    /// Which of a document's functions it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
}

impl Packed {
    pub fn write(&self, out: &mut Vec<u8>) -> PolarsResult<()> {
        out.extend_from_slice(MARK);
        rmp_serde::encode::write_named(out, self)
            .map_err(|e| polars_err!(ComputeError: "a Python function cannot be written: {e}"))
    }

    /// Reads what `write` wrote; nothing if these are other bytes.
    pub fn read(bytes: &[u8]) -> Option<PolarsResult<Packed>> {
        let packed = bytes.strip_prefix(MARK)?;
        Some(
            rmp_serde::from_slice(packed)
                .map_err(|e| polars_err!(ComputeError: "a Python function cannot be read: {e}")),
        )
    }
}
