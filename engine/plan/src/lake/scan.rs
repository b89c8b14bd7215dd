//! Makes a plan of a table's files: a scan for each group of files that are read alike, their deleted rows left out.
//!
//! A scan holds what the table's metadata says of each file (values of partitions, bounds, row counts), so that Polars
//! leaves out files that a filter rules out, before any of them is opened.

use std::sync::{Arc, Mutex};

use floe_lake::table::{DataFile, EqualityDelete, Field, Group, Mapping, Table};
use polars_buffer::Buffer;
use polars_core::prelude::*;
use polars_core::schema::iceberg::IcebergSchema;
use polars_io::cloud::CloudOptions;
use polars_io::parquet::read::ParquetOptions;
use polars_io::{HiveOptions, RowIndex};
use polars_lazy::dsl::concat;
use polars_lazy::frame::{IntoLazy, LazyFrame};
use polars_plan::dsl::default_values::{DefaultFieldValues, IcebergDefaultFieldValues};
use polars_plan::dsl::{
    CastColumnsPolicy, ColumnMapping, DslPlan, Expr, ExtraColumnsPolicy, FileScanDsl, FileScanIR, MissingColumnsPolicy,
    ScanSources, UnifiedScanArgs, UnionArgs,
};
use polars_plan::plans::{FileInfo, IR};
use polars_plan::prelude::col;
use polars_utils::aliases::PlIndexMapHashable;
use polars_utils::pl_path::PlRefPath;
use roaring::RoaringBitmap;

use super::deleted::not_deleted;
use super::fields;
use super::footers;
use super::statistics::statistics;
use super::types::{dtype, schema_with_ids, values};
use crate::StorageOptions;
use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result};

/// Column of the numbers of rows in scans with deleted rows.
const ROW: &str = "__floe_row";
/// Limit of the rows in a scan whose rows are numbered: Polars counts them in 32 bits.
const MOST_NUMBERED_ROWS: u64 = 1 << 31;

/// The rows of a snapshot.
pub fn frame(table: &Table, storage: &StorageOptions) -> Result<LazyFrame> {
    let reader = Reader { table, storage };
    let mut frames = Vec::new();
    for group in table.groups.iter().filter(|group| !group.files.is_empty()) {
        frames.extend(reader.group(group)?);
    }
    match frames.len() {
        0 => {
            let schema: Schema = table.columns.iter().map(|c| (c.name.as_str().into(), dtype(&c.dtype))).collect();
            Ok(DataFrame::empty_with_schema(&schema).lazy())
        }
        1 => Ok(frames.swap_remove(0)),
        _ => concat(frames, UNION).map_err(polars_error),
    }
}

struct Reader<'a> {
    table: &'a Table,
    storage: &'a StorageOptions,
}

/// Files that are read alike.
struct Alike<'a> {
    files: Vec<&'a DataFile>,
    /// Columns whose values come from the metadata of each file.
    partition: &'a [String],
    mapping: Mapping,
}

