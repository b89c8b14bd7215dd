//! Converts the sinks of a Polars plan to our plans: the same files, with our commit.

use bytes::Bytes;
use polars_io::utils::sync_on_close::SyncOnCloseType;
use polars_plan::{
    dsl::{
        Expr, FileSinkOptions, PartitionStrategyIR, PartitionedSinkOptionsIR, SinkTarget, SinkTypeIR, UnifiedSinkArgs,
        file_provider::FileProviderType,
    },
    plans::{AExpr, node_to_expr},
};
use polars_utils::arena::Arena;

use super::{Key, Mode, Names, Plan, Run};
use floe_storage::{Location, Options};
use floe_wire::error::{QueryError, Result};

/// `None` for sinks that keep rows in memory: those are results, not files. `storage` returns the job's options for a
/// URI; options in the plan apply where the job has none.
pub fn from_ir(
    sink: &SinkTypeIR,
    expressions: &Arena<AExpr>,
    storage: &dyn Fn(&str) -> Options,
    query: &str,
) -> Result<Option<Plan>> {
    match sink {
        SinkTypeIR::Memory => Ok(None),
        SinkTypeIR::Callback(_) => Err(unsupported("a sink that calls a function")),
        SinkTypeIR::File(options) => file(options, storage, query).map(Some),
        SinkTypeIR::Partitioned(options) => partitioned(options, expressions, storage, query).map(Some),
    }
}

fn file(options: &FileSinkOptions, storage: &dyn Fn(&str) -> Options, query: &str) -> Result<Plan> {
    let SinkTarget::Path(path) = &options.target else {
        return Err(unsupported("a sink into an object of the process"));
    };
    let arguments = &options.unified_sink_args;
    let location = Location::parse(path.as_str())?;
    let (root, name) = location
        .split()
        .ok_or_else(|| QueryError::user("BadSink", format!("{}: is no file that can be written", location.uri())))?;
    if let Location::Local(parent) = &root
        && !arguments.mkdir
        && !parent.is_dir()
    {
        // The same message as Polars when it opens the file.
        let error = std::io::Error::from_raw_os_error(libc::ENOENT);
        return Err(QueryError::user("FileNotFoundError", format!("{error}: {}", path.as_str())));
    }
    Ok(Plan { file: Some(name), ..base(root, options.file_format.clone(), arguments, path.as_str(), storage, query)? })
}

fn partitioned(
    options: &PartitionedSinkOptionsIR,
    expressions: &Arena<AExpr>,
    storage: &dyn Fn(&str) -> Options,
    query: &str,
) -> Result<Plan> {
    let extension = match &options.file_path_provider {
        FileProviderType::Hive(provider) => provider.extension.to_string(),
        FileProviderType::Iceberg(_) => return Err(unsupported("a sink into an Iceberg table")),
        FileProviderType::Function(_) => return Err(unsupported("a partitioned sink that calls a function for names")),
    };
    let (keys, include_keys) = match &options.partition_strategy {
        PartitionStrategyIR::FileSize => (Vec::new(), true),
        PartitionStrategyIR::Keyed { keys, include_keys, .. } => {
            let keys = keys.iter().map(|key| {
                let name = key.output_name().clone();
                let expression = node_to_expr(key.node(), expressions).alias(name.clone());
                Ok(Key { name: name.to_string(), expression: encode_expression(&expression)?, directory: None })
            });
            (keys.collect::<Result<Vec<_>>>()?, *include_keys)
        }
    };
    let uri = options.base_path.as_str();
    let root = Location::parse(uri)?;
    Ok(Plan {
        extension,
        keys,
        include_keys,
        max_file_rows: Some(options.max_rows_per_file).filter(|rows| *rows > 0 && *rows < u32::MAX),
        max_file_bytes: Some(options.approximate_bytes_per_file).filter(|bytes| *bytes > 0 && *bytes < u64::MAX),
        // Polars always creates the directories of a partitioned sink.
        mkdir: true,
        ..base(root, options.file_format.clone(), &options.unified_sink_args, uri, storage, query)?
    })
}

fn base(
    root: Location,
    format: polars_plan::dsl::FileWriteFormat,
    arguments: &UnifiedSinkArgs,
    uri: &str,
    storage: &dyn Fn(&str) -> Options,
    query: &str,
) -> Result<Plan> {
    if arguments.sinked_paths_callback.is_some() {
        return Err(unsupported("a sink that reports its paths to a function"));
    }
    let carried = arguments.cloud_options.as_deref().map(Options::from_cloud_options).unwrap_or_default();
    Ok(Plan {
        query: query.to_owned(),
        run: Run::new(1),
        root,
        file: None,
        extension: super::from_spec::extension(&format),
        packing: super::file_size::packing(&format),
        format,
        mode: Mode::Replace,
        names: Names::Polars,
        keys: Vec::new(),
        include_keys: true,
        max_file_rows: None,
        max_file_bytes: None,
        target_file_bytes: None,
        maintain_order: arguments.maintain_order,
        mkdir: arguments.mkdir,
        sync: arguments.sync_on_close != SyncOnCloseType::None,
        storage: storage(uri).or(&carried),
        staging: None,
        made: Vec::new(),
        table: None,
    })
}

fn unsupported(what: &str) -> QueryError {
    QueryError::user("NotSupported", format!("{what} cannot be run by a distributed query"))
}

pub(super) fn encode_expression(expression: &Expr) -> Result<Bytes> {
    rmp_serde::to_vec_named(expression)
        .map(Bytes::from)
        .map_err(|error| QueryError::user("NotSupported", format!("a partition key of the sink: {error}")))
}

pub(super) fn decode_expression(bytes: &[u8]) -> Result<Expr> {
    rmp_serde::from_slice(bytes).map_err(|error| QueryError::internal(format!("a partition key of the sink: {error}")))
}
