//! Detects which Polars release wrote a plan, by the header of its bytes. The table of accepted versions is only here;
//! the differences between their formats are in `rewrite`.

use floe_api::plan::MAGIC;

use super::refuse;
use floe_wire::error::Result;

/// The release that serialized a plan, as far as formats differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// Rust 0.55.2, the release this engine is built on.
    Engine,
    V1_43,
    V1_44,
    V2_0,
    V2_1,
}

impl Client {
    pub fn as_str(self) -> &'static str {
        match self {
            Client::Engine => "Rust Polars 0.55.2",
            Client::V1_43 => "Polars 1.43",
            Client::V1_44 => "Polars 1.44",
            Client::V2_0 => "Polars 2.0",
            Client::V2_1 => "Polars 2.1",
        }
    }
}

impl Client {
    /// Release of Python Polars without its patch number; `None` for the engine's own plans.
    pub fn release(self) -> Option<&'static str> {
        self.as_str().strip_prefix("Polars ")
    }
}

/// Schema hash that Rust 0.55.2 writes and requires.
const ENGINE_HASH: &str = "1104673576e9cccc0601f17b7f7c6ab29e726722cad08f0d657762686bf9fbec";

/// Schema hashes, taken from plans that each release's own wheel wrote.
const KNOWN: [(&str, Client); 5] = [
    ("4c41aded715f8ca85337bc9c23d38afa0e03d4dfb2802ac07e3c7b3b0b4fee9f", Client::V1_43),
    ("9bfcd182262693be6cb872bfc62beeba38de080f9aa83767eb693044009ee6fc", Client::V1_44),
    ("dd13fd0271a06799ac92d2b87b196660f19f2ff5d3ca3e16edb09eed5c51de68", Client::V2_0),
    ("b2af60200b56e429cab31266a9391bc2b595c97c3d15312db0b29bb1dad0935c", Client::V2_1),
    (ENGINE_HASH, Client::Engine),
];

pub const ACCEPTED: &str = "plans of Python Polars 1.43.2, 1.44.1, 1.44.2, 2.0.0 and 2.1.0 are accepted";

/// Magic, two u16, 64 hex digits.
pub const HEADER_LEN: usize = MAGIC.len() + 4 + 64;
const FORMAT: (u16, u16) = (24, 0);

/// Splits the bytes of `LazyFrame.serialize()` into the version that wrote them and the msgpack document.
pub fn split(bytes: &[u8]) -> Result<(Client, &[u8])> {
    if bytes.is_empty() {
        return Err(refuse::bad_plan("the plan is empty: expected the bytes of LazyFrame.serialize()"));
    }
    let prefix = bytes.len().min(MAGIC.len());
    if bytes[..prefix] != MAGIC[..prefix] {
        return Err(refuse::bad_plan(format!(
            "these are not the bytes of LazyFrame.serialize(): {}",
            what_else_it_is(bytes)
        )));
    }
    let Some((header, document)) = bytes.split_at_checked(HEADER_LEN) else {
        return Err(refuse::bad_plan(format!(
            "the plan is truncated: {} bytes, and its header alone has {HEADER_LEN}",
            bytes.len()
        )));
    };
    let version = &header[MAGIC.len()..];
    let format = (u16::from_le_bytes([version[0], version[1]]), u16::from_le_bytes([version[2], version[3]]));
    if format != FORMAT {
        return Err(refuse::unsupported_version(format!(
            "the plan has Polars' plan format {}.{}, and this engine reads {}.{}: {ACCEPTED}",
            format.0, format.1, FORMAT.0, FORMAT.1
        )));
    }
    let hash = match std::str::from_utf8(&version[4..]) {
        Ok(hash) if hash.bytes().all(|b| b.is_ascii_hexdigit()) => hash.to_ascii_lowercase(),
        _ => {
            return Err(refuse::bad_plan("the plan's header is damaged: its schema hash is not 64 hexadecimal digits"));
        }
    };
    match KNOWN.iter().find(|(known, _)| *known == hash) {
        Some((_, client)) => Ok((*client, document)),
        None => Err(refuse::unsupported_version(format!(
            "the plan was written by a Polars release that this engine does not know (schema hash {}…): {ACCEPTED}; \
             plans given as a Python script do not depend on the client's version",
            &hash[..12]
        ))),
    }
}

