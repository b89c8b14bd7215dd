//! Avro containers as Iceberg writes manifests and manifest lists: the header, the blocks and their codecs. What the
//! bytes of a block mean is in `decode`. Every size that a file states is checked before memory is taken for it.

pub mod decode;
pub mod schema;
pub mod write;

use crate::checksum::crc32;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use decode::{Datum, Reader};
use schema::Node;

/// An error's text: the caller knows the file and names it.
pub type Result<T> = std::result::Result<T, String>;

pub const MAGIC: &[u8; 4] = b"Obj\x01";
/// Some writers put a whole manifest into one block.
const BLOCK_BYTES: u64 = 256 << 20;
const FILE_BYTES: u64 = 2 << 30;
const SYNC_BYTES: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

/// A container whose header has been read.
pub struct Container<'a> {
    reader: Reader<'a>,
    sync: [u8; SYNC_BYTES],
    codec: Codec,
    metadata: HashMap<String, Vec<u8>>,
    schema: Arc<Node>,
}

impl<'a> Container<'a> {
    /// `skip` has the ids of fields that are not wanted.
    pub fn open(bytes: &'a [u8], skip: &[i32]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len()) != Ok(MAGIC.as_slice()) {
            return Err("it is not an Avro file".into());
        }
        let metadata = reader.metadata()?;
        let sync = reader.take(SYNC_BYTES)?.try_into().map_err(|_| "it has no sync marker".to_string())?;
        let codec = match metadata.get("avro.codec").map(Vec::as_slice) {
            None | Some(b"null" | b"") => Codec::Null,
            Some(b"deflate") => Codec::Deflate,
            Some(b"snappy") => Codec::Snappy,
            Some(b"zstandard") => Codec::Zstandard,
            Some(other) => return Err(format!("its codec {} is not supported", String::from_utf8_lossy(other))),
        };
        let schema = metadata.get("avro.schema").ok_or("it has no schema")?;
        let schema = schema::parse(schema, skip)?;
        Ok(Self { reader, sync, codec, metadata, schema })
    }

    /// A text in the header's metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    pub fn schema(&self) -> &Node {
        &self.schema
    }

    /// Hands over the rows one after the other: only one is held at a time.
    pub fn rows(mut self, mut each: impl FnMut(Datum<'_>) -> Result<()>) -> Result<()> {
        let mut total = 0u64;
        while !self.reader.at_end() {
            let count = self.reader.size()?;
            let size = self.reader.size()?;
            let block = decompress(self.codec, self.reader.take(size)?)?;
            total += block.len() as u64;
            if total > FILE_BYTES {
                return Err(format!("it has more than {FILE_BYTES} bytes of content"));
            }
            if count > block.len() {
                return Err(format!("a block of {} bytes cannot have {count} rows", block.len()));
            }
            let mut rows = Reader::new(&block);
            for _ in 0..count {
                each(rows.datum(&self.schema)?)?;
            }
            if !rows.at_end() {
                return Err("a block has bytes after its last row".into());
            }
            if self.reader.take(SYNC_BYTES)? != self.sync {
                return Err("a block does not end with the file's sync marker".into());
            }
        }
        Ok(())
    }
}

fn decompress(codec: Codec, block: &[u8]) -> Result<Cow<'_, [u8]>> {
    match codec {
        Codec::Null => Ok(Cow::Borrowed(block)),
        Codec::Deflate => limited(flate2::read::DeflateDecoder::new(block)).map(Cow::Owned),
        Codec::Zstandard => {
            let decoder = zstd::stream::read::Decoder::with_buffer(block).map_err(|error| error.to_string())?;
            limited(decoder).map(Cow::Owned)
        }
        Codec::Snappy => {
            let (block, sum) = block.split_last_chunk::<4>().ok_or("a block is too short for its checksum")?;
            let length = snap::raw::decompress_len(block).map_err(|error| error.to_string())?;
            if length as u64 > BLOCK_BYTES {
                return Err(format!("a block has more than {BLOCK_BYTES} bytes"));
            }
            let bytes = snap::raw::Decoder::new().decompress_vec(block).map_err(|error| error.to_string())?;
            if crc32(&bytes) != u32::from_be_bytes(*sum) {
                return Err("the checksum of a block is wrong".into());
            }
            Ok(Cow::Owned(bytes))
        }
    }
}

fn limited(reader: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(BLOCK_BYTES + 1).read_to_end(&mut bytes).map_err(|error| format!("a block cannot be read: {error}"))?;
    if bytes.len() as u64 > BLOCK_BYTES {
        return Err(format!("a block has more than {BLOCK_BYTES} bytes"));
    }
    Ok(bytes)
}
