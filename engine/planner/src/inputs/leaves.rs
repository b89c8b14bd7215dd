//! Cuts base data into tasks: files and Parquet row groups of scans, slices of frames.

use std::sync::Arc;

use bytes::Bytes;
use polars_core::prelude::*;
use polars_io::parquet::metadata::FileMetadataRef;
use polars_parquet::parquet::metadata::RowGroupMetadata;
use polars_plan::dsl::{FileScanIR, ScanSources};
use polars_plan::plans::{ArenaLpIter, IR, IRPlan};
use polars_utils::arena::Node;

use crate::context::Cx;
use crate::explain;
use crate::fragment::{SourceUnit, encode};
use crate::inputs::estimate;
use crate::properties::rel::{Rel, Width};
use floe_plan::databases;
use floe_polars::frame_to_ipc;
use floe_postgres::Unit;
use floe_wire::error::Result;
use floe_wire::graph::{Leaf, Read};

/// Fewer bytes in memory than this are not worth a task of their own…
const MIN_TASK_BYTES: usize = 64 << 20;
/// …and no worker needs more tasks than this to even out the load.
const TASKS_PER_WORKER: usize = 4;

/// The bytes that the plan's leaves hold, by their metadata; none when any is unknown.
pub fn source_bytes(plan: &IRPlan) -> Option<u64> {
    let mut total = 0;
    let mut stack = vec![plan.lp_top];
    while let Some(node) = stack.pop() {
        let ir = plan.lp_arena.get(node);
        match ir {
            IR::DataFrameScan { df, .. } => {
                total += databases::guessed(df).map_or_else(|| df.estimated_size() as u64, |(_, bytes)| bytes);
            }
            IR::Scan { sources, scan_type, .. } => total += on_disk(sources, scan_type)?,
            _ => {}
        }
        stack.extend(ir.inputs());
    }
    Some(total)
}

/// Number of rows in the plan's leaves. Where no footer has it, estimated from the bytes of the files, for short rows.
pub(crate) fn source_rows(plan: &IRPlan) -> u64 {
    const ROW_BYTES: u64 = 64;
    let rows = plan.lp_arena.iter(plan.lp_top).map(|(_, ir)| match ir {
        IR::DataFrameScan { df, .. } => databases::guessed(df).map_or(df.height() as u64, |(rows, _)| rows),
        IR::Scan { sources, scan_type, .. } => {
            let known = by_footers(sources, scan_type, RowGroupMetadata::num_rows);
            known.map_or_else(|| on_disk(sources, scan_type).unwrap_or(0) / ROW_BYTES, |(rows, _)| rows as u64)
        }
        _ => 0,
    });
    rows.sum()
}

/// Footers of all files of a Parquet scan.
pub(crate) fn footers(sources: &ScanSources, scan_type: &FileScanIR) -> Option<Vec<FileMetadataRef>> {
    let FileScanIR::Parquet { first_metadata, metadata_per_source, .. } = scan_type else { return None };
    match (metadata_per_source, first_metadata) {
        (Some(all), _) if all.len() == sources.len() => Some(all.iter().cloned().collect()),
        (None, Some(first)) if sources.len() == 1 => Some(vec![first.clone()]),
        _ => None,
    }
}

/// The total size of a Parquet scan's row groups, and its row count. If only the first file's footer is known, the
/// others are assumed to be alike.
fn by_footers(
    sources: &ScanSources,
    scan_type: &FileScanIR,
    size: impl Fn(&RowGroupMetadata) -> usize,
) -> Option<(f64, Option<f64>)> {
    let of = |m: &FileMetadataRef| m.row_groups.iter().map(&size).sum::<usize>() as f64;
    match (footers(sources, scan_type), scan_type) {
        (Some(all), _) => Some((all.iter().map(of).sum(), Some(all.iter().map(|m| m.num_rows as f64).sum()))),
        (None, FileScanIR::Parquet { first_metadata: Some(first), .. }) => {
            Some((of(first) * sources.len() as f64, None))
        }
        _ => None,
    }
}

/// Bytes of a scan on disk: of the row groups for Parquet, of the files for others.
fn on_disk(sources: &ScanSources, scan_type: &FileScanIR) -> Option<u64> {
    if let FileScanIR::Parquet { .. } = scan_type {
        return by_footers(sources, scan_type, RowGroupMetadata::compressed_size).map(|(bytes, _)| bytes as u64);
    }
    sources.as_paths()?.iter().map(|p| std::fs::metadata(p.as_std_path()).ok().map(|m| m.len())).sum()
}

