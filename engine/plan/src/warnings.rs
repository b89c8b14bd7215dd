//! Warns about behaviour that differs between Polars 2.x and the engine's Rust 0.55.2. Works on names and shapes alone,
//! before schemas are known; so a warning says what may differ, and appears only if the plan has everything the
//! difference needs.

use std::collections::{BTreeMap, BTreeSet};

use super::msgpack::Node;

type Types<'n> = BTreeMap<&'n str, BTreeSet<&'n str>>;

/// Warnings for a plan of a 2.x client.
pub fn of_version_2(plan: &Node<'_>) -> Vec<String> {
    let mut types = Types::new();
    let mut empty_frame = false;
    collect_types(plan, &mut types, &mut empty_frame);
    let mut finder = Finder { types, empty_frame, found: BTreeSet::new() };
    finder.visit(plan);
    finder
        .found
        .into_iter()
        .map(|change| format!("Polars 2.x and this engine (0.55.2) differ here: {change}"))
        .collect()
}

/// Collects the dtypes of columns from all schemas in the plan.
fn collect_types<'n>(node: &'n Node<'_>, types: &mut Types<'n>, empty_frame: &mut bool) {
    match node {
        Node::Raw(_) | Node::Owned(_) => {}
        Node::Seq(items) => items.iter().for_each(|item| collect_types(item, types, empty_frame)),
        Node::Map(entries) => {
            for (key, value) in entries {
                match (key.as_str(), value.as_map()) {
                    (Some("fields"), Some(fields)) => {
                        *empty_frame |= fields.is_empty();
                        for (name, dtype) in fields {
                            let (Some(name), Some(dtype)) = (name.as_str(), dtype.as_str()) else { continue };
                            types.entry(name).or_default().insert(dtype);
                        }
                    }
                    _ => collect_types(value, types, empty_frame),
                }
            }
        }
    }
}

struct Finder<'n> {
    types: Types<'n>,
    empty_frame: bool,
    found: BTreeSet<&'static str>,
}

const SIGNED: [&str; 4] = ["Int8", "Int16", "Int32", "Int64"];
const MIXED_INTEGERS: &str =
    "UInt64 combined with a signed integer is Int128 there, and Float64 here (exact up to 2^53); cast one side";
const STRUCT_FLOAT: &str =
    "arithmetic of a struct with a float makes its fields floats there, and keeps their dtypes here";
const ZFILL: &str = "str.zfill counts characters there, and bytes here (text outside ASCII gets fewer zeros)";
const JOIN_KEYS: &str = "the dtype of a joined key that is UInt64 on one side and signed on the other";
const NO_COLUMNS: &str = "a literal column on a frame with no columns has the frame's height there, and one row here";

