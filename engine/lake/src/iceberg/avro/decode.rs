//! Values in the blocks of an Avro container.

use std::collections::HashMap;

use super::Result;
use super::schema::Node;

/// Steps of decoding that a row may take beyond those that its bytes account for. A step takes a value's memory at
/// most, and types that take no bytes could else be repeated without end.
const STEPS: u64 = 1 << 16;
const STEPS_PER_BYTE: u64 = 16;
const ROW_STEPS: u64 = 1 << 22;

#[derive(Debug, PartialEq)]
pub enum Datum<'a> {
    Null,
    Boolean(bool),
    Int(i64),
    Float(f32),
    Double(f64),
    Bytes(&'a [u8]),
    String(&'a str),
    Decimal(i128),
    /// The wanted fields by their ids.
    Record(Vec<(i32, Datum<'a>)>),
    Array(Vec<Datum<'a>>),
    Map(Vec<(Datum<'a>, Datum<'a>)>),
}

impl<'a> Datum<'a> {
    /// The field with this id; null if there is none.
    pub fn field(&self, id: i32) -> &Datum<'a> {
        match self {
            Datum::Record(fields) => fields.iter().find(|(field, _)| *field == id).map_or(&Datum::Null, |(_, v)| v),
            _ => &Datum::Null,
        }
    }

    pub fn int(&self) -> Option<i64> {
        match self {
            Datum::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub fn string(&self) -> Option<&'a str> {
        match self {
            Datum::String(value) => Some(value),
            _ => None,
        }
    }

    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Datum::Bytes(value) => Some(value),
            _ => None,
        }
    }

    /// The pairs of a map whose keys are ids.
    pub fn by_id(&self) -> impl Iterator<Item = (i32, &Datum<'a>)> {
        let pairs = match self {
            Datum::Map(pairs) => pairs.as_slice(),
            _ => &[],
        };
        pairs.iter().filter_map(|(key, value)| Some((i32::try_from(key.int()?).ok()?, value)))
    }
}

pub struct Reader<'a> {
    bytes: &'a [u8],
    steps: u64,
    row_steps: u64,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, steps: STEPS + STEPS_PER_BYTE * bytes.len() as u64, row_steps: 0 }
    }

    pub fn at_end(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or("it ends too early")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| "it ends too early".into())
    }

    pub fn long(&mut self) -> Result<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err("it has a number of more than 64 bits".into())
    }

    pub fn size(&mut self) -> Result<usize> {
        let value = self.long()?;
        usize::try_from(value).map_err(|_| format!("it has the impossible size {value}"))
    }

    fn text(&mut self) -> Result<&'a str> {
        let size = self.size()?;
        std::str::from_utf8(self.take(size)?).map_err(|_| "it has a text that is not UTF-8".into())
    }

    /// The number of items in the next block of an array or map, 0 at its end, and the block's bytes if it states them.
    fn items(&mut self) -> Result<(usize, Option<usize>)> {
        let count = self.long()?;
        let size = if count < 0 { Some(self.size()?) } else { None };
        let count = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        // An item of a type that Iceberg has takes a byte at least.
        if count > self.bytes.len() {
            return Err(format!("it has a list of {count} items in {} bytes", self.bytes.len()));
        }
        Ok((count, size))
    }

    pub fn metadata(&mut self) -> Result<HashMap<String, Vec<u8>>> {
        let mut metadata = HashMap::new();
        loop {
            let (count, _) = self.items()?;
            if count == 0 {
                return Ok(metadata);
            }
            for _ in 0..count {
                let key = self.text()?.to_string();
                let size = self.size()?;
                metadata.insert(key, self.take(size)?.to_vec());
            }
        }
    }

    /// A row.
    pub fn datum(&mut self, node: &Node) -> Result<Datum<'a>> {
        self.row_steps = ROW_STEPS;
        self.value(node)
    }

    fn step(&mut self) -> Result<()> {
        self.steps = self.steps.checked_sub(1).ok_or("it has more values than its bytes can hold")?;
        self.row_steps = self.row_steps.checked_sub(1).ok_or("a row of it has too many values")?;
        Ok(())
    }

    fn value(&mut self, node: &Node) -> Result<Datum<'a>> {
        self.step()?;
        Ok(match node {
            Node::Null => Datum::Null,
            Node::Boolean => Datum::Boolean(self.array::<1>()? != [0]),
            Node::Int | Node::Enum => Datum::Int(self.long()?),
            Node::Float => Datum::Float(f32::from_le_bytes(self.array()?)),
            Node::Double => Datum::Double(f64::from_le_bytes(self.array()?)),
            Node::String => Datum::String(self.text()?),
            Node::Fixed(size) => Datum::Bytes(self.take(*size)?),
            Node::Bytes => {
                let size = self.size()?;
                Datum::Bytes(self.take(size)?)
            }
            Node::Decimal(size) => {
                let size = size.map_or_else(|| self.size(), Ok)?;
                let bytes = self.take(size)?;
                Datum::Decimal(integer(bytes).ok_or("it has a decimal of more than 128 bits")?)
            }
            Node::Record(fields) => {
                let mut values = Vec::with_capacity(fields.iter().filter(|field| field.wanted).count());
                for field in fields {
                    match field.id {
                        Some(id) if field.wanted => values.push((id, self.value(&field.node)?)),
                        _ => self.pass(&field.node)?,
                    }
                }
                Datum::Record(values)
            }
            Node::Array(item) => {
                let mut values = Vec::new();
                loop {
                    let (count, _) = self.items()?;
                    if count == 0 {
                        break Datum::Array(values);
                    }
                    for _ in 0..count {
                        values.push(self.value(item)?);
                    }
                }
            }
            Node::Pairs(..) | Node::Map(_) => {
                let (key, value) = match node {
                    Node::Pairs(key, value) => (key.as_ref(), value.as_ref()),
                    Node::Map(value) => (&Node::String, value.as_ref()),
                    _ => (&Node::Null, &Node::Null),
                };
                let mut pairs = Vec::new();
                loop {
                    let (count, _) = self.items()?;
                    if count == 0 {
                        break Datum::Map(pairs);
                    }
                    for _ in 0..count {
                        pairs.push((self.value(key)?, self.value(value)?));
                    }
                }
            }
            Node::Union(branches) => {
                let branch = self.branch(branches)?;
                self.value(branch)?
            }
        })
    }

    fn branch<'n>(&mut self, branches: &'n [std::sync::Arc<Node>]) -> Result<&'n Node> {
        let index = self.size()?;
        branches.get(index).map(|branch| branch.as_ref()).ok_or_else(|| format!("it has no branch {index} in a union"))
    }

    /// Goes past a value that is not wanted.
    fn pass(&mut self, node: &Node) -> Result<()> {
        self.step()?;
        match node {
            Node::Null => {}
            Node::Boolean => drop(self.take(1)?),
            Node::Int | Node::Enum => drop(self.long()?),
            Node::Float => drop(self.take(4)?),
            Node::Double => drop(self.take(8)?),
            Node::Fixed(size) | Node::Decimal(Some(size)) => drop(self.take(*size)?),
            Node::String | Node::Bytes | Node::Decimal(None) => {
                let size = self.size()?;
                self.take(size)?;
            }
            Node::Record(fields) => {
                for field in fields {
                    self.pass(&field.node)?;
                }
            }
            Node::Array(_) | Node::Pairs(..) | Node::Map(_) => loop {
                let (count, size) = self.items()?;
                if count == 0 {
                    break;
                }
                if let Some(size) = size {
                    self.take(size)?;
                    continue;
                }
                for _ in 0..count {
                    match node {
                        Node::Array(item) => self.pass(item)?,
                        Node::Pairs(key, value) => {
                            self.pass(key)?;
                            self.pass(value)?;
                        }
                        Node::Map(value) => {
                            self.pass(&Node::String)?;
                            self.pass(value)?;
                        }
                        _ => {}
                    }
                }
            },
            Node::Union(branches) => {
                let branch = self.branch(branches)?;
                self.pass(branch)?;
            }
        }
        Ok(())
    }
}

/// A number in two's complement, its highest byte first.
pub fn integer(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let fill = if first & 0x80 == 0 { 0 } else { 0xff };
    let spare = bytes.len().saturating_sub(16);
    let (spare, bytes) = bytes.split_at(spare);
    let mut all = [fill; 16];
    all[16 - bytes.len()..].copy_from_slice(bytes);
    let sign_fits = spare.is_empty() || (all[0] & 0x80 != 0) == (first & 0x80 != 0);
    (spare.iter().all(|byte| *byte == fill) && sign_fits).then(|| i128::from_be_bytes(all))
}
