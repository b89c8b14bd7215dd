//! Finds Python functions in a client's plan before Polars decodes it, and replaces them by what this build can decode:
//! an expression with the function's payload, or a mark from which `put` builds a plan.

use bytes::Bytes;
use polars_core::prelude::*;
use polars_plan::dsl::DataTypeExpr;
use polars_utils::pl_serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::payload::{Kind, Packed, Payload, Returns};
use crate::added::{self, number};
use crate::msgpack::Node;
use crate::own;
use crate::refuse::bad_plan;
use crate::versions::Client;
use floe_polars::polars_error;
use floe_wire::error::Result;

/// Prefix of a pickled function in an expression.
const PICKLED: &[u8] = b"PLPYFN";
/// Polars' `FunctionFlags`: INPUT_WILDCARD_EXPANSION, OPTIONAL_RE_ENTRANT and RETURNS_SCALAR.
const WILDCARD_EXPANSION: u16 = 1 << 2;
const RE_ENTRANT: u16 = 1 << 4;
const SCALAR: u16 = 1 << 3;
/// Mark for a plan to build: a slice of this length, whose offset is the number. No client writes such a slice.
const MARK_LENGTH: u32 = u32::MAX - 5;
const MARK_OFFSET: i64 = i64::MIN / 4;
/// Mark for a function over column names: a prefix that no user writes.
const MARK_PREFIX: &str = "\u{1}floe.names.";

/// The functions taken out of a document.
#[derive(Debug, Default)]
pub struct Carried {
    /// Number of functions in expressions.
    pub expressions: usize,
    /// Functions behind marks, by their numbers.
    pub marked: Vec<Payload>,
    /// Whether there are functions of the engine's own.
    pub own: bool,
}

impl Carried {
    pub fn is_empty(&self) -> bool {
        self.expressions == 0 && self.marked.is_empty() && !self.own
    }

    /// The function behind a marked slice.
    pub fn of_slice(&self, offset: i64, length: u32) -> Option<&Payload> {
        let at = usize::try_from(offset.checked_sub(MARK_OFFSET)?).ok()?;
        self.marked.get(at).filter(|_| length == MARK_LENGTH)
    }

    /// The function behind a marked prefix.
    pub fn of_prefix(&self, prefix: &str) -> Option<&Payload> {
        self.marked.get(prefix.strip_prefix(MARK_PREFIX)?.parse::<usize>().ok()?)
    }

    fn mark(&mut self, payload: Payload) -> i64 {
        self.marked.push(payload);
        MARK_OFFSET + self.marked.len() as i64 - 1
    }
}

/// Takes the functions out of a document, if they are allowed. What it does not recognize stays, and is refused by name
/// later.
pub fn carry(document: &mut Node<'_>, client: Client, allowed: bool) -> Result<Carried> {
    let mut carrier = Carrier { client, allowed, carried: Carried::default(), added: Vec::new(), first: 0 };
    carrier.first = added::count(document);
    carrier.visit(document)?;
    let added = std::mem::take(&mut carrier.added);
    if let Some(Node::Seq(plans)) = document.get_mut("dsl_plans") {
        plans.extend(added);
    }
    Ok(carrier.carried)
}

struct Carrier<'a> {
    client: Client,
    allowed: bool,
    carried: Carried,
    /// Plan nodes to append to the document, and how many it had before.
    added: Vec<Node<'a>>,
    first: usize,
}

