//! Translates a plan of the engine's Polars to the format of a client's release, the inverse of `rewrite`: for tests in
//! which the client's wheel checks the engine's results. Covers only what Rust 0.55.2 can express.

use super::msgpack::{self, Node};
use super::refuse;
use super::versions::{self, Client};
use floe_polars::on_big_stack;
use floe_wire::error::Result;

/// Returns the bytes of `LazyFrame.serialize()` as `reader` would have written them for this plan. Plans of other
/// releases than the engine's are returned unchanged.
pub fn as_written_by(reader: Client, bytes: &[u8]) -> Result<Vec<u8>> {
    let (writer, document) = versions::split(bytes)?;
    if writer != Client::Engine {
        return Ok(bytes.to_vec());
    }
    let mut out = Vec::with_capacity(bytes.len() + 256);
    versions::header(&mut out, reader);
    if reader < Client::V1_44 {
        // These formats are the same.
        out.extend_from_slice(document);
        return Ok(out);
    }
    on_big_stack(|| {
        let mut tree = msgpack::parse(document).map_err(|e| refuse::bad_plan(format!("the plan is damaged: {e}")))?;
        translate(&mut tree, reader);
        tree.write(&mut out);
        Ok(out)
    })
}

fn translate(node: &mut Node<'_>, reader: Client) {
    match node {
        Node::Raw(_) | Node::Owned(_) => {}
        Node::Seq(items) => items.iter_mut().for_each(|item| translate(item, reader)),
        Node::Map(entries) => {
            if let [(name, content)] = entries.as_mut_slice() {
                match name.as_str() {
                    Some("Join") => join(content, reader),
                    Some("Select" | "HStack") if reader >= Client::V2_0 => select(content),
                    Some("Scan") if reader >= Client::V2_0 => scan(content, reader),
                    Some("StructEval") if reader >= Client::V2_0 && content.as_map().is_some() => {
                        content.set("variant", Node::string("WithFields"));
                    }
                    _ => {}
                }
            }
            for (key, value) in entries {
                // Keys are column names here, and a column may have any name.
                if key.as_str() != Some("fields") {
                    translate(value, reader);
                }
            }
        }
    }
}

/// From 1.44 on, the keys are under `condition`: 1.44 has a list of pairs, 2.0 two lists.
fn join(join: &mut Node<'_>, reader: Client) {
    if join.get("options").is_none() {
        return;
    }
    let mut list = |key: &str| match join.remove(key) {
        Some(Node::Seq(items)) => items,
        _ => Vec::new(),
    };
    let (left, right, predicates) = (list("left_on"), list("right_on"), list("predicates"));
    let condition = if !predicates.is_empty() {
        Node::map([("NonEqui", Node::map([("predicates", Node::Seq(predicates))]))])
    } else if reader < Client::V2_0 {
        let pairs = left.into_iter().zip(right).map(|(l, r)| Node::Seq(vec![l, r])).collect();
        Node::map([("Equi", Node::map([("on", Node::Seq(pairs))]))])
    } else {
        let lists = Node::map([("left_on", Node::Seq(left)), ("right_on", Node::Seq(right))]);
        Node::map([("Equi", lists)])
    };
    join.set("condition", condition);
}

fn select(select: &mut Node<'_>) {
    if let Some(options) = select.get_mut("options").filter(|options| options.as_map().is_some()) {
        options.set("maintain_dataframe_height", Node::Raw(&[0xc2]));
    }
}

/// Sets the fields that readers of 2.x require to their defaults.
fn scan(scan: &mut Node<'_>, reader: Client) {
    if let Some(args) = scan.get_mut("unified_scan_args").filter(|args| args.as_map().is_some()) {
        args.set("expand_paths", Node::Raw(&[0xc3]));
        args.set("source_sizes", Node::nil());
        args.set("resolve_heavy_sources", Node::nil());
    }
    let format = scan.get_mut("scan_type").filter(|format| format.get("Parquet").is_some());
    if reader >= Client::V2_1
        && let Some(options) = format.and_then(Node::variant_mut).and_then(|format| format.get_mut("options"))
    {
        options.set("decryption_properties", Node::nil());
    }
}
