//! Rewrites the msgpack of newer clients, one small step per version, into what Rust 0.55.2 reads, and replaces what
//! must not come from a client: credentials, and paths relative to the client.
//!
//! The decoder of 0.55.2 silently skips fields it does not know. So every such field is listed here, with what to do
//! when it is not at its default.

use std::path::Path;

use super::msgpack::Node;
use super::refuse;
use super::storage::StorageOptions;
use super::versions::Client;
use floe_wire::error::{QueryError, Result};

pub struct Context<'c> {
    pub client: Client,
    pub storage: &'c StorageOptions,
    /// Base of relative paths in the plan; `None` leaves them unchanged.
    pub base: Option<&'c Path>,
    pub warnings: Vec<String>,
    /// Local paths that were made absolute: (absolute path, path in the plan).
    pub renamed: Vec<(String, String)>,
}

impl Context<'_> {
    fn warn(&mut self, text: &str) {
        if !self.warnings.iter().any(|w| w == text) {
            self.warnings.push(text.to_owned());
        }
    }
}

pub fn rewrite(node: &mut Node<'_>, ctx: &mut Context<'_>) -> Result<()> {
    match node {
        Node::Raw(_) | Node::Owned(_) => Ok(()),
        Node::Seq(items) => items.iter_mut().try_for_each(|item| rewrite(item, ctx)),
        Node::Map(entries) => {
            if let [(name, content)] = entries.as_mut_slice() {
                match name.as_str() {
                    Some("Join") => join(content, ctx)?,
                    Some("Scan") => scan(content, ctx)?,
                    Some("Select" | "HStack") => select(content),
                    Some("StructEval") => struct_eval(content)?,
                    Some("Function") => array_dot(content),
                    Some("File") => sink(content, "target", ctx)?,
                    Some("Partitioned") => sink(content, "base_path", ctx)?,
                    _ => {}
                }
            }
            for (key, value) in entries {
                // Keys are column names here, and a column may have any name.
                if key.as_str() != Some("fields") {
                    rewrite(value, ctx)?;
                }
            }
            Ok(())
        }
    }
}