impl Reader<'_> {
    fn group(&self, group: &Group) -> Result<Vec<LazyFrame>> {
        let columns: Vec<&Field> = self.table.columns.iter().collect();
        let mut frames = Vec::new();
        for (mapping, files) in self.by_mapping(group.files.iter().collect())? {
            let (with_deleted, whole): (Vec<&DataFile>, Vec<&DataFile>) =
                files.into_iter().partition(|file| file.deleted.as_ref().is_some_and(|rows| !rows.is_empty()));
            let alike = |files| Alike { files, partition: &group.partition, mapping };
            if !whole.is_empty() {
                frames.push(self.scan(&columns, &alike(whole), None)?);
            }
            for files in runs_of_numbered(&with_deleted)? {
                let deleted = numbers_of_deleted(&files)?;
                frames.push(self.scan(&columns, &alike(files), Some(deleted))?);
            }
        }
        frames
            .into_iter()
            .map(|frame| group.deletes.iter().try_fold(frame, |frame, rows| self.without(frame, rows)))
            .collect()
    }

    /// The files with and those without ids, where a table has a mapping of names for the latter.
    fn by_mapping<'f>(&self, files: Vec<&'f DataFile>) -> Result<Vec<(Mapping, Vec<&'f DataFile>)>> {
        let has_names = self.table.columns.iter().any(|column| column.physical.is_some());
        if self.table.mapping == Mapping::Name || !has_names {
            return Ok(vec![(self.table.mapping, files)]);
        }
        let has_ids = footers::have_ids(&sources(&files), cloud_options(&files, self.storage)?)?;
        let (with, without): (Vec<_>, Vec<_>) = files.into_iter().zip(has_ids).partition(|(_, has_ids)| *has_ids);
        let parts = [(Mapping::Id, with), (Mapping::Name, without)];
        let parts =
            parts.map(|(mapping, files)| (mapping, files.into_iter().map(|(file, _)| file).collect::<Vec<_>>()));
        Ok(parts.into_iter().filter(|(_, files)| !files.is_empty()).collect())
    }

    /// Leaves out the rows that are equal to one of these.
    fn without(&self, frame: LazyFrame, rows: &EqualityDelete) -> Result<LazyFrame> {
        let columns = rows.columns.iter().map(|name| {
            self.table.columns.iter().find(|column| column.name == *name).ok_or_else(|| {
                QueryError::user(
                    "BadTable",
                    format!("{}: rows are deleted by a column {name}, which it lacks", self.table.root),
                )
            })
        });
        let columns: Vec<&Field> = columns.collect::<Result<_>>()?;
        let files: Vec<DataFile> = rows
            .uris
            .iter()
            .map(|uri| DataFile {
                uri: uri.clone(),
                bytes: 0,
                rows: None,
                partition: vec![],
                bounds: Default::default(),
                deleted: None,
            })
            .collect();
        let mut deleted = Vec::new();
        for (mapping, files) in self.by_mapping(files.iter().collect())? {
            deleted.push(self.scan(&columns, &Alike { files, partition: &[], mapping }, None)?);
        }
        let deleted = concat(deleted, UNION).map_err(polars_error)?;
        let on: Vec<Expr> = rows.columns.iter().map(|name| col(name.as_str())).collect();
        Ok(frame.join_builder().with(deleted).on(on).how(polars::prelude::JoinType::Anti).join_nulls(true).finish())
    }

    /// The rows of some files, with these columns of the table.
    fn scan(&self, columns: &[&Field], alike: &Alike<'_>, deleted: Option<RoaringBitmap>) -> Result<LazyFrame> {
        let cloud_options = cloud_options(&alike.files, self.storage)?;
        let scan = alike.plan(columns, cloud_options, deleted.is_some()).map_err(polars_error)?;
        let mut frame = LazyFrame::from(scan);
        if let Some(deleted) = deleted {
            frame = frame.filter(not_deleted(col(ROW), deleted));
        } else if !columns.iter().any(|column| alike.renames(column)) {
            return Ok(frame);
        }
        let named = columns.iter().map(|column| {
            let (held, name) = (alike.name(column), column.name.as_str());
            let values = match alike.mapping {
                Mapping::Name => fields::renamed(col(held), &column.dtype),
                Mapping::Id => col(held),
            };
            if held == name { values } else { values.alias(name) }
        });
        Ok(frame.select(named.collect::<Vec<_>>()))
    }
}