impl<'a> Carrier<'a> {
    fn visit(&mut self, node: &mut Node<'a>) -> Result<()> {
        match node {
            Node::Raw(_) | Node::Owned(_) => return Ok(()),
            Node::Seq(items) => return items.iter_mut().try_for_each(|item| self.visit(item)),
            Node::Map(entries) => {
                for (key, value) in entries {
                    // Keys are column names here, and a column may have any name.
                    if key.as_str() != Some("fields") {
                        self.visit(value)?;
                    }
                }
            }
        }
        let Some((name, content)) = node.variant() else { return Ok(()) };
        if name == "AnonymousFunction" && own::is(content.get("function")) {
            self.carried.own = true;
        }
        let replaced = match name {
            _ if !self.allowed => None,
            "AnonymousFunction" => self.expression(content)?,
            "Function" => self.function(content)?,
            "RenameAlias" => self.names(content)?,
            "MapFunction" => self.frame(content)?,
            "GroupBy" => self.groups(content)?,
            "PythonScan" => self.source(content)?,
            _ => None,
        };
        if let Some(replaced) = replaced {
            *node = replaced;
        }
        Ok(())
    }

    fn payload(&self, kind: Kind, pickled: &[u8], returns: Returns) -> Option<Payload> {
        let [with_code, minor, micro, pickle @ ..] = pickled else { return None };
        Some(Payload {
            kind,
            polars: self.client.release()?.to_owned(),
            python: (*minor, *micro),
            with_code: *with_code != 0,
            pickle: Bytes::copy_from_slice(pickle),
            returns,
            scalar: false,
            by_batches: false,
            checked: true,
            args: String::new(),
            groups: None,
            by_rows: false,
        })
    }

