//! Reads the footers of the files that are left of a table once filters have left out the others, so that their row
//! groups can be cut into tasks.

use std::sync::Arc;

use polars_io::HiveOptions;
use polars_io::cloud::CloudOptions;
use polars_io::parquet::metadata::FileMetadataRef;
use polars_lazy::frame::{LazyFrame, ScanArgsParquet};
use polars_plan::dsl::{FileScanIR, ScanSources};
use polars_plan::plans::{IR, IRPlan};
use polars_utils::arena::Node;
use polars_utils::pl_path::PlRefPath;

use floe_polars::{panics_as_polars, polars_error};
use floe_wire::error::{QueryError, Result};

/// Scans of more files are cut between files only: opening each would cost more than it gains.
const MOST_FILES: usize = 512;

/// Reads the footers for all scans of tables in an optimized plan.
pub fn read(plan: &mut IRPlan) -> Result<()> {
    let mut open = vec![plan.lp_top];
    while let Some(node) = open.pop() {
        open.extend(plan.lp_arena.get(node).inputs());
        of_scan(plan, node)?;
    }
    Ok(())
}

fn of_scan(plan: &mut IRPlan, node: Node) -> Result<()> {
    let IR::Scan { sources: ScanSources::Paths(paths), scan_type, unified_scan_args, .. } = plan.lp_arena.get_mut(node)
    else {
        return Ok(());
    };
    let FileScanIR::Parquet { first_metadata: first @ None, metadata_per_source: all, .. } = &mut **scan_type else {
        return Ok(());
    };
    if unified_scan_args.table_statistics.is_none() || paths.is_empty() || paths.len() > MOST_FILES {
        return Ok(());
    }
    (*first, *all) = of(&ScanSources::Paths(paths.clone()), unified_scan_args.cloud_options.clone())?;
    Ok(())
}

/// Whether the columns of each file have ids.
pub fn have_ids(files: &ScanSources, cloud_options: Option<CloudOptions>) -> Result<Vec<bool>> {
    let all = all(files, cloud_options)?;
    if all.len() != files.len() {
        return Err(QueryError::internal("a table has more files than footers"));
    }
    let has_ids =
        |footer: &FileMetadataRef| footer.schema_descr.fields().iter().any(|field| field.get_field_info().id.is_some());
    Ok(all.iter().map(has_ids).collect())
}

/// The footers of all files.
pub fn all(files: &ScanSources, cloud_options: Option<CloudOptions>) -> Result<Vec<FileMetadataRef>> {
    let all: Vec<FileMetadataRef> = match of(files, cloud_options.clone())? {
        (_, Some(all)) => all.to_vec(),
        (first, None) => first.into_iter().collect(),
    };
    match files {
        // Polars reads only the first unless it is told to resolve all.
        ScanSources::Paths(paths) if all.len() != paths.len() => {
            let one = |path: &PlRefPath| {
                let first = of(&ScanSources::Paths(std::iter::once(path.clone()).collect()), cloud_options.clone())?.0;
                first.ok_or_else(|| QueryError::internal(format!("{} has no footer", path.as_str())))
            };
            paths.iter().map(one).collect()
        }
        _ => Ok(all),
    }
}

type Footers = (Option<FileMetadataRef>, Option<Arc<[FileMetadataRef]>>);

/// The footer of the first file, and those of all files if there are several.
fn of(files: &ScanSources, cloud_options: Option<CloudOptions>) -> Result<Footers> {
    let hive_options = HiveOptions::new_disabled();
    let args = ScanArgsParquet { cloud_options, hive_options, glob: false, ..Default::default() };
    let plan = panics_as_polars(|| {
        LazyFrame::scan_parquet_sources(files.clone(), args).and_then(|frame| frame.to_alp()).map_err(polars_error)
    })?;
    match plan.lp_arena.get(plan.lp_top) {
        IR::Scan { scan_type, .. } => match &**scan_type {
            FileScanIR::Parquet { first_metadata, metadata_per_source, .. } => {
                Ok((first_metadata.clone(), metadata_per_source.clone()))
            }
            _ => Ok((None, None)),
        },
        _ => Ok((None, None)),
    }
}
