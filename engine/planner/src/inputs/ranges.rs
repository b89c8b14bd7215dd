//! Avoids exchanges of data that is written in key order: where Parquet statistics show that a column rises from row
//! group to row group, a scan is cut into tasks by ranges of that column, so that rows with equal keys are in one task.
//! Two scans that are cut at the same keys make a co-located join.

use std::sync::Arc;

use polars_core::prelude::*;
use polars_io::parquet::metadata::FileMetadataRef;
use polars_plan::plans::IR;
use polars_plan::plans::expr_ir::ExprIR;
use polars_utils::arena::Node;
use polars_utils::pl_path::PlRefPath;
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::fragment::{Keep, SourceUnit};
use crate::inputs::estimate;
use crate::inputs::leaves::{encoded, footers};
use crate::properties::expr;
use crate::properties::rel::{Clustered, Ranged, Rel};
use floe_wire::error::Result;
use floe_wire::facts::KeyRanges;
use floe_wire::graph::Leaf;

/// Exchange instead if a task would read more than this multiple of its share.
const MAX_SKEW_FACTOR: f64 = 1.8;
/// Two tasks read the row groups at each border. Exchange instead if that makes more than this multiple of the data.
const MAX_REREAD_FACTOR: f64 = 1.6;

/// One row group of a scan, with the least and greatest key in it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Group {
    file: usize,
    /// Rows before it in its file.
    offset: usize,
    rows: usize,
    /// Bytes in memory of the columns that are read.
    bytes: usize,
    min: i64,
    max: i64,
}

/// The least and greatest key of every row group that has rows, in file order; none if keys fall or are not known.
fn rising(files: &[FileMetadataRef], column: &str) -> Option<Vec<(i64, i64)>> {
    let mut bounds: Vec<(i64, i64)> = Vec::new();
    for metadata in files {
        for group in metadata.row_groups.iter().filter(|group| group.num_rows() > 0) {
            let (min, max) = estimate::bounds(group.columns_under_root_iter(column)?.next()?, &metadata.footer_buf)?;
            if bounds.last().is_some_and(|(_, before)| *before > min) {
                return None;
            }
            bounds.push((min, max));
        }
    }
    Some(bounds)
}

/// The row groups in file order, if their keys never fall.
fn groups(files: &[FileMetadataRef], column: &str, wanted: &Schema) -> Option<Vec<Group>> {
    let mut bounds = rising(files, column)?.into_iter();
    let mut groups = Vec::new();
    for (file, metadata) in files.iter().enumerate() {
        let mut offset = 0;
        for group in &metadata.row_groups {
            let rows = group.num_rows();
            if rows > 0 {
                let (min, max) = bounds.next()?;
                let bytes = estimate::group_bytes(group, wanted);
                groups.push(Group { file, offset, rows, bytes, min, max });
            }
            offset += rows;
        }
    }
    Some(groups)
}

/// Cuts about `n` ranges of equal size and returns the first key of each but the first. None: the data cannot be cut
/// evenly.
fn cut(groups: &[Group], n: usize) -> Option<Vec<i64>> {
    let total: usize = groups.iter().map(|group| group.bytes).sum();
    let (mut bounds, mut before): (Vec<i64>, usize) = (Vec::new(), 0);
    for group in groups {
        let wanted = bounds.len() + 1;
        let later = bounds.last().map_or(groups[0].min, |last| *last);
        if wanted < n && before * n >= total * wanted && group.min > later {
            bounds.push(group.min);
        }
        before += group.bytes;
    }
    (bounds.len() + 1 == n && fair(groups, &bounds)).then_some(bounds)
}

/// Whether these ranges respect `MAX_SKEW_FACTOR` and `MAX_REREAD_FACTOR`.
fn fair(groups: &[Group], bounds: &[i64]) -> bool {
    let total = groups.iter().map(|group| group.bytes).sum::<usize>() as f64;
    let sizes: Vec<f64> = ranges(bounds)
        .map(|(from, to)| overlapping(groups, from, to).iter().map(|group| group.bytes).sum::<usize>() as f64)
        .collect();
    let largest = sizes.iter().copied().fold(0.0, f64::max);
    largest <= total / sizes.len() as f64 * MAX_SKEW_FACTOR && sizes.iter().sum::<f64>() <= total * MAX_REREAD_FACTOR
}

/// The range [from, to) of every task: the first has no start, the last no end.
fn ranges(bounds: &[i64]) -> impl Iterator<Item = (Option<i64>, Option<i64>)> + '_ {
    (0..=bounds.len()).map(|i| (i.checked_sub(1).map(|i| bounds[i]), bounds.get(i).copied()))
}

fn overlapping(groups: &[Group], from: Option<i64>, to: Option<i64>) -> &[Group] {
    let first = groups.partition_point(|group| from.is_some_and(|from| group.max < from));
    let last = groups.partition_point(|group| to.is_none_or(|to| group.min < to));
    &groups[first..last.max(first)]
}