/// Bytes in memory and rows of what a scan reads, before its filter.
fn in_memory(
    sources: &ScanSources,
    scan_type: &FileScanIR,
    all: &Schema,
    wanted: &Schema,
) -> Option<(f64, Option<f64>)> {
    if let FileScanIR::Parquet { .. } = scan_type {
        return by_footers(sources, scan_type, |group| estimate::group_bytes(group, wanted));
    }
    let share = (wanted.len() as f64 / all.len().max(1) as f64).min(1.0);
    on_disk(sources, scan_type).map(|bytes| (bytes as f64 * share, None))
}

/// Encodes what each task reads.
pub(crate) fn encoded(units: &[SourceUnit]) -> Result<Vec<Bytes>> {
    units.iter().map(encode).collect()
}

/// Drops footers, which tasks read from their own files (what serde keeps of Parquet metadata lacks the Arrow schema), and
/// tables' statistics, which have left out files by now and hold a row for each file, not for those of a task.
pub fn drop_metadata(plan: &mut IRPlan) {
    let mut stack = vec![plan.lp_top];
    while let Some(node) = stack.pop() {
        if let IR::Scan { scan_type, unified_scan_args, .. } = plan.lp_arena.get_mut(node) {
            unified_scan_args.table_statistics = None;
            if let FileScanIR::Parquet { first_metadata, metadata_per_source, .. } = &mut **scan_type {
                (*first_metadata, *metadata_per_source) = (None, None);
            }
        }
        stack.extend(plan.lp_arena.get(node).inputs());
    }
}