/// Writes the header that Polars' own decoder accepts for a rewritten plan.
pub fn engine_header(out: &mut Vec<u8>) {
    header(out, Client::Engine);
}

/// Writes the header of a release.
pub fn header(out: &mut Vec<u8>, client: Client) {
    let hash = KNOWN.iter().find(|(_, known)| *known == client).map_or(ENGINE_HASH, |(hash, _)| hash);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.0.to_le_bytes());
    out.extend_from_slice(&FORMAT.1.to_le_bytes());
    out.extend_from_slice(hash.as_bytes());
}

/// The release that wrote a plan.
pub fn client(bytes: &[u8]) -> Result<Client> {
    split(bytes).map(|(client, _)| client)
}

/// Recognizes common mistakes, for the error message.
fn what_else_it_is(bytes: &[u8]) -> &'static str {
    match bytes {
        [b'P', b'A', b'R', b'1', ..] => "this is a Parquet file; name it in spec.tables",
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => "this is an Arrow IPC file; name it in spec.tables",
        [0x1f, 0x8b, ..] => "this is gzip; give the bytes uncompressed",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "this is zstd; give the bytes uncompressed",
        [0x80, 2..=5, ..] => "this is a pickle; use LazyFrame.serialize()",
        [b'{' | b'[', ..] => "this looks like JSON; use LazyFrame.serialize() with its default format, binary",
        [b'R', b'F', b'N', b'M', ..] => "this looks like base64 of a plan; give the decoded bytes",
        _ if bytes.iter().take(64).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => "this looks like text",
        _ => "they do not begin with DSL_VERSION",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_written_is_the_header_read() {
        let mut bytes = Vec::new();
        engine_header(&mut bytes);
        assert_eq!(bytes.len(), HEADER_LEN);
        assert_eq!(split(&bytes).unwrap(), (Client::Engine, &[][..]));
        for (_, client) in KNOWN {
            let mut bytes = Vec::new();
            header(&mut bytes, client);
            assert_eq!(super::client(&bytes).unwrap(), client);
        }
    }

    #[test]
    fn other_bytes_are_named() {
        let mut other_format = Vec::new();
        engine_header(&mut other_format);
        other_format[11] = 25;
        let mut other_hash = Vec::new();
        engine_header(&mut other_hash);
        other_hash[20] = b'f';
        let mut no_hash = Vec::new();
        engine_header(&mut no_hash);
        no_hash[20] = b'-';
        let cases: [(&[u8], &str, &str); 11] = [
            (b"", "BadPlan", "the plan is empty: expected the bytes of LazyFrame.serialize()"),
            (b"DSL_VER", "BadPlan", "the plan is truncated: 7 bytes, and its header alone has 79"),
            (b"PAR1xxxx", "BadPlan", "this is a Parquet file; name it in spec.tables"),
            (b"ARROW1\0\0", "BadPlan", "this is an Arrow IPC file; name it in spec.tables"),
            (&[0x1f, 0x8b, 8], "BadPlan", "this is gzip; give the bytes uncompressed"),
            (&[0x80, 5, 0x95], "BadPlan", "this is a pickle; use LazyFrame.serialize()"),
            (b"{\"DataFrameScan\"", "BadPlan", "this looks like JSON"),
            (b"RFNMX1ZFUlNJT04", "BadPlan", "this looks like base64 of a plan; give the decoded bytes"),
            (&other_format, "UnsupportedVersion", "the plan has Polars' plan format 25.0, and this engine reads 24.0"),
            (&other_hash, "UnsupportedVersion", "(schema hash 11046f3576e9…): plans of Python Polars 1.43.2, 1.44.1"),
            (&no_hash, "BadPlan", "its schema hash is not 64 hexadecimal digits"),
        ];
        for (bytes, class, part) in cases {
            let error = split(bytes).unwrap_err();
            assert_eq!(error.class, class, "{error}");
            assert!(error.message.contains(part), "{error}");
        }
    }
}
