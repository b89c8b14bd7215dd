//! Writes Avro containers as Iceberg wants manifests and manifest lists: with ids in the schema, deflated.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;

use serde_json::Value as Json;

use super::decode::Datum;
use super::schema::{self, Node};
use super::{MAGIC, Result};

/// A block's content before it is compressed, as Java's writer has it.
const BLOCK_BYTES: usize = 64 << 10;

/// A container of rows, which are records that have their fields by ids. Missing fields are null.
pub fn container(schema: &Json, metadata: &[(&str, &str)], rows: &[Datum<'_>]) -> Result<Vec<u8>> {
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
    let mut blocks: Vec<(i64, Vec<u8>)> = Vec::new();
    for row in rows {
        if blocks.last().is_none_or(|(_, block)| block.len() >= BLOCK_BYTES) {
            blocks.push((0, Vec::new()));
        }
        if let Some((count, block)) = blocks.last_mut() {
            *count += 1;
            value(block, &node, row)?;
        }
    }
    let sync = sync(&blocks);
    out.extend_from_slice(&sync);
    for (count, block) in blocks {
        let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        let deflated = deflate.write_all(&block).and_then(|()| deflate.finish()).map_err(|error| error.to_string())?;
        long(&mut out, count);
        bytes(&mut out, &deflated);
        out.extend_from_slice(&sync);
    }
    Ok(out)
}

/// Differs from file to file and need not be secret.
fn sync(blocks: &[(i64, Vec<u8>)]) -> [u8; 16] {
    let half = |seed: u64| {
        let mut hasher = DefaultHasher::new();
        (seed, blocks).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    (half(1) << 64 | half(2)).to_le_bytes()
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
        (Node::Double, Datum::Double(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (Node::String, Datum::String(value)) => bytes(out, value.as_bytes()),
        (Node::Bytes, Datum::Bytes(value)) => bytes(out, value),
        (Node::Fixed(size), Datum::Bytes(value)) if value.len() == *size => out.extend_from_slice(value),
        (Node::Decimal(size), Datum::Decimal(value)) => {
            let all = value.to_be_bytes();
            match size {
                Some(size) => out.extend_from_slice(all.get(all.len().wrapping_sub(*size)..).ok_or("a wide decimal")?),
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
