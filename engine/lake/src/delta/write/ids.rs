//! Identities in the form of UUIDs.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

/// One that is like no other. A `RandomState` has keys from the system, and no two have the same.
pub fn random() -> String {
    let part = || RandomState::new().build_hasher().finish();
    format(part(), part())
}

/// One that is always the same for the same texts (in one build of Floe).
pub fn of(texts: &[&str]) -> String {
    let part = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, texts).hash(&mut hasher);
        hasher.finish()
    };
    format(part(0), part(1))
}

fn format(high: u64, low: u64) -> String {
    let (high, low) = (high & !0xf000 | 0x4000, low & !(0b11 << 62) | 0b10 << 62);
    let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xffff);
    format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    #[test]
    fn identities_are_uuids() {
        for id in [super::random(), super::of(&["a", "b"]), super::format(0, 0), super::format(u64::MAX, u64::MAX)] {
            let lengths: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert!(&id[14..15] == "4" && "89ab".contains(&id[19..20]), "{id}");
        }
        assert_ne!(super::random(), super::random());
        assert_eq!(super::of(&["a", "b"]), super::of(&["a", "b"]));
        assert_ne!(super::of(&["a", "b"]), super::of(&["ab", ""]));
    }
}