impl Finder<'_> {
    fn visit(&mut self, node: &Node<'_>) {
        match node {
            Node::Raw(_) | Node::Owned(_) => {}
            Node::Seq(items) => items.iter().for_each(|item| self.visit(item)),
            Node::Map(entries) => {
                if let Some((name, content)) = node.variant() {
                    self.visit_variant(name, content);
                }
                for (key, value) in entries {
                    if key.as_str() != Some("fields") {
                        self.visit(value);
                    }
                }
            }
        }
    }

    fn visit_variant(&mut self, name: &str, content: &Node<'_>) {
        match name {
            "BinaryExpr" => {
                let (Some(left), Some(right)) = (content.get("left"), content.get("right")) else { return };
                let arithmetic = ["Plus", "Minus", "Multiply", "Divide", "TrueDivide", "FloorDivide", "Modulus"];
                if content.get("op").and_then(Node::as_str).is_some_and(|op| arithmetic.contains(&op)) {
                    self.mixed([left, right]);
                    if (is_struct(left) && is_float(right)) || (is_struct(right) && is_float(left)) {
                        self.found.insert(STRUCT_FLOAT);
                    }
                }
            }
            "Ternary" => {
                if let (Some(truthy), Some(falsy)) = (content.get("truthy"), content.get("falsy")) {
                    self.mixed([truthy, falsy]);
                }
            }
            "Function" => {
                let function = content.get("function");
                let kind = function.and_then(|f| f.as_str().or_else(|| Some(f.variant()?.0)));
                let inner = function.and_then(Node::variant).and_then(|(_, f)| f.as_str());
                let combines = matches!(kind, Some("Coalesce" | "MaxHorizontal" | "MinHorizontal" | "SumHorizontal"));
                if combines || (kind == Some("ListExpr") && inner == Some("Concat")) {
                    self.mixed(content.get("input").and_then(Node::as_seq).unwrap_or_default());
                }
                if kind == Some("StringExpr") && (inner == Some("ZFill") || inner == Some("Zfill")) {
                    self.found.insert(ZFILL);
                }
            }
            "Join" => {
                let condition = content.get("condition").and_then(|c| c.get("Equi"));
                let keys = |side| condition.and_then(|c| c.get(side)).and_then(Node::as_seq).unwrap_or_default();
                for (left, right) in keys("left_on").iter().zip(keys("right_on")) {
                    let (left, right) = (self.types_of(left), self.types_of(right));
                    let signed = |t: &[String]| t.iter().any(|t| SIGNED.contains(&t.as_str()));
                    let unsigned = |t: &[String]| t.iter().any(|t| t == "UInt64");
                    let mixed = (unsigned(&left) && signed(&right)) || (signed(&left) && unsigned(&right));
                    if mixed {
                        self.found.insert(JOIN_KEYS);
                    }
                }
            }
            "HStack" | "Select" if self.empty_frame && has_bare_literal(content) => {
                self.found.insert(NO_COLUMNS);
            }
            _ => {}
        }
    }

    fn mixed<'a, 'b: 'a>(&mut self, operands: impl IntoIterator<Item = &'a Node<'b>>) {
        let types: Vec<Vec<String>> = operands.into_iter().map(|operand| self.types_of(operand)).collect();
        let unsigned = types.iter().position(|t| t.iter().any(|t| t == "UInt64"));
        let signed = |t: &Vec<String>| t.iter().any(|t| SIGNED.contains(&t.as_str()));
        if unsigned.is_some_and(|u| types.iter().enumerate().any(|(i, t)| i != u && signed(t))) {
            self.found.insert(MIXED_INTEGERS);
        }
    }

    /// Possible dtypes of an expression, judged by names and casts; empty for literals that take any dtype.
    fn types_of(&self, expr: &Node<'_>) -> Vec<String> {
        let Some((name, content)) = expr.variant() else { return vec![] };
        match name {
            "Column" => {
                let known = content.as_str().and_then(|column| self.types.get(column));
                known.into_iter().flatten().map(|t| (*t).to_owned()).collect()
            }
            "Cast" => content
                .get("dtype")
                .and_then(|d| d.get("Literal"))
                .and_then(Node::as_str)
                .map(str::to_owned)
                .into_iter()
                .collect(),
            "Literal" => {
                let scalar = content.get("Scalar").and_then(Node::variant);
                scalar.map(|(dtype, _)| dtype.to_owned()).into_iter().collect()
            }
            "Alias" => content.as_seq().and_then(<[_]>::first).map(|inner| self.types_of(inner)).unwrap_or_default(),
            "Agg" => {
                let kept = matches!(content.variant(), Some(("Sum" | "Min" | "Max" | "First" | "Last", _)));
                let inner = content.variant().filter(|_| kept).map(|(_, inner)| inner.get("input").unwrap_or(inner));
                inner.map(|inner| self.types_of(inner)).unwrap_or_default()
            }
            _ => vec![],
        }
    }
}

fn is_struct(expr: &Node<'_>) -> bool {
    expr.get("Function").and_then(|f| f.get("function")).and_then(Node::as_str) == Some("AsStruct")
}

fn is_float(expr: &Node<'_>) -> bool {
    let literal = expr.get("Literal");
    literal.is_some_and(|l| {
        l.get("Dyn").and_then(Node::variant).is_some_and(|(kind, _)| kind == "Float")
            || l.get("Scalar").and_then(Node::variant).is_some_and(|(kind, _)| kind.starts_with("Float"))
    })
}

fn has_bare_literal(select: &Node<'_>) -> bool {
    let exprs = select.get("exprs").or_else(|| select.get("expr")).and_then(Node::as_seq).unwrap_or_default();
    exprs.iter().any(|e| {
        let inner = e.get("Alias").and_then(Node::as_seq).and_then(<[_]>::first).unwrap_or(e);
        inner.get("Literal").is_some()
    })
}