impl Alike<'_> {
    /// Whether a column, or a field of it, has another name in the scan than in the table.
    fn renames(&self, column: &Field) -> bool {
        self.name(column) != column.name || (self.mapping == Mapping::Name && fields::has_renamed(&column.dtype))
    }

    fn dtype(&self, column: &Field) -> DataType {
        match self.mapping {
            Mapping::Name => dtype(&fields::in_files(&column.dtype)),
            Mapping::Id => dtype(&column.dtype),
        }
    }

    /// The name of a column in a scan: where files are read by names, that in the files.
    fn name<'f>(&self, column: &'f Field) -> &'f str {
        match (self.mapping, &column.physical) {
            (Mapping::Name, Some(name)) => name,
            _ => &column.name,
        }
    }

    fn plan(&self, columns: &[&Field], cloud_options: Option<CloudOptions>, numbered: bool) -> PolarsResult<DslPlan> {
        let Alike { files, partition, .. } = self;
        let is_partition = |column: &Field| partition.contains(&column.name);
        let mut schema: Schema = columns.iter().map(|c| (self.name(c).into(), self.dtype(c))).collect();
        let of_file: Schema = columns
            .iter()
            .filter(|column| !is_partition(column))
            .map(|column| (self.name(column).into(), self.dtype(column)))
            .collect();
        let of_partitions: Vec<Column> = partition
            .iter()
            .enumerate()
            .filter_map(|(at, name)| Some((at, columns.iter().find(|column| column.name == *name)?)))
            .map(|(at, column)| {
                let of_files = files.iter().map(|file| file.partition.get(at).and_then(Option::as_ref));
                values(self.name(column).into(), &column.dtype, of_files)
            })
            .collect::<PolarsResult<_>>()?;
        let held: Vec<(&Field, &str)> = columns.iter().map(|column| (*column, self.name(column))).collect();
        let statistics = statistics(&held, files)?;
        let row_index = numbered.then(|| RowIndex { name: ROW.into(), offset: 0 });
        let mut args = UnifiedScanArgs {
            schema: Some(Arc::new(of_file.clone())),
            cloud_options,
            hive_options: HiveOptions { enabled: Some(!of_partitions.is_empty()), ..HiveOptions::new_disabled() },
            glob: false,
            projection: (!of_partitions.is_empty()).then(|| of_file.iter_names().cloned().collect()),
            row_index: row_index.clone(),
            cast_columns_policy: CASTS,
            missing_columns_policy: MissingColumnsPolicy::Insert,
            extra_columns_policy: ExtraColumnsPolicy::Ignore,
            table_statistics: statistics,
            ..UnifiedScanArgs::default()
        };
        if self.mapping == Mapping::Id {
            let ids = IcebergSchema::from_arrow_schema(&schema_with_ids(columns))?;
            args.column_mapping = Some(ColumnMapping::Iceberg(Arc::new(ids)));
            args.default_values = initial_values(columns)?;
        }
        if let Some(index) = &row_index {
            schema = schema.new_inserting_at_index(0, index.name.clone(), IDX_DTYPE)?;
        }
        let rows: Option<usize> = files.iter().map(|file| file.rows.and_then(|rows| usize::try_from(rows).ok())).sum();
        let options = ParquetOptions { schema: Some(Arc::new(of_file)), ..ParquetOptions::default() };
        let sources = sources(files);
        let hive = DataFrame::new(files.len(), of_partitions)?;
        let scan = IR::Scan {
            sources: sources.clone(),
            file_info: FileInfo::new(Arc::new(schema), None, (rows, rows.unwrap_or(usize::MAX))),
            hive_parts: (hive.width() > 0).then(|| hive.into()),
            predicate: None,
            predicate_file_skip_applied: None,
            output_schema: None,
            scan_type: Box::new(FileScanIR::Parquet {
                options: options.clone(),
                first_metadata: None,
                metadata_per_source: None,
            }),
            unified_scan_args: Box::new(args.clone()),
        };
        Ok(DslPlan::Scan {
            sources,
            unified_scan_args: Box::new(args),
            scan_type: Box::new(FileScanDsl::Parquet { options }),
            // Resolved here, so that Polars neither lists nor opens a file before its optimizer has left files out.
            cached_ir: Arc::new(Mutex::new(Some(scan))),
        })
    }
}

