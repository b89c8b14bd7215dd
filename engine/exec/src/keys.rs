//! Makes key summaries of the tasks of one side of a join, and the runtime filters by which the tasks of the other side
//! drop rows without a match. A summary may have false positives, never false negatives.

use bytes::Bytes;
use polars_core::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Context, partition};
use floe_planner::{KeyFilter, SummarySpec, decode};
use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result, TaskError};
use floe_wire::task::{LeafInput, Summary, TaskOutput};

/// Words of a block of a Bloom filter: a key sets one bit in each.
const WORDS: usize = 8;
const SALT: [u32; WORDS] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];
/// A filter with more keys per block passes too many rows to be worth its cost.
const MAX_KEYS_PER_BLOCK: u64 = 128;
/// Rows to try first: where most of them pass, a filter only costs.
const TRIAL_ROWS: usize = 16_384;
const MAX_PASSING_ROWS: usize = TRIAL_ROWS * 8 / 10;

#[derive(Default, Serialize, Deserialize)]
struct KeySummary {
    rows: u64,
    /// Whether some keys are null, in part or whole.
    nulls: bool,
    /// Least and greatest key, for a key that is one column of integers or dates.
    bounds: Option<(i64, i64)>,
    hashes: Hashes,
}

#[derive(Serialize, Deserialize)]
enum Hashes {
    Each(Bytes),
    Bloom(Bytes),
}

impl Default for Hashes {
    fn default() -> Self {
        Hashes::Each(Bytes::new())
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|word| word.iter().rev().fold(0, |all, byte| (all << 8) | u64::from(*byte)))
}

fn bytes<'a>(words: impl IntoIterator<Item = &'a u64>) -> Bytes {
    words.into_iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>().into()
}

struct Bloom(Vec<[u64; WORDS]>);

impl Bloom {
    fn new(blocks: u32) -> Self {
        Bloom(vec![[0; WORDS]; blocks.max(1) as usize])
    }

    fn block(&self, hash: u64) -> usize {
        (((hash >> 32) * self.0.len() as u64) >> 32) as usize
    }

    fn bits(hash: u64) -> [u64; WORDS] {
        SALT.map(|salt| 1 << ((hash as u32).wrapping_mul(salt) >> 26))
    }

    fn add(&mut self, hash: u64) {
        let at = self.block(hash);
        self.0[at].iter_mut().zip(Self::bits(hash)).for_each(|(word, bit)| *word |= bit);
    }

    fn has(&self, hash: u64) -> bool {
        self.0[self.block(hash)].iter().zip(Self::bits(hash)).all(|(word, bit)| word & bit != 0)
    }

    fn bytes(&self) -> Bytes {
        bytes(self.0.iter().flatten())
    }

    /// Adds the keys of another filter; false if it is of another size.
    fn join(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() == self.0.len() * WORDS * 8;
        if fits {
            self.0.iter_mut().flatten().zip(words(bytes)).for_each(|(word, other)| *word |= other);
        }
        fits
    }
}

/// Builds the key summary of one task's rows, batch by batch.
pub struct KeySummaryBuilder {
    spec: SummarySpec,
    summary: KeySummary,
    seen: Seen,
}

enum Seen {
    Each(Vec<u64>),
    Bloom(Bloom),
}

impl KeySummaryBuilder {
    pub fn new(spec: &SummarySpec) -> KeySummaryBuilder {
        KeySummaryBuilder { spec: spec.clone(), summary: KeySummary::default(), seen: Seen::Each(Vec::new()) }
    }

