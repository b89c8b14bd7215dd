//! Writes Avro containers as Iceberg wants manifests and manifest lists: with ids in the schema, deflated.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::sync::Arc;

use serde_json::Value as Json;

use super::decode::{Datum, integer};
use super::schema::{self, Node};
use super::{MAGIC, Result};

/// A block's content before it is compressed, as Java's writer has it.
const BLOCK_BYTES: usize = 64 << 10;

/// A container that is written row by row. Rows are records that have their fields by ids; missing fields are null.
pub struct Writer {
    out: Vec<u8>,
    node: Arc<Node>,
    sync: [u8; 16],
    block: Vec<u8>,
    rows: i64,
}

impl Writer {
    pub fn new(schema: &Json, metadata: &[(&str, &str)]) -> Result<Self> {
        let schema = schema.to_string();
        let node = schema::parse(schema.as_bytes(), &[])?;
        let mut out = MAGIC.to_vec();
        let own = [("avro.schema", schema.as_str()), ("avro.codec", "deflate")];
        long(&mut out, (metadata.len() + own.len()) as i64);
        for (key, value) in own.iter().chain(metadata) {
            bytes(&mut out, key.as_bytes());
            bytes(&mut out, value.as_bytes());
        }
        long(&mut out, 0);
        let sync = sync();
        out.extend_from_slice(&sync);
        Ok(Self { out, node, sync, block: Vec::new(), rows: 0 })
    }

    /// After an error the container is not to be used.
    pub fn row(&mut self, row: &Datum<'_>) -> Result<()> {
        value(&mut self.block, &self.node, row)?;
        self.rows += 1;
        if self.block.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.flush()?;
        Ok(self.out)
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows > 0 {
            let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            let deflated = deflate.write_all(&self.block).and_then(|()| deflate.finish());
            long(&mut self.out, self.rows);
            bytes(&mut self.out, &deflated.map_err(|error| error.to_string())?);
            self.out.extend_from_slice(&self.sync);
            self.block.clear();
            self.rows = 0;
        }
        Ok(())
    }
}

/// Differs from file to file and need not be secret.
fn sync() -> [u8; 16] {
    // Every state of this kind has keys of its own.
    let half = || u128::from(RandomState::new().hash_one(0));
    (half() << 64 | half()).to_le_bytes()
}

fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = (value as u64) << 1 ^ (value >> 63) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    long(out, value.len() as i64);
    out.extend_from_slice(value);
}

fn value(out: &mut Vec<u8>, node: &Node, datum: &Datum<'_>) -> Result<()> {
    match (node, datum) {
        (Node::Union(branches), datum) => {
            let null = |branch: &Node| matches!(branch, Node::Null);
            let branch = branches.iter().position(|branch| null(branch) == (*datum == Datum::Null));
            let branch = branch.ok_or_else(|| format!("{datum:?} fits no branch of a union"))?;
            long(out, branch as i64);
            value(out, &branches[branch], datum)?;
        }
        (Node::Null, Datum::Null) => {}
        (Node::Boolean, Datum::Boolean(value)) => out.push(u8::from(*value)),
        (Node::Int, Datum::Int(value)) => long(out, *value),
        (Node::Float, Datum::Float(value)) => out.extend_from_slice(&value.to_le_bytes()),
        // A column of floats may have been promoted to doubles.
        (Node::Double, Datum::Float(value)) => out.extend_from_slice(&f64::from(*value).to_le_bytes()),
        (Node::Double, Datum::Double(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (Node::String, Datum::String(value)) => bytes(out, value.as_bytes()),
        (Node::Bytes, Datum::Bytes(value)) => bytes(out, value),
        (Node::Fixed(size), Datum::Bytes(value)) if value.len() == *size => out.extend_from_slice(value),
        (Node::Decimal(size), Datum::Decimal(value)) => {
            let all = value.to_be_bytes();
            match size {
                Some(size) => {
                    let spare = all.len().checked_sub(*size).ok_or("a decimal is wider than 16 bytes")?;
                    let short = &all[spare..];
                    if integer(short) != Some(*value) {
                        return Err(format!("the decimal {value} does not fit into {size} bytes"));
                    }
                    out.extend_from_slice(short);
                }
                None => bytes(out, &all),
            }
        }
        (Node::Record(fields), Datum::Record(_)) => {
            for field in fields {
                let found = field.id.map_or(&Datum::Null, |id| datum.field(id));
                value(out, &field.node, found)?;
            }
        }
        (Node::Array(item), Datum::Array(values)) => {
            list(out, values, |out, datum| value(out, item, datum))?;
        }
        (Node::Pairs(key, item), Datum::Map(pairs)) => {
            list(out, pairs, |out, pair| value(out, key, &pair.0).and_then(|()| value(out, item, &pair.1)))?;
        }
        (node, datum) => return Err(format!("{datum:?} is not of the type {node:?}")),
    }
    Ok(())
}

fn list<T>(out: &mut Vec<u8>, items: &[T], mut each: impl FnMut(&mut Vec<u8>, &T) -> Result<()>) -> Result<()> {
    if !items.is_empty() {
        long(out, items.len() as i64);
        items.iter().try_for_each(|item| each(out, item))?;
    }
    long(out, 0);
    Ok(())
}
