//! Limits per caller and for all callers together. Pure but for their locks: the time is an argument.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Maximum number of callers to remember; the least recently active are forgotten first.
const MAX_CALLERS: usize = 8192;

/// A token bucket of requests for each caller, refilled over time.
pub struct Buckets {
    per_second: f64,
    burst: f64,
    by_caller: Mutex<HashMap<String, (f64, Instant)>>,
}

impl Buckets {
    pub fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second.max(1));
        Buckets { per_second, burst: per_second * 2.0, by_caller: Mutex::default() }
    }

    /// Takes one request, or returns how long to wait for the next.
    pub fn take(&self, caller: &str, now: Instant) -> Result<(), Duration> {
        let mut by_caller = self.by_caller.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |left: f64, at: Instant| {
            (left + now.saturating_duration_since(at).as_secs_f64() * self.per_second).min(self.burst)
        };
        if by_caller.len() >= MAX_CALLERS && !by_caller.contains_key(caller) {
            by_caller.retain(|_, (left, at)| full(*left, *at) < self.burst);
            if by_caller.len() >= MAX_CALLERS {
                return Err(Duration::from_secs(1));
            }
        }
        let bucket = by_caller.entry(caller.to_owned()).or_insert((self.burst, now));
        let left = full(bucket.0, bucket.1);
        if left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - left) / self.per_second));
        }
        *bucket = (left - 1.0, now);
        Ok(())
    }
}

/// Limits open streams: in total, and per caller.
pub struct Slots {
    most: usize,
    most_of_caller: usize,
    taken: Mutex<HashMap<String, usize>>,
}

/// Holds the place of one stream until it is dropped.
pub struct Slot {
    slots: Arc<Slots>,
    caller: String,
}

impl Slots {
    pub fn new(most: usize, most_of_caller: usize) -> Arc<Self> {
        Arc::new(Slots { most, most_of_caller, taken: Mutex::default() })
    }

    /// Fails with the limit that was reached.
    pub fn take(self: &Arc<Self>, caller: &str) -> Result<Slot, String> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.get(caller).is_some_and(|own| *own >= self.most_of_caller) {
            return Err(format!("{} streams of one caller are open, which is the most", self.most_of_caller));
        }
        if taken.values().sum::<usize>() >= self.most {
            return Err(format!("{} streams are open, which is the most of this server", self.most));
        }
        *taken.entry(caller.to_owned()).or_default() += 1;
        Ok(Slot { slots: Arc::clone(self), caller: caller.to_owned() })
    }

    #[cfg(test)]
    fn taken(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_a_burst_and_then_a_rate_and_others_have_their_own() {
        let (buckets, start) = (Buckets::new(10), Instant::now());
        for _ in 0..20 {
            buckets.take("a", start).unwrap();
        }
        let wait = buckets.take("a", start).unwrap_err();
        assert!(wait <= Duration::from_millis(100) && wait > Duration::from_millis(90), "{wait:?}");
        buckets.take("b", start).unwrap();
        let later = start + Duration::from_millis(350);
        let taken = (0..10).take_while(|_| buckets.take("a", later).is_ok()).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn callers_that_are_quiet_are_forgotten_and_the_rest_is_bounded() {
        let (buckets, start) = (Buckets::new(1), Instant::now());
        for number in 0..MAX_CALLERS {
            buckets.take(&number.to_string(), start).unwrap();
        }
        assert!(buckets.take("one more", start).is_err());
        buckets.take("one more", start + Duration::from_secs(5)).unwrap();
        assert_eq!(buckets.by_caller.lock().unwrap().len(), 1);
    }

    #[test]
    fn streams_are_counted_for_each_caller_and_for_all() {
        let slots = Slots::new(3, 2);
        let first = slots.take("a").unwrap();
        let _second = slots.take("a").unwrap();
        assert!(slots.take("a").err().unwrap().contains("of one caller"));
        let _third = slots.take("b").unwrap();
        assert!(slots.take("b").err().unwrap().contains("of this server"));
        drop(first);
        assert_eq!(slots.taken(), 2);
        let _fourth = slots.take("b").unwrap();
    }
}
