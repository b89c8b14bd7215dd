//! Decides whether Polars promises an order of a node's rows, from the user's plan before it is cut. Polars' own passes
//! answer for a node only on the assumption that its input is in order.

use std::collections::HashMap;

use polars_ops::frame::{JoinType, MaintainOrderJoin};
use polars_plan::plans::{AExpr, IR, is_scalar_ae};
use polars_utils::arena::{Arena, Node};

pub fn promised(node: Node, ir: &Arena<IR>, ex: &Arena<AExpr>) -> bool {
    Walk { ir, ex, seen: HashMap::new() }.promised(node)
}

struct Walk<'a> {
    ir: &'a Arena<IR>,
    ex: &'a Arena<AExpr>,
    /// Results so far: a common subplan has several users.
    seen: HashMap<Node, bool>,
}

impl Walk<'_> {
    fn promised(&mut self, node: Node) -> bool {
        if let Some(known) = self.seen.get(&node) {
            return *known;
        }
        let ir = self.ir;
        let promised = match ir.get(node) {
            IR::Sort { .. } => true,
            // One row has no order.
            IR::Select { expr, .. } if expr.iter().all(|e| is_scalar_ae(e.node(), self.ex)) => false,
            IR::GroupBy { input, maintain_order, .. } => *maintain_order && self.promised(*input),
            IR::Distinct { input, options } => options.maintain_order && self.promised(*input),
            IR::Union { options, .. } if !options.maintain_order => false,
            IR::Join { input_left, input_right, options, .. } => {
                match (&options.args.how, options.args.maintain_order) {
                    (JoinType::AsOf(_), _) => self.promised(*input_left),
                    (_, MaintainOrderJoin::None) => false,
                    (_, MaintainOrderJoin::Left | MaintainOrderJoin::LeftRight) => self.promised(*input_left),
                    (_, MaintainOrderJoin::Right | MaintainOrderJoin::RightLeft) => self.promised(*input_right),
                }
            }
            other => other.inputs().collect::<Vec<_>>().into_iter().all(|input| self.promised(input)),
        };
        self.seen.insert(node, promised);
        promised
    }
}