impl Cx<'_> {
    pub fn frame(&mut self, node: Node) -> Result<Rel> {
        let IR::DataFrameScan { df, schema, output_schema } = self.ir.get(node).clone() else {
            return self.alone(node, "not a frame");
        };
        if let Some(units) = databases::units(&df)? {
            return self.database(&units, output_schema.unwrap_or(schema));
        }
        let df = match &output_schema {
            Some(out) => Arc::new(df.select(out.iter_names_cloned()).map_err(floe_polars::polars_error)?),
            None => df,
        };
        let rows = df.height();
        let bytes = df.estimated_size() as f64;
        let tasks = self.scan_tasks(df.estimated_size()).min(rows.max(1)).min(1 << 16);
        let mut per_task = Vec::with_capacity(tasks);
        for t in 0..tasks {
            let (from, to) = (rows * t / tasks, rows * (t + 1) / tasks);
            let part = df.slice(from as i64, to - from);
            per_task.push(encode(&SourceUnit::Frame { height: to - from, ipc: frame_to_ipc(part)? })?);
        }
        // Frames are immutable and shared: the placeholder holds only the schema.
        let schema = output_schema.unwrap_or(schema);
        let empty = Arc::new(DataFrame::empty_with_schema(&schema));
        let leaf = self.ir.add(IR::DataFrameScan { df: empty, schema, output_schema: None });
        let what = format!("frame of {rows} rows");
        let width = if tasks == 1 { Width::One } else { Width::Many(tasks as u32) };
        let rel = self.leaf(leaf, Leaf::Source { what, per_task }, width);
        Ok(rel.sized(Some(rows as f64), Some(bytes)))
    }

    /// A table of a database: a task for each connection that reads it.
    fn database(&mut self, units: &[Unit], schema: SchemaRef) -> Result<Rel> {
        let per_task = units
            .iter()
            .map(|unit| encode(&SourceUnit::Database { unit: unit.pack()?.into() }))
            .collect::<Result<_>>()?;
        let empty = Arc::new(DataFrame::empty_with_schema(&schema));
        let leaf = self.ir.add(IR::DataFrameScan { df: empty, schema, output_schema: None });
        self.databases.insert(leaf, explain::statements(units));
        let name = units.first().map(|unit| unit.name.as_str()).unwrap_or_default();
        let what = format!("postgres {name}");
        let width = if units.len() > 1 { Width::Many(units.len() as u32) } else { Width::One };
        let rel = self.leaf(leaf, Leaf::Source { what, per_task }, width);
        let rows = units.iter().map(|unit| unit.rows as f64).sum();
        let bytes = units.iter().map(|unit| unit.bytes as f64).sum();
        Ok(rel.sized(Some(rows), Some(bytes)))
    }

    pub fn scan(&mut self, node: Node) -> Result<Rel> {
        let IR::Scan {
            sources,
            file_info,
            scan_type,
            unified_scan_args,
            predicate,
            predicate_file_skip_applied,
            output_schema,
            ..
        } = self.ir.get(node).clone()
        else {
            return self.alone(node, "not a scan");
        };
        let wanted = output_schema.unwrap_or_else(|| file_info.schema.clone());
        let units = if unified_scan_args.pre_slice.is_some() || unified_scan_args.deletion_files.is_some() {
            None
        } else {
            self.scan_units(&sources, &scan_type, unified_scan_args.row_index.is_some(), &wanted, usize::MAX)
        };
        let can_be_cut = units.is_some();
        let files = predicate_file_skip_applied.map_or(sources.len(), |skipped| skipped.original_len);
        let what = format!("scan {}", source_name(&sources, files));
        let leaf = self.ir.add(self.ir.get(node).clone());
        let units = units.filter(|units| units.len() > 1).unwrap_or_else(|| {
            vec![SourceUnit::Files { first: 0, count: sources.len(), rows: None, rows_before: 0, keep: None }]
        });
        let width = if units.len() > 1 { Width::Many(units.len() as u32) } else { Width::One };
        let mut rel = self.leaf(leaf, Leaf::Source { what, per_task: encoded(&units)? }, width);
        if can_be_cut {
            rel = rel.clustered_by(self.clustered(leaf));
        }
        if let Some((bytes, rows)) = in_memory(&sources, &scan_type, &file_info.schema, &wanted) {
            rel = rel.sized(rows, Some(bytes));
        }
        if let Some(predicate) = predicate {
            let files = self.footers(leaf).unwrap_or_default();
            let bounds = |column: &str| estimate::file_bounds(&files, column);
            let part = estimate::passing(predicate.node(), &self.ex, estimate::Known::bounds(&bounds));
            rel = rel.filtered(part);
        }
        Ok(rel)
    }

    /// The number of tasks for reading `bytes`: several per worker, to even out the load, as long as each has enough to
    /// read.
    pub(crate) fn scan_tasks(&self, bytes: usize) -> usize {
        let workers = self.options.workers.max(1) as usize;
        let least = bytes.div_ceil(self.options.scan_task_bytes.max(1) as usize);
        least.max((bytes / MIN_TASK_BYTES).clamp(workers, workers * TASKS_PER_WORKER))
    }

    /// Cuts the only scan of a fragment into about `tasks` tasks, if it is cut into more.
    pub(crate) fn coarser(&mut self, rel: Rel, tasks: usize) -> Result<Rel> {
        let [branch] = rel.branches() else { return Ok(rel) };
        let (root, Width::Many(now)) = (branch.root(), branch.width()) else { return Ok(rel) };
        if now as usize <= tasks || rel.ranged().is_some() {
            return Ok(rel);
        }
        let (mut nodes, mut leaves) = (Vec::new(), Vec::new());
        self.collect(root, &mut nodes, &mut leaves)?;
        let in_tasks = |leaf: &&Leaf| !matches!(leaf, Leaf::Exchange { read: Read::All, .. });
        if leaves.iter().filter(in_tasks).count() != 1 {
            return Ok(rel);
        }
        let Some(leaf) = nodes.into_iter().find(|node| matches!(self.leaves.get(node), Some(Leaf::Source { .. })))
        else {
            return Ok(rel);
        };
        let IR::Scan { sources, scan_type, unified_scan_args, .. } = self.ir.get(leaf) else { return Ok(rel) };
        let row_index = unified_scan_args.row_index.is_some();
        let units = self.scan_units(sources, scan_type, row_index, &self.schema(leaf), tasks).unwrap_or_default();
        if let (1.., Some(Leaf::Source { what, .. })) = (units.len(), self.leaves.get(&leaf).cloned())
            && units.len() < now as usize
        {
            let per_task = encoded(&units)?;
            let tasks = per_task.len() as u32;
            self.leaves.insert(leaf, Leaf::Source { what, per_task });
            self.ranges.remove(&leaf);
            return Ok(rel.recut(tasks));
        }
        Ok(rel)
    }

    /// Cuts a scan into runs of files, or of row groups where the metadata of every file is known. None: it cannot be
    /// cut.
    fn scan_units(
        &self,
        sources: &ScanSources,
        scan_type: &FileScanIR,
        row_index: bool,
        wanted: &Schema,
        most: usize,
    ) -> Option<Vec<SourceUnit>> {
        let files = sources.len();
        if files == 0 {
            return None;
        }
        let least = (self.options.workers as usize).max(1);
        if let FileScanIR::Parquet { .. } = scan_type {
            let Some(metadata) = footers(sources, scan_type) else {
                return (!row_index).then(|| file_runs(files, least.min(most)));
            };
            let by = |size: &dyn Fn(&RowGroupMetadata) -> usize| -> Vec<Vec<usize>> {
                metadata.iter().map(|m| m.row_groups.iter().map(size).collect()).collect()
            };
            let mut sizes = by(&|group| estimate::group_bytes(group, wanted));
            let mut total: usize = sizes.iter().flatten().sum();
            if total == 0 && !wanted.is_empty() {
                // The columns have other names in the files.
                sizes = by(&RowGroupMetadata::compressed_size);
                total = sizes.iter().flatten().sum();
            }
            return Some(row_group_runs(&metadata, &sizes, total.div_ceil(self.scan_tasks(total).min(most).max(1))));
        }
        if row_index {
            return None;
        }
        Some(file_runs(files, least.max(files.min(least * 4)).min(most)))
    }
}