const UNION: UnionArgs = UnionArgs {
    parallel: true,
    rechunk: false,
    to_supertypes: false,
    diagonal: false,
    from_partitioned_ds: false,
    maintain_order: true,
    strict: false,
};

/// What may differ between the table's types and those of older files.
const CASTS: CastColumnsPolicy = CastColumnsPolicy {
    integer_upcast: true,
    integer_to_float_cast: true,
    float_upcast: true,
    datetime_nanoseconds_downcast: true,
    datetime_milliseconds_upcast: true,
    datetime_microseconds_upcast: true,
    datetime_convert_timezone: true,
    missing_struct_fields: MissingColumnsPolicy::Insert,
    extra_struct_fields: ExtraColumnsPolicy::Ignore,
    ..CastColumnsPolicy::ERROR_ON_MISMATCH
};

fn initial_values(columns: &[&Field]) -> PolarsResult<Option<DefaultFieldValues>> {
    let mut found = IcebergDefaultFieldValues {
        identity_transformed_partition_fields: PlIndexMapHashable(PlIndexMap::default()),
        initial_defaults: PlIndexMapHashable(PlIndexMap::default()),
    };
    for column in columns {
        let (Some(id), Some(initial)) = (column.id.and_then(|id| u32::try_from(id).ok()), &column.initial) else {
            continue;
        };
        let one = values(column.name.as_str().into(), &column.dtype, std::iter::once(Some(initial)))?;
        let value = Scalar::new(dtype(&column.dtype), one.get(0)?.into_static());
        found.initial_defaults.0.insert(id, value);
    }
    Ok((!found.is_empty()).then(|| DefaultFieldValues::Iceberg(Arc::new(found))))
}

fn cloud_options(files: &[&DataFile], storage: &StorageOptions) -> Result<Option<CloudOptions>> {
    files.first().map_or(Ok(None), |file| storage.for_uri(&file.uri))
}

fn sources(files: &[&DataFile]) -> ScanSources {
    ScanSources::Paths(files.iter().map(|file| path(&file.uri)).collect::<Buffer<_>>())
}

pub(super) fn path(uri: &str) -> PlRefPath {
    PlRefPath::new(uri.strip_prefix("file://").filter(|path| path.starts_with('/')).unwrap_or(uri))
}

fn rows_of(file: &DataFile) -> Result<u64> {
    file.rows.ok_or_else(|| {
        QueryError::user(
            "BadTable",
            format!("{}: rows of it are deleted, but its number of rows is not known", file.uri),
        )
    })
}

/// Cuts files into runs whose rows can be numbered.
fn runs_of_numbered<'f>(files: &[&'f DataFile]) -> Result<Vec<Vec<&'f DataFile>>> {
    let (mut runs, mut rows): (Vec<Vec<&DataFile>>, u64) = (Vec::new(), 0);
    for file in files {
        let of_file = rows_of(file)?;
        match runs.last_mut().filter(|_| rows + of_file <= MOST_NUMBERED_ROWS) {
            Some(run) => run.push(file),
            None => {
                rows = 0;
                runs.push(vec![file]);
            }
        }
        rows += of_file;
    }
    Ok(runs)
}

/// The deleted rows of files by their numbers in a scan of all of them.
fn numbers_of_deleted(files: &[&DataFile]) -> Result<RoaringBitmap> {
    let (mut all, mut before) = (RoaringBitmap::new(), 0);
    for file in files {
        let rows = rows_of(file)?;
        for position in file.deleted.iter().flat_map(|deleted| deleted.iter()).take_while(|position| *position < rows) {
            let number = u32::try_from(before + position).map_err(|_| {
                QueryError::user("UnsupportedTable", format!("{}: it has too many rows to number them", file.uri))
            })?;
            all.insert(number);
        }
        before += rows;
    }
    Ok(all)
}
