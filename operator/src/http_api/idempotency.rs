//! Requests that may be sent twice. The key determines the query's name: the object of that name is the record, as long
//! as it exists, and is shared by all replicas. It keeps a digest of the request, so that reusing the key for another
//! request is noticed. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::problem::{Kind, Problem};

pub const HEADER: &str = "idempotency-key";
/// Annotation of a query: digest of the caller and key that made it.
pub const KEY: &str = "floe.dev/idempotency-key";
/// Annotation of a query: digest of the request that made it.
pub const REQUEST: &str = "floe.dev/request";
const MAX_KEY_CHARS: usize = 255;

/// A caller's key, as a digest: equal keys of different callers never collide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    pub fn read(header: &[u8], user: &str) -> Result<Key, Problem> {
        let fine = !header.is_empty() && header.len() <= MAX_KEY_CHARS && header.iter().all(u8::is_ascii_graphic);
        if !fine {
            let how = format!("must have 1 to {MAX_KEY_CHARS} characters, without spaces, such as a UUID");
            return Err(Problem::field(Kind::BadRequest, "Idempotency-Key", how));
        }
        let mut hash = Sha256::new();
        hash.update((user.len() as u64).to_be_bytes());
        hash.update(user.as_bytes());
        hash.update(header);
        Ok(Key(hex(&hash.finalize())))
    }

    /// The name of the query that the key determines.
    pub fn query_name(&self) -> String {
        format!("q-{}", &self.0[..24])
    }

    pub fn annotation(&self) -> &str {
        &self.0
    }
}

/// The digest of a request: equal for equal content, whatever its formatting.
pub fn digest(request: &Value) -> String {
    let mut hash = Sha256::new();
    feed(request, &mut hash);
    hex(&hash.finalize())
}

fn feed(value: &Value, hash: &mut Sha256) {
    let mut part = |kind: u8, text: &str| {
        hash.update([kind]);
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    match value {
        Value::Null => part(b'0', ""),
        Value::Bool(b) => part(b'b', if *b { "t" } else { "f" }),
        Value::Number(n) => part(b'n', &n.to_string()),
        Value::String(s) => part(b's', s),
        Value::Array(items) => {
            part(b'a', &items.len().to_string());
            items.iter().for_each(|item| feed(item, hash));
        }
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            part(b'o', &sorted.len().to_string());
            for (key, value) in sorted {
                feed(&Value::String(key.clone()), hash);
                feed(value, hash);
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How an existing query of the name relates to a request.
#[derive(Debug, PartialEq, Eq)]
pub enum There {
    /// The same request made it: repeat its answer.
    Same,
    /// Another request with the same key made it.
    OtherRequest,
    /// It has nothing to do with this request.
    Foreign,
}

pub fn compare(annotations: &BTreeMap<String, String>, key: Option<&Key>, request: &str) -> There {
    match (key, annotations.get(KEY)) {
        (Some(key), Some(made_by)) if made_by == key.annotation() => match annotations.get(REQUEST) {
            Some(made_from) if made_from == request => There::Same,
            _ => There::OtherRequest,
        },
        _ => There::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_names_one_query_of_one_caller() {
        let key = |text: &str, user: &str| Key::read(text.as_bytes(), user).unwrap();
        assert_eq!(key("k1", "ann"), key("k1", "ann"));
        assert_ne!(key("k1", "ann"), key("k1", "bob"));
        assert_ne!(key("k1", "ann"), key("k2", "ann"));
        assert_ne!(key("nk1", "an"), key("k1", "ann"), "user and key do not run into each other");
        let name = key("k1", "ann").query_name();
        assert!(floe_api::validate::validate_name(Some(&name)).is_empty(), "{name}");
        for wrong in ["", "a b", "é", &"k".repeat(256)] {
            let problem = Key::read(wrong.as_bytes(), "ann").unwrap_err();
            assert_eq!(problem.errors[0].field, "Idempotency-Key");
        }
    }

    #[test]
    fn a_digest_follows_the_content_and_not_the_layout() {
        let read = |text: &str| digest(&serde_json::from_str(text).unwrap());
        assert_eq!(read(r#"{"a": 1, "b": [true, null]}"#), read(r#"{"b":[true,null],"a":1}"#));
        let all = [r#"{"a":1}"#, r#"{"a":"1"}"#, r#"{"a":[1]}"#, r#"{"a":[[1]]}"#, r#"{"a":1,"b":null}"#, r#"["a",1]"#];
        let digests: std::collections::BTreeSet<String> = all.iter().map(|text| read(text)).collect();
        assert_eq!(digests.len(), all.len());
    }

    #[test]
    fn the_same_request_is_known_again_and_another_is_not() {
        let key = Key::read(b"k1", "ann").unwrap();
        let (one, two) = (digest(&json!({"spec": 1})), digest(&json!({"spec": 2})));
        let made: BTreeMap<String, String> =
            [(KEY.to_owned(), key.annotation().to_owned()), (REQUEST.to_owned(), one.clone())].into();
        assert_eq!(compare(&made, Some(&key), &one), There::Same);
        assert_eq!(compare(&made, Some(&key), &two), There::OtherRequest);
        assert_eq!(compare(&made, None, &one), There::Foreign);
        assert_eq!(compare(&made, Some(&Key::read(b"k1", "bob").unwrap()), &one), There::Foreign);
        assert_eq!(compare(&BTreeMap::new(), Some(&key), &one), There::Foreign);
    }
}