/// What a task reads of the scan: the row groups that overlap its range, filtered to the rows within it.
fn unit(groups: &[Group], files: &[FileMetadataRef], source: &str, range: (Option<i64>, Option<i64>)) -> SourceUnit {
    let (from, to) = range;
    let own = overlapping(groups, from, to);
    let (Some(first), Some(last)) = (own.first(), own.last()) else {
        return SourceUnit::Files { first: 0, count: 1, rows: Some((0, 0)), rows_before: 0, keep: None };
    };
    let rows: usize = own.iter().map(|group| group.rows).sum();
    let rows_of = |files: &[FileMetadataRef]| files.iter().map(|file| file.num_rows).sum::<usize>();
    let whole = first.offset == 0 && rows == rows_of(&files[first.file..=last.file]);
    let from = from.filter(|from| first.min < *from);
    let to = to.filter(|to| last.max >= *to);
    SourceUnit::Files {
        first: first.file,
        count: last.file - first.file + 1,
        rows: (!whole).then_some((first.offset, rows)),
        rows_before: (rows_of(&files[..first.file]) + first.offset) as u64,
        keep: (from.is_some() || to.is_some()).then(|| Keep { column: source.to_string(), from, to }),
    }
}

impl Cx<'_> {
    /// The columns by which a scan can be cut: integers and dates that rise over its row groups.
    pub(crate) fn clustered(&self, leaf: Node) -> Vec<Clustered> {
        let IR::Scan { unified_scan_args, .. } = self.ir.get(leaf) else { return Vec::new() };
        if unified_scan_args.pre_slice.is_some() || unified_scan_args.deletion_files.is_some() {
            return Vec::new();
        }
        // Where columns are found by ids, the statistics of a name may be those of another column.
        if unified_scan_args.column_mapping.is_some() {
            return Vec::new();
        }
        let Some(files) = self.footers(leaf) else { return Vec::new() };
        if files.iter().map(|file| file.row_groups.len()).sum::<usize>() < 2 {
            return Vec::new();
        }
        let schema = self.schema(leaf);
        let columns = schema.iter().filter(|(name, dtype)| {
            matches!(dtype, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date)
                && rising(&files, name).is_some()
        });
        columns.map(|(name, _)| Clustered { column: name.clone(), source: name.clone(), leaf }).collect()
    }

    /// Footers of all files of a Parquet scan.
    pub(crate) fn footers(&self, leaf: Node) -> Option<Vec<FileMetadataRef>> {
        let IR::Scan { sources, scan_type, .. } = self.ir.get(leaf) else { return None };
        footers(sources, scan_type)
    }

    /// Puts rows with equal `keys` into one task, if that takes no exchange.
    pub(crate) fn together(&mut self, rel: &Rel, keys: &[ExprIR]) -> Result<Option<Rel>> {
        if rel.branches().len() != 1 || rel.is_tagged() {
            return Ok(None);
        }
        let plain: Vec<PlSmallStr> = keys.iter().filter_map(|key| expr::column_name(key, &self.ex)).collect();
        if rel.ranged().is_some_and(|ranged| ranged.columns.iter().any(|column| plain.contains(column))) {
            return Ok(Some(rel.clone()));
        }
        let Some(by) = rel.clustered().iter().find(|by| plain.contains(&by.column)).cloned() else { return Ok(None) };
        match self.own_bounds(&by, None) {
            Some(bounds) => self.cut_by(rel.clone(), &by, bounds),
            None => Ok(None),
        }
    }

    /// Cuts both sides of a join into tasks by the same ranges of one pair of keys, if that takes no exchange.
    pub(crate) fn side_by_side(
        &mut self,
        left: &Rel,
        right: &Rel,
        left_on: &[ExprIR],
        right_on: &[ExprIR],
    ) -> Result<Option<(Rel, Rel)>> {
        if left.branches().len() != 1 || right.branches().len() != 1 || left.is_tagged() || right.is_tagged() {
            return Ok(None);
        }
        for (l, r) in left_on.iter().zip(right_on) {
            let (Some(l), Some(r)) = (expr::column_name(l, &self.ex), expr::column_name(r, &self.ex)) else { continue };
            let bounds_of = |rel: &Rel, column: &PlSmallStr| {
                let ranged = rel.ranged().filter(|ranged| ranged.columns.contains(column))?;
                Some(ranged.bounds.clone())
            };
            let by = |rel: &Rel, column: &PlSmallStr| rel.clustered().iter().find(|by| by.column == *column).cloned();
            let (cut_l, cut_r) = match (bounds_of(left, &l), bounds_of(right, &r)) {
                (Some(a), Some(b)) if a == b => (Some(left.clone()), Some(right.clone())),
                (Some(bounds), _) => match by(right, &r) {
                    Some(by) => (Some(left.clone()), self.cut_by(right.clone(), &by, bounds)?),
                    None => continue,
                },
                (None, Some(bounds)) => match by(left, &l) {
                    Some(by) => (self.cut_by(left.clone(), &by, bounds)?, Some(right.clone())),
                    None => continue,
                },
                (None, None) => {
                    let (Some(by_l), Some(by_r)) = (by(left, &l), by(right, &r)) else { continue };
                    let larger_left = self.scanned_bytes(&by_l) >= self.scanned_bytes(&by_r);
                    let (larger, smaller) = if larger_left { (&by_l, &by_r) } else { (&by_r, &by_l) };
                    let Some(bounds) = self.own_bounds(larger, Some(smaller)) else { continue };
                    (self.cut_by(left.clone(), &by_l, bounds.clone())?, self.cut_by(right.clone(), &by_r, bounds)?)
                }
            };
            if let (Some(left), Some(right)) = (cut_l, cut_r) {
                return Ok(Some((left, right)));
            }
        }
        Ok(None)
    }

    /// The row groups of a scan in the order of its column.
    fn groups_of(&self, by: &Clustered) -> Option<Vec<Group>> {
        groups(&self.footers(by.leaf)?, &by.source, &self.schema(by.leaf))
    }

    fn scanned_bytes(&self, by: &Clustered) -> usize {
        self.groups_of(by).map_or(0, |groups| groups.iter().map(|group| group.bytes).sum())
    }

    /// The keys at which to cut a scan, and `other` with it: where the same files were cut before, else into as many
    /// tasks as it would have anyway, or fewer if there are too few row groups.
    fn own_bounds(&mut self, by: &Clustered, other: Option<&Clustered>) -> Option<Arc<[i64]>> {
        let groups = self.groups_of(by)?;
        let others = other.map(|by| self.groups_of(by).ok_or(())).transpose().ok()?;
        let suits = |bounds: &[i64]| others.as_ref().is_none_or(|groups| fair(groups, bounds));
        let total = groups.iter().map(|group| group.bytes).sum();
        let most = self.scan_tasks(total);
        let least = self.options.workers.max(1) as usize;
        let key = self.cut_name(by)?;
        if let Some(bounds) = self.cuts.get(&key)
            && total.div_ceil(bounds.len() + 1) <= self.options.scan_task_bytes as usize
            && fair(&groups, bounds)
            && suits(bounds)
        {
            return Some(bounds.clone());
        }
        let bounds: Arc<[i64]> =
            (least..=most.max(least)).rev().find_map(|n| cut(&groups, n).filter(|b| suits(b)))?.into();
        self.cuts.insert(key, bounds.clone());
        Some(bounds)
    }

    /// The files of a scan and the column by which they are cut.
    fn cut_name(&self, by: &Clustered) -> Option<(Vec<PlRefPath>, PlSmallStr)> {
        let IR::Scan { sources, .. } = self.ir.get(by.leaf) else { return None };
        Some((sources.as_paths()?.to_vec(), by.source.clone()))
    }

    /// Cuts the scan at the bottom of the fragment by these keys. None where that would read too much.
    fn cut_by(&mut self, rel: Rel, by: &Clustered, bounds: Arc<[i64]>) -> Result<Option<Rel>> {
        let Some(files) = self.footers(by.leaf) else { return Ok(None) };
        let Some(groups) = self.groups_of(by).filter(|groups| fair(groups, &bounds)) else { return Ok(None) };
        let units: Vec<_> = ranges(&bounds).map(|range| unit(&groups, &files, &by.source, range)).collect();
        let per_task = encoded(&units)?;
        let Some(Leaf::Source { what, .. }) = self.leaves.get(&by.leaf).cloned() else { return Ok(None) };
        let tasks = per_task.len() as u32;
        self.leaves.insert(by.leaf, Leaf::Source { what, per_task });
        self.ranges.insert(by.leaf, KeyRanges { columns: vec![by.source.to_string()], bounds: bounds.to_vec() });
        Ok(Some(rel.cut_by(Ranged { columns: vec![by.column.clone()], bounds }, tasks)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(file: usize, offset: usize, min: i64, max: i64) -> Group {
        Group { file, offset, rows: 10, bytes: 100, min, max }
    }

    fn four() -> Vec<Group> {
        vec![group(0, 0, 1, 10), group(0, 10, 10, 20), group(1, 0, 21, 30), group(1, 10, 31, 40)]
    }

    #[test]
    fn cuts_are_even_and_at_keys_where_groups_begin() {
        assert_eq!(cut(&four(), 2), Some(vec![21]));
        assert_eq!(cut(&four(), 4), None, "key 10 is in two groups, which would be read twice by too many");
        assert_eq!(cut(&[group(0, 0, 5, 5), group(0, 10, 5, 5)], 2), None, "one key cannot be cut");
        let skewed = [Group { bytes: 1000, ..group(0, 0, 1, 10) }, group(0, 10, 11, 20)];
        assert_eq!(cut(&skewed, 2), None, "one task would have nearly all");
    }

    #[test]
    fn every_key_is_in_the_range_of_one_task() {
        let groups = four();
        assert_eq!(overlapping(&groups, None, Some(10)).len(), 1);
        assert_eq!(overlapping(&groups, Some(10), Some(21)).len(), 2);
        assert_eq!(overlapping(&groups, Some(21), None).len(), 2);
        assert_eq!(overlapping(&groups, Some(100), None).len(), 0);
        let all: Vec<_> = ranges(&[10, 21]).collect();
        assert_eq!(all, [(None, Some(10)), (Some(10), Some(21)), (Some(21), None)]);
    }
}
