//! `COPY … TO STDOUT (FORMAT binary)`: a head, then rows of fields with their lengths, then an end. Bytes come in pieces that
//! need not end where rows do.

use crate::columns::{Array, Batch, Values};
use crate::error::protocol;
use crate::numeric;
use crate::sql::Select;
use crate::types::Type;
use floe_wire::error::{QueryError, Result};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Days and microseconds from 1970 to 2000, where PostgreSQL's time begins.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_US: i64 = 946_684_800_000_000;
const DAY_US: i64 = 86_400_000_000;

pub(crate) struct Decoder {
    names: Vec<String>,
    types: Vec<Type>,
    columns: Vec<Array>,
    rows: usize,
    bytes: usize,
    /// The beginning of a row, the rest of which is to come.
    rest: Vec<u8>,
    begun: bool,
    ended: bool,
}

impl Decoder {
    pub(crate) fn new(select: &Select) -> Decoder {
        let columns = select.types.iter().map(Array::of).collect();
        Decoder {
            names: select.names.clone(),
            types: select.types.clone(),
            columns,
            rows: 0,
            bytes: 0,
            rest: Vec::new(),
            begun: false,
            ended: false,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<()> {
        if self.rest.is_empty() {
            let used = self.consume(piece)?;
            self.rest.extend_from_slice(&piece[used..]);
        } else {
            let mut all = std::mem::take(&mut self.rest);
            all.extend_from_slice(piece);
            let used = self.consume(&all)?;
            all.drain(..used);
            self.rest = all;
        }
        Ok(())
    }

    /// After the last piece.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.ended && self.rest.is_empty() { Ok(()) } else { Err(protocol("they break off")) }
    }

    /// The rows so far.
    pub(crate) fn take(&mut self) -> Result<Batch> {
        let fresh = self.types.iter().map(Array::of).collect();
        let columns = std::mem::replace(&mut self.columns, fresh);
        for ((array, r#type), name) in columns.iter().zip(&self.types).zip(&self.names) {
            check_text(array, r#type).map_err(|()| {
                let text = format!("column {name}: not UTF-8; read it with convert_from(…::bytea, …) or as bytea");
                QueryError::user("ComputeError", text)
            })?;
        }
        self.bytes = 0;
        Ok(Batch { rows: std::mem::take(&mut self.rows), columns })
    }

    /// All whole rows, and how many bytes they took.
    fn consume(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut at = 0;
        if !self.begun {
            let Some(head) = head(bytes)? else {
                return Ok(0);
            };
            at = head;
            self.begun = true;
        }
        while !self.ended
            && let Some(fields) = int16(bytes, at)
        {
            if fields == -1 {
                self.ended = true;
                return Ok(at + 2);
            }
            if usize::try_from(fields) != Ok(self.types.len()) {
                return Err(protocol(format_args!("a row of {fields} fields instead of {}", self.types.len())));
            }
            let Some(end) = end(bytes, at + 2, self.types.len())? else {
                break;
            };
            self.row(&bytes[at + 2..end])?;
            at = end;
        }
        Ok(at)
    }

    /// A row that is there as a whole.
    fn row(&mut self, mut fields: &[u8]) -> Result<()> {
        self.bytes += fields.len();
        for (column, array) in self.columns.iter_mut().enumerate() {
            let (Some(field), rest) = field(fields) else {
                return Err(protocol("a row is too short"));
            };
            fields = rest;
            put(array, &self.types[column], field)
                .map_err(|text| QueryError::user("ComputeError", format!("column {}: {text}", self.names[column])))?;
        }
        self.rows += 1;
        Ok(())
    }
}

fn head(bytes: &[u8]) -> Result<Option<usize>> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(protocol("they are not of a binary COPY"));
    }
    let (Some(flags), Some(extension)) = (int32(bytes, 11), int32(bytes, 15)) else {
        return Ok(None);
    };
    // The upper half says what one has to understand.
    if flags >> 16 != 0 {
        return Err(protocol(format_args!("flags {flags:#x} are not known")));
    }
    let end = 19 + usize::try_from(extension).map_err(protocol)?;
    Ok((bytes.len() >= end).then_some(end))
}

/// Where the row ends, if it is there as a whole.
fn end(bytes: &[u8], begin: usize, fields: usize) -> Result<Option<usize>> {
    let mut at = begin;
    for _ in 0..fields {
        let Some(len) = int32(bytes, at) else {
            return Ok(None);
        };
        at += 4 + match len {
            -1 => 0,
            len => usize::try_from(len).map_err(|_| protocol(format_args!("a field of {len} bytes")))?,
        };
    }
    Ok((at <= bytes.len()).then_some(at))
}

