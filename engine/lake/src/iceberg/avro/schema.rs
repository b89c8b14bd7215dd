//! The schema in the header of an Avro container, made ready for decoding: fields are known by Iceberg's ids.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::Result;

const DEPTH: usize = 32;
const NODES: usize = 100_000;

#[derive(Debug)]
pub enum Node {
    Null,
    Boolean,
    /// `int` and `long` are written alike.
    Int,
    Float,
    Double,
    Bytes,
    String,
    Enum,
    Fixed(usize),
    /// `bytes`, or a `fixed` of this size.
    Decimal(Option<usize>),
    Record(Vec<RecordField>),
    Array(Arc<Node>),
    /// An array of records of a key and a value, which is a map to Iceberg.
    Pairs(Arc<Node>, Arc<Node>),
    /// A map whose keys are texts.
    Map(Arc<Node>),
    Union(Vec<Arc<Node>>),
}

#[derive(Debug)]
pub struct RecordField {
    pub id: Option<i32>,
    /// Whether it is decoded, not only passed over.
    pub wanted: bool,
    pub node: Arc<Node>,
}

impl Node {
    /// The type of the field with this id in a record, or in the record that a union has.
    pub fn field(&self, id: i32) -> Option<&Node> {
        match self {
            Node::Record(fields) => fields.iter().find(|field| field.id == Some(id)).map(|field| field.node.as_ref()),
            Node::Union(branches) => branches.iter().find_map(|branch| branch.field(id)),
            _ => None,
        }
    }
}

pub fn parse(json: &[u8], skip: &[i32]) -> Result<Arc<Node>> {
    let json = serde_json::from_slice(json).map_err(|error| format!("its schema is not JSON: {error}"))?;
    Parser { skip, named: HashMap::new(), nodes: 0 }.node(&json, 0)
}

struct Parser<'a> {
    skip: &'a [i32],
    /// Types that are complete: one that refers to itself is not found here, so no type is recursive.
    named: HashMap<String, Arc<Node>>,
    nodes: usize,
}

impl Parser<'_> {
    fn node(&mut self, json: &Json, depth: usize) -> Result<Arc<Node>> {
        self.nodes += 1;
        if depth > DEPTH || self.nodes > NODES {
            return Err("its schema is nested too deeply or too large".into());
        }
        match json {
            Json::String(name) => self.primitive(name),
            Json::Array(branches) => {
                let branches = branches.iter().map(|branch| self.node(branch, depth + 1)).collect::<Result<_>>()?;
                Ok(Arc::new(Node::Union(branches)))
            }
            Json::Object(object) => match object.get("type") {
                Some(Json::String(kind)) => self.complex(json, kind, depth),
                Some(inner) => self.node(inner, depth + 1),
                None => Err("its schema has a type without a name".into()),
            },
            other => Err(format!("its schema has {other} where a type should be")),
        }
    }

    fn primitive(&self, name: &str) -> Result<Arc<Node>> {
        Ok(Arc::new(match name {
            "null" => Node::Null,
            "boolean" => Node::Boolean,
            "int" | "long" => Node::Int,
            "float" => Node::Float,
            "double" => Node::Double,
            "bytes" => Node::Bytes,
            "string" => Node::String,
            named => {
                let found = self.named.get(named);
                return found.cloned().ok_or_else(|| format!("its schema has the unknown type {named}"));
            }
        }))
    }

    fn complex(&mut self, json: &Json, kind: &str, depth: usize) -> Result<Arc<Node>> {
        let decimal = json.get("logicalType").and_then(Json::as_str) == Some("decimal");
        let node = match kind {
            "record" => Arc::new(Node::Record(self.fields(json, depth)?)),
            "enum" => Arc::new(Node::Enum),
            "fixed" => {
                let size = json.get("size").and_then(Json::as_u64).and_then(|size| u32::try_from(size).ok());
                let size = size.ok_or("its schema has a fixed type without a size")? as usize;
                Arc::new(if decimal { Node::Decimal(Some(size)) } else { Node::Fixed(size) })
            }
            "bytes" if decimal => Arc::new(Node::Decimal(None)),
            "array" => {
                let items = self.node(json.get("items").unwrap_or(&Json::Null), depth + 1)?;
                let map = json.get("logicalType").and_then(Json::as_str) == Some("map");
                match items.as_ref() {
                    Node::Record(pair) if map && pair.len() == 2 => {
                        Arc::new(Node::Pairs(pair[0].node.clone(), pair[1].node.clone()))
                    }
                    _ => Arc::new(Node::Array(items)),
                }
            }
            "map" => Arc::new(Node::Map(self.node(json.get("values").unwrap_or(&Json::Null), depth + 1)?)),
            primitive => self.primitive(primitive)?,
        };
        if let (Some(name), "record" | "enum" | "fixed") = (json.get("name").and_then(Json::as_str), kind) {
            let name = name.to_string();
            if let Some(namespace) = json.get("namespace").and_then(Json::as_str) {
                self.named.insert(format!("{namespace}.{name}"), node.clone());
            }
            self.named.insert(name, node.clone());
        }
        Ok(node)
    }

    fn fields(&mut self, json: &Json, depth: usize) -> Result<Vec<RecordField>> {
        let fields = json.get("fields").and_then(Json::as_array).ok_or("its schema has a record without fields")?;
        let field = |field: &Json| {
            let id = field.get("field-id").and_then(Json::as_i64).and_then(|id| i32::try_from(id).ok());
            let node = self.node(field.get("type").unwrap_or(&Json::Null), depth + 1)?;
            Ok(RecordField { id, wanted: id.is_some_and(|id| !self.skip.contains(&id)), node })
        };
        fields.iter().map(field).collect()
    }
}
