//! Random plans over random frames, from a seed: the same seed and index give the same plan. Expressions are chosen by
//! dtype, so that most plans are valid; some fail on purpose. A plan is returned as the bytes of a client's
//! `serialize()`, and so is decoded like any other.
//!
//! `frames` makes data, `files` writes it to disk, `exprs` and `aggs` make expressions, `ops` and `joins` make nodes.

mod aggs;
mod exprs;
mod files;
mod frames;
mod joins;
mod ops;

use std::path::Path;

use polars::prelude::{DataType, LazyFrame, PlSmallStr, PolarsResult};
use polars_plan::dsl::DslPlan;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// The plan of this seed and index, serialized. Files that it scans are written below `dir`.
pub fn plan_bytes(seed: u64, index: u64, dir: &Path) -> PolarsResult<Vec<u8>> {
    super::shrink::bytes(&plan(seed, index, dir)?)
}

/// The plan of this seed and index.
pub fn plan(seed: u64, index: u64, dir: &Path) -> PolarsResult<DslPlan> {
    // One random number generator per plan, so that each plan can be reproduced alone.
    let mut g = Gen::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index.wrapping_mul(0xD1B5_4A32_D192_ED03));
    ops::plan(&mut g, dir)
}

/// Source of all random choices.
pub(super) struct Gen {
    rng: SmallRng,
    /// Names given to new columns so far.
    named: usize,
    /// Directories written so far.
    pub files: usize,
}

impl Gen {
    fn new(seed: u64) -> Gen {
        Gen { rng: SmallRng::seed_from_u64(seed), named: 0, files: 0 }
    }

    fn chance(&mut self, p: f64) -> bool {
        self.rng.random_bool(p)
    }

    /// A number from 0 to `n` - 1; 0 if `n` is 0.
    fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.rng.random_range(0..n) }
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        self.rng.random_range(from..=to)
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        let at = self.below(list.len());
        &list[at]
    }

    fn pick_of<T: Clone>(&mut self, list: &[T]) -> Option<T> {
        if list.is_empty() { None } else { Some(self.pick(list).clone()) }
    }

    fn shuffled<T: Clone>(&mut self, list: &[T]) -> Vec<T> {
        let mut list = list.to_vec();
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
        list
    }

    fn name(&mut self) -> PlSmallStr {
        self.named += 1;
        PlSmallStr::from(format!("x{}", self.named))
    }
}

/// The columns that an expression can use.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub cols: Vec<(PlSmallStr, DataType)>,
}

impl Scope {
    /// `None` if the plan has no schema: it fails, or Polars panics on it.
    fn of(plan: &DslPlan) -> Option<Scope> {
        let schema = || LazyFrame::from(plan.clone()).collect_schema();
        let schema = std::panic::catch_unwind(std::panic::AssertUnwindSafe(schema)).ok()?.ok()?;
        Some(Scope { cols: schema.iter().map(|(n, d)| (n.clone(), d.clone())).collect() })
    }

    fn names(&self, keep: impl Fn(&DataType) -> bool) -> Vec<PlSmallStr> {
        self.cols.iter().filter(|(_, d)| keep(d)).map(|(n, _)| n.clone()).collect()
    }

    fn dtype(&self, name: &str) -> Option<&DataType> {
        self.cols.iter().find(|(n, _)| n == name).map(|(_, d)| d)
    }

    fn has(&self, name: &str) -> bool {
        self.dtype(name).is_some()
    }
}

/// Dtypes to group, join and sort by.
fn is_key(dtype: &DataType) -> bool {
    !dtype.is_nested() && !dtype.is_null() && !dtype.is_float()
}

#[cfg(test)]
#[path = "../generate_tests.rs"]
mod tests;