/// From 1.44 on, the keys are under `condition`: 1.44 has a list of pairs, 2.0 two lists.
fn join(join: &mut Node<'_>, ctx: &Context<'_>) -> Result<()> {
    if ctx.client < Client::V1_44 || join.get("options").is_none() {
        return Ok(());
    }
    let Some(condition) = join.remove("condition") else { return Ok(()) };
    let (mut left, mut right, mut predicates) = (Node::Seq(vec![]), Node::Seq(vec![]), Node::Seq(vec![]));
    let unknown =
        || refuse::bad_plan("the plan holds a join whose condition is of a kind that this engine does not know");
    let Node::Map(mut kinds) = condition else { return Err(unknown()) };
    let Some((kind, mut content)) = kinds.pop() else { return Err(unknown()) };
    match kind.as_str() {
        Some("Equi") => {
            if let Some(Node::Seq(pairs)) = content.remove("on") {
                let (mut lefts, mut rights) = (Vec::with_capacity(pairs.len()), Vec::with_capacity(pairs.len()));
                for pair in pairs {
                    let Node::Seq(pair) = pair else { return Err(unknown()) };
                    let Ok([l, r]) = <[Node<'_>; 2]>::try_from(pair) else { return Err(unknown()) };
                    lefts.push(l);
                    rights.push(r);
                }
                (left, right) = (Node::Seq(lefts), Node::Seq(rights));
            } else if let (Some(l), Some(r)) = (content.remove("left_on"), content.remove("right_on")) {
                (left, right) = (l, r);
            } else if content.get("on").is_none() {
                return Err(unknown());
            }
        }
        Some("NonEqui") => predicates = content.remove("predicates").ok_or_else(unknown)?,
        _ => return Err(unknown()),
    }
    join.set("left_on", left);
    join.set("right_on", right);
    join.set("predicates", predicates);
    Ok(())
}

/// 2.0 keeps the height of a frame that loses all its columns; in 0.55.2, a frame without columns has no rows. There is
/// no equivalent, and no query that names a column can see the difference.
fn select(select: &mut Node<'_>) {
    if let Some(options) = select.get_mut("options") {
        options.remove("maintain_dataframe_height");
    }
}

/// 2.0 has two variants; `WithFields` is the older one.
fn struct_eval(eval: &mut Node<'_>) -> Result<()> {
    match eval.remove("variant") {
        Some(kind) if kind.as_str() != Some("WithFields") => Err(QueryError::user(
            "UnsupportedPlan",
            "the plan uses struct.eval, which came with Polars 2.0 and this engine (Rust Polars 0.55.2) does not have; \
             use struct.with_fields, or pl.struct over struct.field",
        )),
        _ => Ok(()),
    }
}

/// 1.44 has `arr.dot`. Rewrite it to the sum of the product, which has the same nulls and dtypes.
fn array_dot(function: &mut Node<'_>) {
    let is_dot = |f: &Node<'_>| f.get("ArrayExpr").and_then(Node::as_str) == Some("Dot");
    if !function.get("function").is_some_and(is_dot) {
        return;
    }
    let Some(Node::Seq(input)) = function.get_mut("input") else { return };
    let Ok([left, right]) = <[Node<'_>; 2]>::try_from(std::mem::take(input)) else { return };
    let product = Node::map([("left", left), ("op", Node::string("Multiply")), ("right", right)]);
    *input = vec![Node::map([("BinaryExpr", product)])];
    function.set("function", Node::map([("ArrayExpr", Node::string("Sum"))]));
}

fn scan(scan: &mut Node<'_>, ctx: &mut Context<'_>) -> Result<()> {
    let mut uri = None;
    if let Some(Node::Seq(paths)) = scan.get_mut("sources").and_then(|sources| sources.get_mut("Paths")) {
        for path in paths {
            let resolved = path_node(path, ctx);
            uri = uri.or(resolved);
        }
    }
    let Some(args) = scan.get_mut("unified_scan_args") else { return Ok(()) };
    cloud_options(args, uri.as_deref(), ctx)?;
    // 2.0: whether to expand patterns in paths.
    if args.remove("expand_paths").and_then(|v| v.as_bool()) == Some(false) {
        args.set("glob", Node::Raw(&[0xc2]));
    }
    // 2.0: what the client knows of its files. The engine reads that itself.
    args.remove("source_sizes");
    args.remove("resolve_heavy_sources");
    if let Some(deletes) = args.get_mut("deletion_files") {
        deletion_files(deletes)?;
    }
    let options = scan.get_mut("scan_type").and_then(Node::variant_mut).and_then(|format| format.get_mut("options"));
    no_encryption(options, "decryption_properties", "reads encrypted Parquet")
}

/// 2.1 reads and writes encrypted Parquet.
fn no_encryption(options: Option<&mut Node<'_>>, field: &str, what: &str) -> Result<()> {
    match options.and_then(|options| options.remove(field)) {
        Some(properties) if !properties.is_nil() => Err(QueryError::user(
            "UnsupportedPlan",
            format!("the plan {what} ({}), which this engine does not do", field.replace('_', " ")),
        )),
        _ => Ok(()),
    }
}

fn sink(sink: &mut Node<'_>, target: &str, ctx: &mut Context<'_>) -> Result<()> {
    if sink.get("unified_sink_args").is_none() {
        return Ok(());
    }
    let uri = sink.get_mut(target).and_then(|path| path_node(path, ctx));
    let Some(args) = sink.get_mut("unified_sink_args") else { return Ok(()) };
    cloud_options(args, uri.as_deref(), ctx)?;
    if args.get("sinked_paths_callback").is_some_and(|callback| !callback.is_nil()) {
        args.set("sinked_paths_callback", Node::nil());
        ctx.warn("the plan's sink names a Python function to call with the written paths; it is not called");
    }
    let format = sink.get_mut("file_format").and_then(Node::variant_mut);
    no_encryption(format, "encryption_properties", "writes encrypted Parquet")?;
    let format = sink.get("file_format").and_then(Node::variant).map(|(_, format)| format);
    let metadata = format.and_then(|f| f.get("key_value_metadata")).and_then(Node::variant);
    if metadata.is_some_and(|(kind, _)| kind != "Static") {
        return Err(QueryError::user(
            "PythonInPlan",
            "the plan holds Python code, which this engine does not run: a function that makes the metadata of \
             Parquet files; give the metadata as a dictionary",
        ));
    }
    Ok(())
}

/// Makes a local relative path absolute, and returns the path.
fn path_node(node: &mut Node<'_>, ctx: &mut Context<'_>) -> Option<String> {
    let path = node.as_str().or_else(|| node.get("inner").and_then(Node::as_str))?.to_owned();
    let local = !path.contains("://") && !path.starts_with(['/', '~']) && !path.starts_with("file:");
    let Some(base) = ctx.base.filter(|_| local) else { return Some(path) };
    let absolute = base.join(&path).to_string_lossy().into_owned();
    ctx.renamed.push((absolute.clone(), path));
    let value = Node::string(&absolute);
    if node.as_map().is_some() {
        node.set("inner", value);
    } else {
        *node = value;
    }
    Some(absolute)
}

/// Merges the query's own options over the client's, which stay where the query sets nothing, such as an endpoint.
/// Pickled credential providers and rate limits are removed.
fn cloud_options(args: &mut Node<'_>, uri: Option<&str>, ctx: &mut Context<'_>) -> Result<()> {
    let own = match uri {
        Some(uri) => ctx.storage.cloud_options(uri)?,
        None => None,
    };
    let Some(options) = args.get_mut("cloud_options") else { return Ok(()) };
    if options.as_map().is_none() {
        if let Some(own) = own {
            *options = Node::Owned(own.bytes);
        }
        return Ok(());
    }
    options.remove("rate_limit_config");
    let provider = options.remove("credential_provider");
    options.set("credential_provider", Node::nil());
    let configured = options.get("config").is_some_and(|config| !config.is_nil());
    let identified = match own {
        Some(own) if !(own.found && configured) => super::cloud_options::put_over(options, &own.bytes)?,
        _ => false,
    };
    if !identified && provider.is_some_and(|p| !p.is_nil() && !is_automatic(&p)) {
        ctx.warn(
            "the plan's credential provider is Python code of the client and is not run: give the credentials as \
             storage options of the query",
        );
    }
    Ok(())
}

/// Python Polars adds its own credential provider to every plan that reads a store, whether asked to or not.
fn is_automatic(provider: &Node<'_>) -> bool {
    const AUTOMATIC: &[u8] = b"AutoInit";
    provider
        .variant()
        .and_then(|(_, pickle)| pickle.head_bytes(256))
        .is_some_and(|head| head.windows(AUTOMATIC.len()).any(|w| w == AUTOMATIC))
}

/// 1.44 writes `Iceberg: {file: {PositionDeletes: [path]} | {DeletionVector: path}}`, 0.55.2 reads
/// `IcebergPositionDelete: {file: [path]}`.
fn deletion_files(deletes: &mut Node<'_>) -> Result<()> {
    let Node::Map(kinds) = deletes else { return Ok(()) };
    let [(kind, files)] = kinds.as_mut_slice() else { return Ok(()) };
    match kind.as_str() {
        Some("Iceberg") => {}
        Some("Delta" | "DeltaDeletionVector") => {
            return Err(QueryError::user(
                "PythonInPlan",
                "the plan reads a Delta table with deletion vectors through Python, which this engine does not run; \
                 write the table without deletion vectors, or name its files",
            ));
        }
        _ => return Ok(()),
    }
    let Node::Map(files) = files else { return Ok(()) };
    for (_, deletes) in files {
        let Some(Node::Seq(paths)) = deletes.remove("PositionDeletes") else {
            return Err(QueryError::user(
                "UnsupportedPlan",
                "the plan reads an Iceberg table with deletion vectors, which this engine does not do yet",
            ));
        };
        let paths = paths.into_iter().map(|mut path| path.remove("inner").unwrap_or(path)).collect();
        *deletes = Node::Seq(paths);
    }
    *kind = Node::string("IcebergPositionDelete");
    Ok(())
}
