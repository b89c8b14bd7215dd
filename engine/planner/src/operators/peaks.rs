//! Casts values that are numbers underneath (dates, enums, decimals, …) before their peaks are found. Polars compares
//! those numbers, but its streaming engine passes on the first value of the next batch as it is, which the function
//! does not take for a number: rows at the edge of a batch would have no peak. So the values are cast to numbers before
//! they reach the function.

use polars_plan::plans::{AExpr, AExprBuilder, IRFunctionExpr};
use polars_utils::arena::{Arena, Node};

pub(crate) fn over_numbers(arena: &mut Arena<AExpr>) {
    for at in (0..arena.len()).map(Node) {
        let AExpr::Function { input, function: IRFunctionExpr::PeakMin | IRFunctionExpr::PeakMax, .. } = arena.get(at)
        else {
            continue;
        };
        let Some(of) = input.first().map(|of| of.node()) else { continue };
        let numbers = AExprBuilder::new_from_node(of).to_physical(arena).node();
        if let AExpr::Function { input, .. } = arena.get_mut(at)
            && let Some(of) = input.first_mut()
        {
            of.set_node(numbers);
        }
    }
}
