//! A msgpack document as a tree that borrows from its bytes, so that a plan can be searched and rewritten without
//! copying the frames it carries.
//!
//! Knows the format only, not what a plan is. Scalars and arrays of small integers (serde's form of byte vectors, and
//! so of whole frames) stay slices of the input; only maps and other arrays become nodes. Parsing, writing and dropping
//! recurse, so call them on a thread with a large stack (`super::on_big_stack`).

/// Nesting limit: deeper than any plan that Polars can build, and within the stack of `on_big_stack`.
pub const MAX_DEPTH: usize = 100_000;

#[derive(Debug, Clone)]
pub enum Node<'a> {
    /// Any value, as encoded in the input.
    Raw(&'a [u8]),
    Map(Vec<(Node<'a>, Node<'a>)>),
    Seq(Vec<Node<'a>>),
    /// Encoded bytes that a rewrite inserted.
    Owned(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The bytes end inside the value that begins at this offset.
    Truncated(usize),
    /// The marker 0xc1, which msgpack never uses, at this offset.
    Reserved(usize),
    /// More bytes follow the document, at this offset.
    Trailing(usize),
    TooDeep,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Truncated(at) => write!(f, "the bytes end inside a value at offset {at}"),
            Error::Reserved(at) => write!(f, "no msgpack value begins with the byte at offset {at}"),
            Error::Trailing(at) => write!(f, "bytes follow the plan, from offset {at}"),
            Error::TooDeep => write!(f, "the plan is nested deeper than {MAX_DEPTH} levels"),
        }
    }
}

/// Parses exactly one document, without trailing bytes.
pub fn parse(bytes: &[u8]) -> Result<Node<'_>, Error> {
    let mut reader = Reader { bytes, at: 0 };
    let node = reader.node(0)?;
    if reader.at != bytes.len() { Err(Error::Trailing(reader.at)) } else { Ok(node) }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// What a marker says about the bytes after it.
enum Head {
    /// Total length of marker, length field and payload.
    Scalar(usize),
    Seq(usize),
    Map(usize),
}