    /// `map_elements`, `map_batches`, `map_groups` of expressions.
    fn expression(&mut self, content: &Node<'a>) -> Result<Option<Node<'a>>> {
        let Some(bytes) = content.get("function").and_then(|function| function.head_bytes(usize::MAX)) else {
            return Ok(None);
        };
        let Some(pickled) = bytes.strip_prefix(PICKLED) else { return Ok(None) };
        let mut reader = std::io::Cursor::new(pickled);
        type Meta = (Option<DataTypeExpr>, Option<Field>, bool, bool);
        let meta: Meta = pl_serialize::deserialize_from_reader::<_, _, true>(&mut reader).map_err(polars_error)?;
        let (returns, _, _, scalar) = meta;
        let returns = returns.map_or(Returns::Unknown, |dtype| Returns::Type(Box::new(dtype)));
        let rest = pickled.get(reader.position() as usize..).unwrap_or_default();
        let Some(payload) = self.payload(Kind::Columns, rest, returns) else { return Ok(None) };
        let mut content = content.clone();
        content.set("function", self.written(Payload { scalar, ..payload })?);
        Ok(Some(Node::map([("AnonymousFunction", content)])))
    }

    /// `fold`, `reduce`, `cum_fold`, `cum_reduce`, `rolling_map`.
    fn function(&mut self, content: &Node<'a>) -> Result<Option<Node<'a>>> {
        let Some((name, function)) = content.get("function").and_then(Node::variant) else { return Ok(None) };
        let pickled = |holder: &Node<'_>, key: &str| holder.get(key).and_then(|node| node.head_bytes(usize::MAX));
        let mut flags = RE_ENTRANT;
        let payload = match name {
            "FoldHorizontal" | "ReduceHorizontal" => {
                let Some(pickled) = pickled(function, "callback") else { return Ok(None) };
                let returns = match function.get("return_dtype").filter(|dtype| !dtype.is_nil()) {
                    Some(dtype) => Returns::Type(Box::new(read(dtype)?)),
                    None if name == "FoldHorizontal" => Returns::Same,
                    None => Returns::Supertype,
                };
                let scalar = function.get("returns_scalar").and_then(Node::as_bool).unwrap_or(false);
                flags |= WILDCARD_EXPANSION | if scalar { SCALAR } else { 0 };
                self.payload(Kind::Fold, &pickled, returns).map(|payload| Payload { scalar, ..payload })
            }
            "CumFoldHorizontal" | "CumReduceHorizontal" => {
                let Some(pickled) = pickled(function, "callback") else { return Ok(None) };
                let flag = |key: &str| function.get(key).and_then(Node::as_bool).unwrap_or(false);
                let reduce = name == "CumReduceHorizontal";
                let (scalar, first) = (flag("returns_scalar"), reduce || flag("include_init"));
                let declared = function.get("return_dtype").filter(|dtype| !dtype.is_nil());
                let each = match declared {
                    Some(dtype) => Returns::Type(Box::new(read(dtype)?)),
                    None if reduce => Returns::Supertype,
                    None => Returns::Same,
                };
                let args = json!({
                    "name": if reduce { "cum_reduce" } else { "cum_fold" },
                    "first": first,
                    "declared": declared.is_some(),
                    "scalar": scalar,
                });
                flags |= WILDCARD_EXPANSION | if scalar { SCALAR } else { 0 };
                self.payload(Kind::CumFold, &pickled, Returns::Columns { each: Box::new(each), first })
                    .map(|payload| Payload { scalar, args: args.to_string(), ..payload })
            }
            "RollingExpr" => {
                let Some(pickled) = function.get("function").and_then(|kind| pickled(kind, "Map")) else {
                    return Ok(None);
                };
                let Some(options) = function.get("options") else { return Ok(None) };
                let args = json!({
                    "window_size": read_opt::<usize>(options, "window_size")?,
                    "min_periods": read_opt::<usize>(options, "min_periods")?,
                    "weights": read_opt::<Vec<f64>>(options, "weights")?,
                    "center": read_opt::<bool>(options, "center")?,
                });
                self.payload(Kind::Rolling, &pickled, Returns::Same)
                    .map(|payload| Payload { args: args.to_string(), ..payload })
            }
            _ => None,
        };
        let (Some(payload), Some(input)) = (payload, content.get("input")) else { return Ok(None) };
        let options = Node::map([("check_lengths", Node::Raw(&[0xc3])), ("flags", number(flags))]);
        let call = [("input", input.clone()), ("function", self.written(payload)?), ("options", options)];
        Ok(Some(Node::map([("AnonymousFunction", Node::map(call))])))
    }

    /// `name.map`.
    fn names(&mut self, content: &Node<'a>) -> Result<Option<Node<'a>>> {
        let pickled =
            content.get("function").and_then(|kind| kind.get("Map")).and_then(|map| map.head_bytes(usize::MAX));
        let Some(payload) = pickled.and_then(|pickled| self.payload(Kind::Names, &pickled, Returns::Same)) else {
            return Ok(None);
        };
        self.carried.marked.push(payload);
        let mark = format!("{MARK_PREFIX}{}", self.carried.marked.len() - 1);
        let mut content = content.clone();
        content.set("function", Node::map([("Prefix", Node::string(&mark))]));
        Ok(Some(Node::map([("RenameAlias", content)])))
    }

    /// `LazyFrame.map_batches`.
    fn frame(&mut self, content: &Node<'a>) -> Result<Option<Node<'a>>> {
        let Some(python) = content.get("function").and_then(|function| function.get("OpaquePython")) else {
            return Ok(None);
        };
        let Some(pickled) = python.get("function").and_then(|function| function.head_bytes(usize::MAX)) else {
            return Ok(None);
        };
        let returns = match python.get("schema").filter(|schema| !schema.is_nil()) {
            Some(schema) => Returns::Frame(read(schema)?),
            None => Returns::Same,
        };
        let checked = python.get("validate_output").and_then(Node::as_bool).unwrap_or(true);
        let payload = self.payload(Kind::Frame, &pickled, returns);
        let (Some(payload), Some(input)) = (payload, content.get("input")) else { return Ok(None) };
        let by_batches = python.get("streamable").and_then(Node::as_bool).unwrap_or(false);
        let offset = self.carried.mark(Payload { checked, by_batches, ..payload });
        Ok(Some(marked(input.clone(), offset)))
    }

    /// `LazyFrame.group_by(…).map_groups`, and that of dynamic and rolling windows.
    fn groups(&mut self, content: &Node<'a>) -> Result<Option<Node<'a>>> {
        let Some([pickled, schema]) = content.get("apply").and_then(Node::as_seq) else { return Ok(None) };
        let Some(pickled) = pickled.head_bytes(usize::MAX) else { return Ok(None) };
        let returns = if schema.is_nil() { Returns::Same } else { Returns::Frame(read(schema)?) };
        let Some(payload) = self.payload(Kind::Group, &pickled, returns) else { return Ok(None) };
        let mut content = content.clone();
        content.set("apply", Node::nil());
        let input = self.add(Node::map([("GroupBy", content)]));
        // Polars does not check the schema of group functions' results.
        let offset = self.carried.mark(Payload { checked: false, ..payload });
        Ok(Some(marked(input, offset)))
    }

    /// IO plugins.
    fn source(&mut self, content: &Node<'a>) -> Result<Option<Node<'a>>> {
        let Some(options) = content.get("options") else { return Ok(None) };
        let plugin = options.get("python_source").and_then(Node::as_str) == Some("IOPlugin");
        let Some(pickled) =
            options.get("scan_fn").and_then(|function| function.head_bytes(usize::MAX)).filter(|_| plugin)
        else {
            return Ok(None);
        };
        let returns = match options.get("schema_fn").and_then(Node::variant) {
            Some(("Right", schema)) => Returns::Frame(read(schema)?),
            Some(("Left", function)) => {
                let pickled = function.head_bytes(usize::MAX).unwrap_or_default();
                let Some(function) = self.payload(Kind::Schema, &pickled, Returns::Unknown) else { return Ok(None) };
                Returns::Frame(super::put::schema_of(&function)?)
            }
            _ => return Ok(None),
        };
        let Some(payload) = self.payload(Kind::Source, &pickled, returns) else { return Ok(None) };
        let checked = options.get("validate_schema").and_then(Node::as_bool).unwrap_or(false);
        let nothing = self.add(added::nothing());
        let offset = self.carried.mark(Payload { checked, ..payload });
        Ok(Some(marked(nothing, offset)))
    }

    /// Appends a plan node to the document and returns its key.
    fn add(&mut self, plan: Node<'a>) -> Node<'a> {
        self.added.push(added::listed(plan));
        added::key(self.first + self.added.len() - 1)
    }

    /// Encodes a payload as the function of an expression, with the next number.
    fn written(&mut self, payload: Payload) -> Result<Node<'static>> {
        let mut bytes = Vec::new();
        let packed = Packed { payload: payload.into(), field: None, number: Some(self.carried.expressions) };
        packed.write(&mut bytes).map_err(polars_error)?;
        self.carried.expressions += 1;
        let length =
            u32::try_from(bytes.len()).map_err(|_| bad_plan("a Python function of the plan has more than 4 GiB"))?;
        Ok(Node::Owned([&[0xc6][..], &length.to_be_bytes(), &bytes].concat()))
    }
}

fn marked<'a>(input: Node<'a>, offset: i64) -> Node<'a> {
    let entries = [
        ("input", input),
        ("offset", Node::Owned([&[0xd3][..], &offset.to_be_bytes()].concat())),
        ("len", Node::Owned([&[0xce][..], &MARK_LENGTH.to_be_bytes()].concat())),
    ];
    Node::map([("Slice", Node::map(entries))])
}

fn read<T: DeserializeOwned>(node: &Node<'_>) -> Result<T> {
    let mut bytes = Vec::new();
    node.write(&mut bytes);
    rmp_serde::from_slice(&bytes).map_err(|e| bad_plan(format!("the plan is damaged: a Python function's type: {e}")))
}

fn read_opt<T: DeserializeOwned>(node: &Node<'_>, key: &str) -> Result<Option<T>> {
    node.get(key).filter(|value| !value.is_nil()).map(read).transpose()
}
