//! Chooses the number of rows per function call: one row first, then as many as take about a second. So the time limit
//! of a call applies to a bounded part of the work, however many rows there are.
//!
//! A call may have a fixed cost that does not depend on its rows, such as loading a model. Two calls of different sizes
//! tell the fixed cost from the cost per row.

use std::time::Duration;

/// Target duration of a call.
const TARGET_SECONDS: f64 = 1.0;
/// Grow a batch at most 8-fold from one call to the next …
const MAX_GROWTH: usize = 8;
/// … or 64-fold while rows are nearly free compared with the call itself.
const MAX_FREE_GROWTH: usize = 64;

#[derive(Debug)]
pub struct Pace {
    rows: usize,
    most: usize,
    limit: f64,
    /// Fixed cost of a call, and cost per row, in seconds.
    fixed: f64,
    each: f64,
    /// Size and duration of the last call that updated the costs.
    last: Option<(usize, f64)>,
}

impl Pace {
    /// `most` is the largest batch, `limit` the time after which a call is stopped.
    pub fn new(most: usize, limit: Duration) -> Pace {
        Pace { rows: 1, most, limit: limit.as_secs_f64(), fixed: 0.0, each: 0.0, last: None }
    }

    /// Rows for the next call.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Expected time for `rows` rows, as far as the cost per row is known.
    pub fn expected(&self, rows: usize) -> Duration {
        Duration::try_from_secs_f64(self.each * rows as f64).unwrap_or(Duration::MAX)
    }

    /// Updates the costs with a finished call.
    pub fn took(&mut self, rows: usize, time: Duration) {
        let time = time.as_secs_f64();
        // A small batch at the end says little about the costs.
        if rows < self.rows.div_ceil(2) {
            return;
        }
        let other = self.last.filter(|(before, _)| rows >= before * 2 || *before >= rows * 2);
        match other {
            Some((before, then)) => {
                self.each = ((time - then) / (rows as f64 - before as f64)).max(0.0);
                self.fixed = (time.min(then) - self.each * rows.min(before) as f64).max(0.0);
            }
            None => self.each = (time - self.fixed).max(0.0) / rows as f64,
        }
        let aim = TARGET_SECONDS.min(self.limit / 8.0).max(self.fixed);
        let seconds = aim.min((self.limit / 4.0 - self.fixed).max(0.0));
        let wanted = if self.each > 0.0 { (seconds / self.each) as usize } else { usize::MAX };
        let wanted = match self.last {
            // Give the second call another size in any case: the costs can only be separated then.
            None if time <= self.limit / 16.0 => wanted.max(rows * 4),
            None if time <= self.limit / 4.0 => rows * 2,
            None => rows,
            Some(_) => wanted,
        };
        if self.last.is_none() || other.is_some() {
            self.last = Some((rows, time));
        }
        let free = self.each * (rows as f64) < self.fixed / 8.0;
        let growth = if free { MAX_FREE_GROWTH } else { MAX_GROWTH };
        self.rows = wanted.clamp(1, self.most.min(rows.saturating_mul(growth)).max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The batch sizes for `rows` rows, at these costs per call and per row.
    fn calls(rows: usize, fixed: f64, each: f64, limit: u64) -> Vec<usize> {
        let mut pace = Pace::new(usize::MAX, Duration::from_secs(limit));
        let (mut sizes, mut left) = (vec![], rows);
        while left > 0 {
            let some = pace.rows().min(left);
            let time = fixed + each * some as f64;
            assert!(time < limit as f64, "{some} rows take {time} s");
            pace.took(some, Duration::from_secs_f64(time));
            sizes.push(some);
            left -= some;
        }
        sizes
    }

    #[test]
    fn calls_take_about_a_second_whatever_a_row_takes() {
        assert_eq!(calls(8, 0.0, 1.0, 600), [1, 4, 1, 1, 1]);
        let sizes = calls(200_000, 0.001, 0.000_1, 600);
        assert!(sizes[5..20].iter().all(|rows| (9_900..=10_100).contains(rows)), "{sizes:?}");
        for each in [10.0, 60.0, 500.0] {
            assert!(calls(100, 0.0, each, 600)[2..].iter().all(|rows| *rows == 1), "{each} s a row");
        }
        assert_eq!(calls(4, 0.0, 0.2, 3), [1, 2, 1]);
    }

    #[test]
    fn cheap_rows_take_few_calls() {
        let sizes = calls(1_000_000, 0.001, 0.000_000_1, 600);
        assert!(sizes.len() <= 6, "{sizes:?}");
    }

    #[test]
    fn fixed_costs_are_not_counted_per_row() {
        for fixed in [1.0, 20.0, 60.0] {
            let sizes = calls(1_000_000, fixed, 0.000_000_1, 600);
            assert!(sizes.len() <= 6, "{fixed} s: {sizes:?}");
        }
        // The first call loads something.
        let mut pace = Pace::new(usize::MAX, Duration::from_secs(600));
        pace.took(1, Duration::from_secs(60));
        for _ in 0..6 {
            pace.took(pace.rows(), Duration::from_micros(100 + pace.rows() as u64));
        }
        assert!(pace.rows() > 10_000, "{pace:?}");
    }

    #[test]
    fn a_small_last_batch_does_not_change_the_pace() {
        let mut pace = Pace::new(1024, Duration::from_secs(600));
        while pace.rows() < 1024 {
            pace.took(pace.rows(), Duration::from_millis(1));
        }
        pace.took(3, Duration::from_secs(5));
        assert_eq!(pace.rows(), 1024);
    }

    #[test]
    fn remaining_time_is_known_after_one_call() {
        let mut pace = Pace::new(1024, Duration::from_secs(600));
        assert_eq!(pace.expected(100), Duration::ZERO);
        pace.took(1, Duration::from_millis(500));
        assert_eq!(pace.expected(100), Duration::from_secs(50));
    }
}
