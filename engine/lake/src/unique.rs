//! UUIDs and other identities that no two things have, and the current time.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

/// A UUID that differs from all others.
pub fn uuid() -> String {
    format(random(), random())
}

/// The UUID of these texts: always the same for the same ones, in one build of Floe.
pub fn uuid_of(texts: &[&str]) -> String {
    let part = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, texts).hash(&mut hasher);
        hasher.finish()
    };
    format(part(0), part(1))
}

/// The identity of an Iceberg snapshot, which is always positive.
pub fn snapshot_id() -> i64 {
    ((random() >> 1) as i64).max(1)
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The keys of each `RandomState` come from the system's random numbers; time and process are mixed in, should two
/// processes ever get the same ones.
fn random() -> u64 {
    RandomState::new().hash_one((jiff::Timestamp::now().as_nanosecond(), std::process::id()))
}

/// As a UUID of version 4.
fn format(high: u64, low: u64) -> String {
    let (high, low) = (high & !0xf000 | 0x4000, low & !(0b11 << 62) | 0b10 << 62);
    let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xffff);
    format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_uuids() {
        for id in [uuid(), uuid_of(&["a", "b"]), format(0, 0), format(u64::MAX, u64::MAX)] {
            let lengths: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert!(&id[14..15] == "4" && "89ab".contains(&id[19..20]), "{id}");
        }
        assert_eq!(uuid_of(&["a", "b"]), uuid_of(&["a", "b"]));
        assert_ne!(uuid_of(&["a", "b"]), uuid_of(&["ab", ""]));
    }

    #[test]
    fn identities_differ() {
        let uuids: std::collections::BTreeSet<String> = (0..1000).map(|_| uuid()).collect();
        assert_eq!(uuids.len(), 1000);
        assert!((0..1000).all(|_| snapshot_id() > 0));
    }
}
