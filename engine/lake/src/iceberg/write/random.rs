//! Numbers that differ from all others: of snapshots, files and tables.

use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

fn bits() -> u64 {
    // The keys of each state come from the system's random numbers. The time and the process make sure of it.
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    RandomState::new().hash_one((time, std::process::id()))
}

/// Positive, as all identities of snapshots are.
pub fn snapshot_id() -> i64 {
    ((bits() >> 1) as i64).max(1)
}

/// Of version 4.
pub fn uuid() -> String {
    let all = u128::from(bits()) << 64 | u128::from(bits());
    let all = all & !(0xf << 76) | 0x4 << 76;
    let all = all & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{all:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|time| time.as_millis().try_into().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_differ() {
        let uuids: std::collections::BTreeSet<String> = (0..1000).map(|_| uuid()).collect();
        assert_eq!(uuids.len(), 1000);
        assert!(uuids.iter().all(|uuid| uuid.len() == 36 && uuid.as_bytes()[14] == b'4'));
        assert!(uuids.iter().all(|uuid| b"89ab".contains(&uuid.as_bytes()[19])));
        assert!((0..1000).all(|_| snapshot_id() > 0));
    }
}