impl<'a> Reader<'a> {
    fn node(&mut self, depth: usize) -> Result<Node<'a>, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        let start = self.at;
        match self.head()? {
            Head::Scalar(len) => {
                let end = start.checked_add(len).filter(|end| *end <= self.bytes.len());
                self.at = end.ok_or(Error::Truncated(start))?;
                Ok(Node::Raw(&self.bytes[start..self.at]))
            }
            Head::Seq(len) => {
                self.fits(start, len)?;
                if len > 0 && self.skip_small_ints(len) {
                    return Ok(Node::Raw(&self.bytes[start..self.at]));
                }
                let mut items = Vec::with_capacity(len);
                for _ in 0..len {
                    items.push(self.node(depth + 1)?);
                }
                Ok(Node::Seq(items))
            }
            Head::Map(len) => {
                self.fits(start, len.saturating_mul(2))?;
                let mut entries = Vec::with_capacity(len);
                for _ in 0..len {
                    let key = self.node(depth + 1)?;
                    entries.push((key, self.node(depth + 1)?));
                }
                Ok(Node::Map(entries))
            }
        }
    }

    /// Checks that the remaining input can hold this many items, before a vector of that size is allocated.
    fn fits(&self, start: usize, items: usize) -> Result<(), Error> {
        if items > self.bytes.len() - self.at { Err(Error::Truncated(start)) } else { Ok(()) }
    }

    /// Skips the next `len` items if all are one-byte integers (0..=255); else leaves the position unchanged.
    fn skip_small_ints(&mut self, len: usize) -> bool {
        let mut at = self.at;
        for _ in 0..len {
            match self.bytes.get(at) {
                Some(0x00..=0x7f) => at += 1,
                Some(0xcc) if at + 1 < self.bytes.len() => at += 2,
                _ => return false,
            }
        }
        self.at = at;
        true
    }

    /// Reads a marker and its length field. Moves `at` to the first item of maps and arrays; leaves it at the marker
    /// for scalars.
    fn head(&mut self) -> Result<Head, Error> {
        let start = self.at;
        let marker = *self.bytes.get(start).ok_or(Error::Truncated(start))?;
        let scalar = |len: usize| Ok(Head::Scalar(len));
        match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => scalar(1),
            0xa0..=0xbf => scalar(1 + usize::from(marker & 0x1f)),
            0xcc | 0xd0 => scalar(2),
            0xcd | 0xd1 => scalar(3),
            0xca | 0xce | 0xd2 => scalar(5),
            0xcb | 0xcf | 0xd3 => scalar(9),
            0xc4 | 0xd9 => scalar(2 + self.length(1)?),
            0xc5 | 0xda => scalar(3 + self.length(2)?),
            0xc6 | 0xdb => scalar(5 + self.length(4)?),
            0xc7 => scalar(3 + self.length(1)?),
            0xc8 => scalar(4 + self.length(2)?),
            0xc9 => scalar(6 + self.length(4)?),
            0xd4 => scalar(3),
            0xd5 => scalar(4),
            0xd6 => scalar(6),
            0xd7 => scalar(10),
            0xd8 => scalar(18),
            0x90..=0x9f => {
                self.at += 1;
                Ok(Head::Seq(usize::from(marker & 0x0f)))
            }
            0x80..=0x8f => {
                self.at += 1;
                Ok(Head::Map(usize::from(marker & 0x0f)))
            }
            0xdc..=0xdf => {
                let width = if matches!(marker, 0xdc | 0xde) { 2 } else { 4 };
                let len = self.length(width)?;
                self.at += 1 + width;
                Ok(if matches!(marker, 0xdc | 0xdd) { Head::Seq(len) } else { Head::Map(len) })
            }
            0xc1 => Err(Error::Reserved(start)),
        }
    }

    fn length(&self, width: usize) -> Result<usize, Error> {
        let field = self.bytes.get(self.at + 1..self.at + 1 + width).ok_or(Error::Truncated(self.at))?;
        Ok(field.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)))
    }
}

