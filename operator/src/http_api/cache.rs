//! A cache whose entries expire after a while, with a maximum number of entries.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub struct Cache<K, V> {
    kept: Mutex<HashMap<K, (V, Instant)>>,
    most: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    pub fn new(most: usize) -> Self {
        Cache { kept: Mutex::default(), most }
    }

    pub fn get(&self, key: &K, now: Instant) -> Option<V> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(_, until)| *until > now).map(|(value, _)| value.clone())
    }

    pub fn put(&self, key: K, value: V, lasts: Duration, now: Instant) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= self.most && !kept.contains_key(&key) {
            kept.retain(|_, (_, until)| *until > now);
        }
        if kept.len() >= self.most && !kept.contains_key(&key) {
            // Evict a quarter at once, so that a full cache is not scanned at every call.
            let mut ends: Vec<Instant> = kept.values().map(|(_, until)| *until).collect();
            ends.sort_unstable();
            let line = ends[ends.len() / 4];
            kept.retain(|_, (_, until)| *until > line);
        }
        if kept.len() < self.most {
            kept.insert(key, (value, now + lasts));
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.kept.lock().unwrap().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_forgotten_in_time_and_never_too_many() {
        let (cache, start) = (Cache::new(8), Instant::now());
        let second = Duration::from_secs(1);
        cache.put("a", 1, second, start);
        assert_eq!(cache.get(&"a", start), Some(1));
        assert_eq!(cache.get(&"a", start + second), None, "it lasts for a second");
        let numbers = Cache::new(8);
        for number in 0..100u32 {
            numbers.put(number, number, second * (number + 1), start);
            assert!(numbers.len() <= 8);
            assert_eq!(numbers.get(&number, start), Some(number), "the newest is there");
        }
        assert_eq!(numbers.get(&0, start), None, "those that end first made room");
    }
}