fn file_runs(files: usize, tasks: usize) -> Vec<SourceUnit> {
    let tasks = tasks.min(files).max(1);
    (0..tasks)
        .map(|t| {
            let (from, to) = (files * t / tasks, files * (t + 1) / tasks);
            SourceUnit::Files { first: from, count: to - from, rows: None, rows_before: 0, keep: None }
        })
        .collect()
}

/// Cuts runs of row groups of about `target` bytes; each is several whole files or an even share of one.
fn row_group_runs(metadata: &[FileMetadataRef], sizes: &[Vec<usize>], target: usize) -> Vec<SourceUnit> {
    let mut units: Vec<SourceUnit> = Vec::new();
    let mut rows_before = 0u64;
    let mut open: Option<usize> = None; // bytes so far of the last unit of whole files
    for (file, (m, sizes)) in metadata.iter().zip(sizes).enumerate() {
        let bytes: usize = sizes.iter().sum();
        let parts = ((bytes as f64 / target.max(1) as f64).round() as usize).clamp(1, m.row_groups.len().max(1));
        if parts > 1 {
            open = None;
            let (mut offset, mut len, mut size, mut made) = (0, 0, 0, 0);
            for (i, (g, bytes_of_group)) in m.row_groups.iter().zip(sizes).enumerate() {
                len += g.num_rows();
                size += bytes_of_group;
                if size * parts >= bytes * (made + 1) || i + 1 == m.row_groups.len() {
                    let rows_before = rows_before + offset as u64;
                    units.push(SourceUnit::Files {
                        first: file,
                        count: 1,
                        rows: Some((offset, len)),
                        rows_before,
                        keep: None,
                    });
                    offset += len;
                    (len, made) = (0, made + 1);
                }
            }
        } else {
            match (&mut open, units.last_mut()) {
                (Some(so_far), Some(SourceUnit::Files { count, rows: None, .. })) if *so_far + bytes <= target => {
                    *so_far += bytes;
                    *count += 1;
                }
                _ => {
                    units.push(SourceUnit::Files { first: file, count: 1, rows: None, rows_before, keep: None });
                    open = Some(bytes);
                }
            }
        }
        rows_before += m.num_rows as u64;
    }
    units
}

/// Shows what is scanned: so many files, of those there are without the filter.
pub(crate) fn source_name(sources: &ScanSources, files: usize) -> String {
    let left = sources.len();
    match sources.first_path() {
        Some(p) => {
            let s = p.as_str();
            let mut parts = s.rsplit('/');
            let file = parts.next().unwrap_or(s);
            let dir = parts.next().unwrap_or("");
            match left {
                _ if left < files => format!("{dir} ({left} of {files} files)"),
                1 => file.to_string(),
                _ => format!("{dir} ({left} files)"),
            }
        }
        None if left == 0 && files > 0 => format!("none of {files} files"),
        None => "bytes".into(),
    }
}