impl<'a> Node<'a> {
    pub fn string(text: &str) -> Node<'static> {
        let mut out = Vec::with_capacity(text.len() + 5);
        match text.len() {
            len @ 0..=31 => out.push(0xa0 | len as u8),
            len @ 32..=255 => out.extend_from_slice(&[0xd9, len as u8]),
            len => {
                out.push(0xdb);
                out.extend_from_slice(&(len as u32).to_be_bytes());
            }
        }
        out.extend_from_slice(text.as_bytes());
        Node::Owned(out)
    }

    pub fn map<const N: usize>(entries: [(&str, Node<'a>); N]) -> Node<'a> {
        Node::Map(entries.into_iter().map(|(key, value)| (Node::string(key), value)).collect())
    }

    pub fn nil() -> Node<'static> {
        Node::Raw(&[0xc0])
    }

    fn encoded(&self) -> Option<&[u8]> {
        match self {
            Node::Raw(bytes) => Some(bytes),
            Node::Owned(bytes) => Some(bytes),
            Node::Map(_) | Node::Seq(_) => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        let bytes = self.encoded()?;
        let text = match bytes.first()? {
            0xa0..=0xbf => bytes.get(1..)?,
            0xd9 => bytes.get(2..)?,
            0xda => bytes.get(3..)?,
            0xdb => bytes.get(5..)?,
            _ => return None,
        };
        std::str::from_utf8(text).ok()
    }

    /// The payload of a `bin`, or of an array of small integers.
    #[cfg(test)]
    pub fn as_bytes(&self) -> Option<Vec<u8>> {
        self.head_bytes(usize::MAX)
    }

    /// The first `limit` bytes of that payload, to identify a blob without unpacking all of it.
    pub fn head_bytes(&self, limit: usize) -> Option<Vec<u8>> {
        let bytes = self.encoded()?;
        let payload = match bytes.first()? {
            0xc4 => return Some(bytes.get(2..)?.iter().copied().take(limit).collect()),
            0xc5 => return Some(bytes.get(3..)?.iter().copied().take(limit).collect()),
            0xc6 => return Some(bytes.get(5..)?.iter().copied().take(limit).collect()),
            0x90..=0x9f => bytes.get(1..)?,
            0xdc => bytes.get(3..)?,
            0xdd => bytes.get(5..)?,
            _ => return None,
        };
        let mut out = Vec::with_capacity(payload.len().min(limit));
        let mut rest = payload.iter();
        while out.len() < limit {
            match rest.next() {
                None => break,
                Some(0xcc) => out.push(*rest.next()?),
                Some(byte) => out.push(*byte),
            }
        }
        Some(out)
    }

    pub fn is_nil(&self) -> bool {
        self.encoded() == Some(&[0xc0])
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self.encoded()? {
            [0xc2] => Some(false),
            [0xc3] => Some(true),
            _ => None,
        }
    }

    /// A number that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        let (first, rest) = self.encoded()?.split_first()?;
        match (first, rest.len()) {
            (0x00..=0x7f, 0) => Some(u64::from(*first)),
            (0xcc, 1) | (0xcd, 2) | (0xce, 4) | (0xcf, 8) => {
                Some(rest.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
            }
            _ => None,
        }
    }

    pub fn as_map(&self) -> Option<&[(Node<'a>, Node<'a>)]> {
        match self {
            Node::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn as_seq(&self) -> Option<&[Node<'a>]> {
        match self {
            Node::Seq(items) => Some(items),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.as_map()?.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node<'a>> {
        match self {
            Node::Map(entries) => entries.iter_mut().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Removes an entry of a map and returns it.
    pub fn remove(&mut self, key: &str) -> Option<Node<'a>> {
        let Node::Map(entries) = self else { return None };
        let at = entries.iter().position(|(k, _)| k.as_str() == Some(key))?;
        Some(entries.remove(at).1)
    }

    /// Inserts or replaces an entry of a map.
    pub fn set(&mut self, key: &str, value: Node<'a>) {
        if let Some(slot) = self.get_mut(key) {
            *slot = value;
        } else if let Node::Map(entries) = self {
            entries.push((Node::string(key), value));
        }
    }

    /// Name and content of an enum variant with content, which serde writes as a map of one entry.
    pub fn variant(&self) -> Option<(&str, &Node<'a>)> {
        match self.as_map()? {
            [(name, content)] => Some((name.as_str()?, content)),
            _ => None,
        }
    }

    pub fn variant_mut(&mut self) -> Option<&mut Node<'a>> {
        match self {
            Node::Map(entries) => match entries.as_mut_slice() {
                [(_, content)] => Some(content),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Node::Raw(bytes) => out.extend_from_slice(bytes),
            Node::Owned(bytes) => out.extend_from_slice(bytes),
            Node::Map(entries) => {
                write_length(out, entries.len(), 0x80, 0xde);
                for (key, value) in entries {
                    key.write(out);
                    value.write(out);
                }
            }
            Node::Seq(items) => {
                write_length(out, items.len(), 0x90, 0xdc);
                for item in items {
                    item.write(out);
                }
            }
        }
    }
}

/// `wide` is the marker for 16-bit lengths; the marker for 32-bit lengths is the next one.
fn write_length(out: &mut Vec<u8>, len: usize, short: u8, wide: u8) {
    if len < 16 {
        out.push(short | len as u8);
    } else if let Ok(len) = u16::try_from(len) {
        out.push(wide);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(wide + 1);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
}

#[cfg(test)]
#[path = "msgpack_tests.rs"]
mod tests;
