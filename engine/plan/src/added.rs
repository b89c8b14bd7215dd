//! Adds plan nodes to a client's document, which keeps its nodes in a list and refers to them by index.

use crate::msgpack::Node;

/// Wraps a node in the form in which the document lists nodes.
pub fn listed(plan: Node<'_>) -> Node<'_> {
    Node::map([("value", plan), ("version", number(1))])
}

/// The reference to the node at this index of the list.
pub fn key(at: usize) -> Node<'static> {
    let mut index = vec![0xce];
    index.extend_from_slice(&(at as u32).to_be_bytes());
    Node::map([("idx", Node::Owned(index)), ("version", number(1))])
}

/// Number of nodes that a document lists.
pub fn count(document: &Node<'_>) -> usize {
    document.get("dsl_plans").and_then(Node::as_seq).map_or(0, <[Node<'_>]>::len)
}

/// A plan that reads nothing: the input of marks that have no input of their own.
pub fn nothing() -> Node<'static> {
    Node::map([("SinkMultiple", Node::map([("inputs", Node::Seq(Vec::new()))]))])
}

pub fn number(value: u16) -> Node<'static> {
    Node::Owned([&[0xcd][..], &value.to_be_bytes()].concat())
}
