//! Plan nodes that are added to a client's document, which lists its nodes and names each by its place in the list.

use crate::msgpack::Node;

/// A node as the document lists it.
pub fn listed(plan: Node<'_>) -> Node<'_> {
    Node::map([("value", plan), ("version", number(1))])
}

/// What names the node at this place.
pub fn key(at: usize) -> Node<'static> {
    let mut index = vec![0xce];
    index.extend_from_slice(&(at as u32).to_be_bytes());
    Node::map([("idx", Node::Owned(index)), ("version", number(1))])
}

/// How many nodes a document lists.
pub fn count(document: &Node<'_>) -> usize {
    document.get("dsl_plans").and_then(Node::as_seq).map_or(0, <[Node<'_>]>::len)
}

/// A node that reads nothing, for marks that have no input of their own.
pub fn nothing() -> Node<'static> {
    Node::map([("SinkMultiple", Node::map([("inputs", Node::Seq(Vec::new()))]))])
}

pub fn number(value: u16) -> Node<'static> {
    Node::Owned([&[0xcd][..], &value.to_be_bytes()].concat())
}
