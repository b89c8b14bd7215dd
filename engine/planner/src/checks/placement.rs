//! Checks that every join has its matching rows in one task.

use polars_ops::frame::JoinType;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, IR};
use polars_utils::arena::Node;

use super::Form;
use floe_wire::check::Finding;
use floe_wire::facts::HIDDEN_PREFIX;
use floe_wire::graph::{Exchange, Leaf, Read};

/// Which rows of a relation one task holds.
#[derive(Clone)]
enum Place {
    /// All of them.
    Everywhere,
    /// A hash partition by these columns.
    Hashed(Vec<String>),
    /// Its part of a scan or frame: files, row groups, or a range of a key.
    Source,
    /// Some of the rows, by no rule that the checker knows.
    Own,
}

pub(super) fn check(form: &Form<'_>) -> Option<Finding> {
    if form.tasks < 2 {
        return None;
    }
    let mut walk = Walk { form, leaf: 0, apart: None };
    walk.place(form.plan.lp_top);
    walk.apart.map(|why| Finding::JoinApart { stage: form.stage, why })
}

struct Walk<'a> {
    form: &'a Form<'a>,
    leaf: usize,
    apart: Option<String>,
}

impl Walk<'_> {
    /// Visits every leaf, left to right.
    fn place(&mut self, node: Node) -> Place {
        let ir = self.form.plan.lp_arena.get(node);
        let mut inputs: Vec<Place> = ir.inputs().map(|input| self.place(input)).collect();
        match ir {
            _ if inputs.is_empty() => {
                self.leaf += 1;
                self.read(self.leaf - 1)
            }
            IR::Join { left_on, right_on, options, .. } => match (inputs.pop(), inputs.pop()) {
                (Some(right), Some(left)) => {
                    let checked = options.args.validation.needs_checks();
                    match self.joined(&left, &right, &options.args.how, checked, left_on, right_on) {
                        Ok(place) => place,
                        Err(why) => {
                            self.apart.get_or_insert(why);
                            left
                        }
                    }
                }
                _ => Place::Own,
            },
            IR::Select { expr, .. } => match inputs.remove(0) {
                Place::Hashed(keys) => self.renamed(keys, expr),
                other => other,
            },
            _ if inputs.len() == 1 => inputs.remove(0),
            _ if inputs.iter().all(|place| matches!(place, Place::Everywhere)) => Place::Everywhere,
            _ => Place::Own,
        }
    }

    fn read(&self, leaf: usize) -> Place {
        let (stages, read) = match self.form.leaves.get(leaf) {
            Some(Leaf::Exchange { stages, read }) => (stages, read),
            Some(Leaf::Source { .. }) => return Place::Source,
            None => return Place::Own,
        };
        match (read, stages.first().and_then(|id| self.form.graph.stages.get(id.0 as usize)).map(|s| &s.output)) {
            (Read::All, _) => Place::Everywhere,
            (Read::Partition, Some(Exchange::Hash { keys, .. })) => Place::Hashed(keys.clone()),
            _ => Place::Own,
        }
    }

    /// Renames the keys. If one is dropped, the rows stay partitioned but no column shows it any more: `Own`.
    fn renamed(&self, keys: Vec<String>, exprs: &[ExprIR]) -> Place {
        let new_name = |key: &String| {
            let of = |e: &&ExprIR| self.column(e).as_ref() == Some(key);
            exprs.iter().find(of).map(|e| e.output_name().to_string())
        };
        keys.iter().map(new_name).collect::<Option<Vec<_>>>().map_or(Place::Own, Place::Hashed)
    }

    fn column(&self, e: &ExprIR) -> Option<String> {
        match self.form.plan.expr_arena.get(e.node()) {
            AExpr::Column(name) => Some(name.to_string()),
            _ => None,
        }
    }

    fn joined(
        &self,
        left: &Place,
        right: &Place,
        how: &JoinType,
        checked: bool,
        left_on: &[ExprIR],
        right_on: &[ExprIR],
    ) -> Result<Place, String> {
        use JoinType as How;
        match (left, right) {
            (Place::Everywhere, Place::Everywhere) => Ok(Place::Everywhere),
            (Place::Everywhere, other) | (other, Place::Everywhere) => {
                let left_whole = matches!(left, Place::Everywhere);
                let fits = match how {
                    How::Inner | How::Cross | How::IEJoin | How::Range => true,
                    How::Left | How::Semi | How::Anti | How::AsOf(_) => !left_whole,
                    How::Right => left_whole,
                    How::Full => false,
                };
                if !fits {
                    let side = if left_whole { "left" } else { "right" };
                    return Err(format!(
                        "each task would give the unmatched rows of the {side} side of the {how} join"
                    ));
                }
                if checked {
                    return Err("each task would check the keys of its own rows only".into());
                }
                Ok(other.clone())
            }
            (Place::Hashed(l), Place::Hashed(r)) => match how {
                How::Cross | How::IEJoin | How::Range => Err(format!("a {how} join by hash")),
                How::AsOf(options) => {
                    let names = |by: &Option<Vec<_>>| -> Vec<String> {
                        by.iter().flatten().map(|name: &polars_utils::pl_str::PlSmallStr| name.to_string()).collect()
                    };
                    let (left_by, right_by) = (names(&options.left_by), names(&options.right_by));
                    join_partitions(l, r, |key| places(&left_by, key), |key| places(&right_by, key))?;
                    Ok(Place::Hashed(l.clone()))
                }
                _ => {
                    let of = |on: &[ExprIR]| -> Vec<String> {
                        on.iter().map(|e| self.column(e).unwrap_or_default()).collect()
                    };
                    let (left_on, right_on) = (of(left_on), of(right_on));
                    join_partitions(l, r, |key| places(&left_on, key), |key| places(&right_on, key))?;
                    Ok(Place::Hashed(l.clone()))
                }
            },
            // Both sides are cut by ranges of one pair of keys, at their scans or at a stage that kept the rows.
            // Whether the cuts are the same is not checked here.
            (Place::Own | Place::Source, Place::Own | Place::Source)
                if !matches!(how, How::Cross | How::IEJoin | How::Range | How::AsOf(_)) =>
            {
                Ok(Place::Own)
            }
            _ => Err(format!("the sides of the {how} join are cut in different ways")),
        }
    }
}

fn places(on: &[String], key: &str) -> Vec<usize> {
    (0..on.len()).filter(|at| on[*at] == key).collect()
}

/// Checks that rows which the join calls equal are in one partition: each pair of exchange keys must be a pair of join
/// keys. Hidden columns (computed keys, categories as text) pass, because the join does not name them.
fn join_partitions(
    left: &[String],
    right: &[String],
    left_places: impl Fn(&str) -> Vec<usize>,
    right_places: impl Fn(&str) -> Vec<usize>,
) -> Result<(), String> {
    if left.len() != right.len() {
        return Err(format!("one side is exchanged by {} keys, and the other by {}", left.len(), right.len()));
    }
    for (l, r) in left.iter().zip(right) {
        let (hidden_left, hidden_right) = (l.starts_with(HIDDEN_PREFIX), r.starts_with(HIDDEN_PREFIX));
        let (at_left, at_right) = (left_places(l), right_places(r));
        let fits = match (hidden_left, hidden_right) {
            (true, true) => true,
            (true, false) => !at_right.is_empty(),
            (false, true) => !at_left.is_empty(),
            (false, false) => at_left.iter().any(|at| at_right.contains(at)),
        };
        if !fits {
            return Err(format!("rows are exchanged by \"{l}\" and \"{r}\", which the join does not compare"));
        }
    }
    Ok(())
}