    pub fn add(&mut self, df: &DataFrame) -> Result<()> {
        let SummarySpec { keys, blocks } = &self.spec;
        self.summary.rows += df.height() as u64;
        if let Seen::Each(all) = &self.seen
            && self.summary.rows > u64::from(*blocks) * WORDS as u64
        {
            let mut bloom = Bloom::new(*blocks);
            all.iter().for_each(|hash| bloom.add(*hash));
            self.seen = Seen::Bloom(bloom);
        }
        match &mut self.seen {
            Seen::Each(all) => partition::each_hash(df, keys, &mut |hash| all.push(hash))?,
            Seen::Bloom(bloom) => partition::each_hash(df, keys, &mut |hash| bloom.add(hash))?,
        }
        let columns = keys.iter().map(|key| df.column(key)).collect::<PolarsResult<Vec<_>>>().map_err(polars_error)?;
        self.summary.nulls |= columns.iter().any(|column| column.null_count() > 0);
        if let [column] = &columns[..] {
            // None: all values are null, or the type has no bounds in any batch.
            let new = bounds(column).map_err(polars_error)?;
            self.summary.bounds = match (self.summary.bounds, new) {
                (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
                (old, new) => old.or(new),
            };
        }
        Ok(())
    }

    /// None if there were no rows.
    pub fn finish(self) -> Result<Option<Vec<u8>>> {
        let KeySummaryBuilder { mut summary, seen, .. } = self;
        if summary.rows == 0 {
            return Ok(None);
        }
        summary.hashes = match seen {
            Seen::Each(mut all) => {
                all.sort_unstable();
                all.dedup();
                Hashes::Each(bytes(&all))
            }
            Seen::Bloom(bloom) => Hashes::Bloom(bloom.bytes()),
        };
        floe_wire::pack(&summary).map(|bytes| Some(bytes.to_vec()))
    }
}

fn bounds(column: &Column) -> PolarsResult<Option<(i64, i64)>> {
    if !matches!(column.dtype(), DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date)
    {
        return Ok(None);
    }
    let numbers = column.as_materialized_series().to_physical_repr().cast(&DataType::Int64)?;
    let numbers = numbers.i64()?;
    Ok(numbers.min().zip(numbers.max()))
}

/// A runtime filter of a task, built from the key summaries that it reads.
pub struct Filter {
    keys: Vec<String>,
    rows: u64,
    bloom: Option<Bloom>,
    /// Leaf and column of the scan to bound, with the least and greatest key.
    pub scan: Option<(usize, String, i64, i64)>,
}

pub fn read(
    filters: &[KeyFilter],
    inputs: &[LeafInput],
    ctx: &Context,
    out: &mut TaskOutput,
) -> Result<Vec<Filter>, TaskError> {
    let mut all = Vec::with_capacity(filters.len());
    for (filter, input) in filters.iter().zip(inputs) {
        let LeafInput::KeySummaries(summaries) = input else {
            return Err(QueryError::internal("a filter of keys is given no key summaries").into());
        };
        let (mut rows, mut nulls, mut bounds) = (0, false, Some(None::<(i64, i64)>));
        let mut hashes = Vec::with_capacity(summaries.len());
        for Summary { output, place, span } in summaries {
            let bytes = ctx.store.open(*output, place, *span)?;
            out.bytes_in += span.len;
            let summary: KeySummary = decode(&bytes)?;
            rows += summary.rows;
            hashes.push(summary.hashes);
            nulls |= summary.nulls;
            bounds = match (bounds, summary.bounds) {
                (Some(Some((a, b))), Some((c, d))) => Some(Some((a.min(c), b.max(d)))),
                (Some(None), Some(new)) => Some(Some(new)),
                (_, None) | (None, _) => None,
            };
        }
        let bloom = together(&hashes).filter(|bloom| rows <= MAX_KEYS_PER_BLOCK * bloom.0.len() as u64);
        // A null may match a null: bounds would drop it.
        let scan = match (&filter.scan, bounds.flatten(), nulls) {
            (Some((leaf, column)), Some((from, to)), false) => Some((*leaf, column.clone(), from, to)),
            _ => None,
        };
        all.push(Filter { keys: filter.keys.clone(), rows, bloom, scan });
    }
    Ok(all)
}

/// Merges the keys of all summaries into one filter: as large as the Bloom filters among them, else sized by the keys.
fn together(summaries: &[Hashes]) -> Option<Bloom> {
    let filters = summaries
        .iter()
        .filter_map(|summary| if let Hashes::Bloom(bytes) = summary { Some(bytes.len()) } else { None });
    let keys: usize =
        summaries.iter().map(|summary| if let Hashes::Each(bytes) = summary { bytes.len() / 8 } else { 0 }).sum();
    let blocks = filters.max().map_or(keys / 32 + 1, |bytes| bytes / (8 * WORDS));
    let mut bloom = Bloom::new(u32::try_from(blocks).ok()?);
    let whole = summaries.iter().all(|summary| match summary {
        Hashes::Each(each) => {
            words(each).for_each(|hash| bloom.add(hash));
            true
        }
        Hashes::Bloom(bytes) => bloom.join(bytes),
    });
    whole.then_some(bloom)
}

impl Filter {
    /// Keeps the rows that may have a match.
    pub fn keep(&self, df: DataFrame) -> Result<DataFrame> {
        if self.rows == 0 {
            return Ok(df.clear());
        }
        let Some(bloom) = &self.bloom else { return Ok(df) };
        if df.height() >= 2 * TRIAL_ROWS {
            let passed = self.passing(bloom, &df.head(Some(TRIAL_ROWS)))?.into_iter().filter(|pass| *pass).count();
            if passed > MAX_PASSING_ROWS {
                return Ok(df);
            }
        }
        let mask = self.passing(bloom, &df)?;
        let mask = BooleanChunked::from_slice(PlSmallStr::EMPTY, &mask);
        df.filter(&mask).map_err(polars_error)
    }

    fn passing(&self, bloom: &Bloom, df: &DataFrame) -> Result<Vec<bool>> {
        let mut mask = Vec::with_capacity(df.height());
        partition::each_hash(df, &self.keys, &mut |hash| mask.push(bloom.has(hash)))?;
        Ok(mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(value: u64) -> u64 {
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    #[test]
    fn a_bloom_filter_finds_its_keys_and_few_others() {
        let (mut odd, mut even) = (Bloom::new(240), Bloom::new(240));
        (0..10_000u64).for_each(|i| if i % 2 == 1 { odd.add(mix(i + 1)) } else { even.add(mix(i + 1)) });
        assert!(odd.join(&even.bytes()));
        assert!((0..10_000u64).all(|i| odd.has(mix(i + 1))));
        let wrong = (20_000..120_000u64).filter(|i| odd.has(mix(i + 1))).count();
        assert!(wrong < 3_000, "{wrong} of 100,000 pass by mistake");
        assert!(!odd.join(&Bloom::new(7).bytes()), "another size");
    }

    #[test]
    fn hashes_and_bloom_filters_are_merged() {
        let mut filter = Bloom::new(100);
        (0..900u64).for_each(|i| filter.add(mix(i + 1)));
        let each: Vec<u64> = (900..1000u64).map(|i| mix(i + 1)).collect();
        let all = together(&[Hashes::Each(bytes(&each)), Hashes::Bloom(filter.bytes())]).unwrap();
        assert!((0..1000u64).all(|i| all.has(mix(i + 1))));
        let few = together(&[Hashes::Each(bytes(&each))]).unwrap();
        assert!(each.iter().all(|hash| few.has(*hash)));
        assert!((5000..6000u64).filter(|i| few.has(mix(i + 1))).count() < 100);
        assert!(together(&[Hashes::Bloom(filter.bytes()), Hashes::Bloom(Bloom::new(7).bytes())]).is_none());
    }
}
