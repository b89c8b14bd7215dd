//! Exponential backoff after failures, up to a limit.

use std::time::Duration;

pub fn backoff(first_ms: u64, setbacks: u32, most: Duration) -> Duration {
    Duration::from_millis(first_ms << setbacks.saturating_sub(1).min(10)).min(most)
}