fn int16(bytes: &[u8], at: usize) -> Option<i16> {
    Some(i16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn int32(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The first field, which is none for null, and what follows it. The outer none: there is none.
fn field(bytes: &[u8]) -> (Option<Option<&[u8]>>, &[u8]) {
    let Some((len, rest)) = bytes.split_first_chunk::<4>() else {
        return (None, bytes);
    };
    match i32::from_be_bytes(*len) {
        -1 => (Some(None), rest),
        len => match usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len)) {
            Some((value, rest)) => (Some(Some(value)), rest),
            None => (None, bytes),
        },
    }
}

fn put(array: &mut Array, r#type: &Type, field: Option<&[u8]>) -> std::result::Result<(), String> {
    let Some(field) = field else {
        array.null();
        return Ok(());
    };
    match &mut array.values {
        Values::Bool(bits) => bits.push(fixed::<1>(field)?[0] != 0),
        Values::Int16(values) => values.push(i16::from_be_bytes(fixed(field)?)),
        Values::Int32(values) => {
            let value = i32::from_be_bytes(fixed(field)?);
            values.push(if *r#type == Type::Date { date(value)? } else { value });
        }
        Values::Int64(values) => {
            let value = i64::from_be_bytes(fixed(field)?);
            values.push(match r#type {
                Type::Time if value < DAY_US => value * 1000,
                Type::Time => return Err("24:00 is no Time: read it as text (in a query of your own)".to_owned()),
                Type::Datetime | Type::DatetimeUtc => timestamp(value)?,
                _ => value,
            });
        }
        Values::UInt32(values) => values.push(u32::from_be_bytes(fixed(field)?)),
        Values::Float32(values) => values.push(f32::from_be_bytes(fixed(field)?)),
        Values::Float64(values) => values.push(f64::from_be_bytes(fixed(field)?)),
        Values::Decimal(values) => {
            let Type::Decimal { precision, scale } = r#type else {
                return Err("is no Decimal".to_owned());
            };
            values.push(numeric::decode(field, *precision, *scale)?);
        }
        Values::Bytes { offsets, bytes } => {
            bytes.extend_from_slice(field);
            offsets.push(bytes.len() as i64);
        }
        Values::List { offsets, items } => {
            let Type::List(inner) = r#type else {
                return Err("is no List".to_owned());
            };
            put_items(items, inner, field)?;
            offsets.push(items.len() as i64);
        }
    }
    array.present();
    Ok(())
}

/// An array: dimensions, whether it has nulls, the type, the size of each dimension with its lowest index; then fields.
fn put_items(items: &mut Array, r#type: &Type, value: &[u8]) -> std::result::Result<(), String> {
    let broken = || format!("an array of {} bytes cannot be read", value.len());
    let dimensions = int32(value, 0).ok_or_else(broken)?;
    let count = match dimensions {
        0 => return Ok(()),
        1 => int32(value, 12).ok_or_else(broken)?,
        _ => {
            let text = format!(
                "an array of {dimensions} dimensions; lists have one: read it as text or take it apart (unnest)"
            );
            return Err(text);
        }
    };
    let mut fields = value.get(20..).ok_or_else(broken)?;
    for _ in 0..count {
        let (item, rest) = field(fields);
        put(items, r#type, item.ok_or_else(broken)?)?;
        fields = rest;
    }
    if fields.is_empty() { Ok(()) } else { Err(broken()) }
}

fn fixed<const N: usize>(field: &[u8]) -> std::result::Result<[u8; N], String> {
    field.try_into().map_err(|_| format!("a value of {} bytes instead of {N}", field.len()))
}

const INFINITE: &str =
    "infinity has no place in Polars: read it as text, or as null with NULLIF (in a query of your own)";

fn date(days: i32) -> std::result::Result<i32, String> {
    match days {
        i32::MIN | i32::MAX => Err(INFINITE.to_owned()),
        days => days.checked_add(EPOCH_DAYS).ok_or_else(|| "a date is too late".to_owned()),
    }
}

fn timestamp(us: i64) -> std::result::Result<i64, String> {
    match us {
        i64::MIN | i64::MAX => Err(INFINITE.to_owned()),
        us => us
            .checked_add(EPOCH_US)
            .ok_or_else(|| "a time after the year 294246 has no place in Polars: read it as text".to_owned()),
    }
}

/// All at once: the bytes are UTF-8, and no value ends within a character.
fn check_text(array: &Array, r#type: &Type) -> std::result::Result<(), ()> {
    match (&array.values, r#type) {
        (Values::Bytes { offsets, bytes }, Type::String) => {
            let text = std::str::from_utf8(bytes).map_err(|_| ())?;
            let ends_well = |end: &i64| usize::try_from(*end).is_ok_and(|end| text.is_char_boundary(end));
            if text.is_ascii() || offsets.iter().all(ends_well) { Ok(()) } else { Err(()) }
        }
        (Values::List { items, .. }, Type::List(inner)) => check_text(items, inner),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
