//! Refuses what no rewrite can fix: Python and SQL inside a plan. Found in the msgpack, before Polars decodes it,
//! because its decoder panics on some of it. The error names the operation and what to do instead.

use super::functions;
use super::msgpack::Node;
use floe_wire::error::{QueryError, Result};

pub fn bad_plan(message: impl Into<String>) -> QueryError {
    QueryError::user("BadPlan", message)
}

pub fn unsupported_version(message: impl Into<String>) -> QueryError {
    QueryError::user("UnsupportedVersion", message)
}

fn python(what: &str, instead: &str) -> QueryError {
    QueryError::user(
        "PythonInPlan",
        format!("the plan holds Python code, which this engine does not run: {what}; {instead}"),
    )
}

pub fn sql(query: Option<&str>) -> QueryError {
    let text = query.map(|q| format!(" ({})", shorten(q, 80))).unwrap_or_default();
    QueryError::user(
        "SqlInPlan",
        format!(
            "the plan holds SQL as text{text} in a place where it cannot be resolved: write the query with LazyFrame \
             methods, or as spec.plan.sql over spec.tables"
        ),
    )
}

fn shorten(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= limit { line } else { line.chars().take(limit).chain(['…']).collect() }
}

const EXPRESSIONS: &str = "write it with Polars expressions, or apply it to the collected result";

/// Refuses the first such node, in document order.
pub fn check(node: &Node<'_>) -> Result<()> {
    match node {
        Node::Seq(items) => items.iter().try_for_each(check),
        Node::Map(entries) => {
            if let Some((name, content)) = node.variant() {
                check_variant(name, content)?;
            }
            for (key, value) in entries {
                match key.as_str() {
                    // Keys are column names here, and a column may have any name.
                    Some("fields") if value.as_map().is_some() => {}
                    Some("apply") if !value.is_nil() && node.get("aggs").is_some() => {
                        return Err(python("a function applied to whole groups (map_groups)", EXPRESSIONS));
                    }
                    Some("callback") if value.head_bytes(8).is_some() => {
                        return Err(python("a callback", EXPRESSIONS));
                    }
                    _ => check(value)?,
                }
            }
            Ok(())
        }
        Node::Raw(_) | Node::Owned(_) => Ok(()),
    }
}

fn check_variant(name: &str, content: &Node<'_>) -> Result<()> {
    let refused = match name {
        "AnonymousFunction" if content.get("function").is_some_and(|function| !functions::is_known(function)) => {
            let column = content.get("input").and_then(column_name).map(|c| format!(" of column \"{c}\""));
            let what = format!("a function over the values{} (map_elements, map_batches)", column.unwrap_or_default());
            python(&what, EXPRESSIONS)
        }
        "AnonymousAgg" if content.get("function").is_some() => python("an aggregation function", EXPRESSIONS),
        "OpaquePython" => {
            python("a function over whole frames (LazyFrame.map_batches)", "write it with LazyFrame methods")
        }
        "PipeWithSchema" if content.get("callback").is_some() => {
            python("a function over the plan and its schema (pipe_with_schema)", "call it with LazyFrame.pipe")
        }
        "PipeWithDtype" => {
            python("a function over the dtype of an expression (pipe_with_dtype)", "write the expression for its dtype")
        }
        "FoldHorizontal" | "ReduceHorizontal" | "CumFoldHorizontal" | "CumReduceHorizontal"
            if content.get("callback").is_some() =>
        {
            python(
                "a function that folds columns (fold, reduce)",
                "use sum_horizontal, max_horizontal and their kin, or write the expression out",
            )
        }
        "RenameAlias" if content.get("function").and_then(Node::variant).is_some_and(|(kind, _)| kind == "Map") => {
            python("a function over column names (name.map)", "use name.prefix, name.suffix, name.replace or alias")
        }
        "PythonScan" if content.get("options").is_some() => python(
            "a source in Python (an IO plugin or a PyArrow dataset)",
            "read the files with scan_parquet and its kin",
        ),
        "PythonDataset" => python(
            "a table that is resolved in Python",
            "give the URI of a Delta table, or the metadata file of an Iceberg table",
        ),
        "FfiPlugin" => QueryError::user(
            "PythonInPlan",
            "the plan calls a compiled expression plugin, which this engine does not load; write it with Polars \
             expressions, or apply it to the collected result",
        ),
        "Sink" if content.get("payload").and_then(Node::variant).is_some_and(|(kind, _)| kind == "Callback") => {
            python("a sink that calls a function (sink_batches)", "write to files, or read the result of the query")
        }
        "Partitioned" if provider(content).is_some() => {
            python("a function that names the sink's files (file_path_provider)", "leave the names to the engine")
        }
        "SQL" | "Sql" if content.get("query").is_some() => sql(content.get("query").and_then(Node::as_str)),
        _ => return Ok(()),
    };
    Err(refused)
}

/// The column name, if an input is one plain column.
fn column_name<'n>(input: &'n Node<'_>) -> Option<&'n str> {
    match input.as_seq()? {
        [only] => only.variant().filter(|(kind, _)| *kind == "Column")?.1.as_str(),
        _ => None,
    }
}

fn provider<'n>(partitioned: &'n Node<'n>) -> Option<&'n Node<'n>> {
    let provider = partitioned.get("file_path_provider").or_else(|| partitioned.get("file_provider"))?;
    provider.variant().filter(|(kind, _)| *kind == "Function").map(|(_, function)| function)
}

/// The name that Polars' decoder did not know, if that is its error.
pub fn unknown_variant(message: &str) -> Option<&str> {
    message.split("unknown variant `").nth(1)?.split('`').next()
}

/// Rewords an error of Polars' decoder for readers who do not know the plan format.
pub fn undecodable(client: super::versions::Client, message: &str) -> QueryError {
    let detail = message.rsplit("error: ").next().unwrap_or(message);
    if let Some(variant) = unknown_variant(detail) {
        if variant.eq_ignore_ascii_case("sql") {
            return sql(None);
        }
        return QueryError::user(
            "UnsupportedPlan",
            format!(
                "the plan of {} uses `{variant}`, which this engine (Rust Polars 0.55.2) does not have",
                client.as_str()
            ),
        );
    }
    if detail.contains("cannot deserialize PlanCallback") {
        return python("a callback", EXPRESSIONS);
    }
    bad_plan(format!("the plan of {} cannot be decoded: {detail}", client.as_str()))
}
