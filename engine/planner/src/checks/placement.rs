//! Checks that every join has its matching rows in one task.

use polars_ops::frame::JoinType;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, FunctionIR, IR};
use polars_utils::arena::Node;

use super::Form;
use crate::fragment::SourceUnit;
use floe_wire::check::Finding;
use floe_wire::facts::{HIDDEN_PREFIX, KeyRanges};
use floe_wire::graph::{Exchange, Leaf, Read};

/// Which rows of a relation one task holds.
#[derive(Clone)]
enum Place {
    /// All of them.
    Everywhere,
    /// A hash partition by these columns.
    Hashed(Vec<String>),
    /// A range of a key.
    Ranged(KeyRanges),
    /// Its part of a scan or frame: files or row groups.
    Source,
    /// Some of the rows, by no rule that the checker knows.
    Own,
}

pub(super) fn check(form: &Form<'_>) -> Option<Finding> {
    if form.facts.tasks < 2 {
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
                Place::Ranged(ranges) => by_ranges(ranges, |key| self.new_name(&key, expr)),
                other => other,
            },
            IR::GroupBy { keys, .. } => match inputs.remove(0) {
                Place::Ranged(ranges) => by_ranges(ranges, |key| self.new_name(&key, keys)),
                other => other,
            },
            IR::HStack { exprs, .. } => match inputs.remove(0) {
                Place::Ranged(ranges) => by_ranges(ranges, |key| {
                    let replaces = |e: &ExprIR| *e.output_name() == *key && self.column(e).as_ref() != Some(&key);
                    (!exprs.iter().any(replaces)).then_some(key)
                }),
                other => other,
            },
            IR::MapFunction { function, .. } => match (inputs.remove(0), function) {
                (place, FunctionIR::Hint(_) | FunctionIR::Rechunk | FunctionIR::RowIndex { .. }) => place,
                (Place::Ranged(_), _) => Place::Own,
                (place, _) => place,
            },
            _ if inputs.len() == 1 => inputs.remove(0),
            _ if inputs.iter().all(|place| matches!(place, Place::Everywhere)) => Place::Everywhere,
            _ => Place::Own,
        }
    }

    fn read(&self, leaf: usize) -> Place {
        let (stages, read) = match self.form.leaves.get(leaf) {
            Some(Leaf::Exchange { stages, read }) => (stages, read),
            Some(Leaf::Source { per_task, .. }) => {
                let ranges = self.form.facts.placeholders.get(leaf).and_then(|placeholder| placeholder.ranges.as_ref());
                return match ranges {
                    Some(ranges) if within(per_task, ranges) => Place::Ranged(ranges.clone()),
                    Some(_) | None => Place::Source,
                };
            }
            None => return Place::Own,
        };
        let stage = stages.first().and_then(|id| self.form.graph.stages.get(id.0 as usize));
        match (read, stage.map(|stage| &stage.output)) {
            (Read::All, _) => Place::Everywhere,
            (Read::Partition, Some(Exchange::Hash { keys, .. })) => Place::Hashed(keys.clone()),
            // A stage that kept its rows: task t has those of its task t.
            (Read::Forward, _) if stages.len() == 1 => {
                stage.and_then(|stage| stage.facts.ranges.clone()).map_or(Place::Own, Place::Ranged)
            }
            _ => Place::Own,
        }
    }

    /// Renames the keys. If one is dropped, the rows stay partitioned but no column shows it any more: `Own`.
    fn renamed(&self, keys: Vec<String>, exprs: &[ExprIR]) -> Place {
        keys.iter().map(|key| self.new_name(key, exprs)).collect::<Option<Vec<_>>>().map_or(Place::Own, Place::Hashed)
    }

    fn new_name(&self, key: &String, exprs: &[ExprIR]) -> Option<String> {
        let of = |e: &&ExprIR| self.column(e).as_ref() == Some(key);
        exprs.iter().find(of).map(|e| e.output_name().to_string())
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
            _ if matches!(how, How::Cross | How::IEJoin | How::Range | How::AsOf(_)) => {
                Err(format!("the sides of the {how} join are cut in different ways"))
            }
            (Place::Ranged(l), Place::Ranged(r)) => {
                let named =
                    |on: &ExprIR, side: &KeyRanges| self.column(on).is_some_and(|key| side.columns.contains(&key));
                if l.bounds != r.bounds {
                    return Err(format!("the sides are cut at {:?} and at {:?}", l.bounds, r.bounds));
                }
                if !left_on.iter().zip(right_on).any(|(a, b)| named(a, l) && named(b, r)) {
                    let keys = (l.columns.join(", "), r.columns.join(", "));
                    return Err(format!(
                        "the sides are cut by {} and {}, which the join does not compare",
                        keys.0, keys.1
                    ));
                }
                let columns = l.columns.iter().chain(&r.columns).cloned().collect();
                Ok(Place::Ranged(KeyRanges { columns, bounds: l.bounds.clone() }))
            }
            // Rows that are no longer told apart by a key, such as groups of a range.
            (Place::Own, Place::Own | Place::Ranged(_)) | (Place::Ranged(_), Place::Own) => Ok(Place::Own),
            _ => Err(format!("the sides of the {how} join are cut in different ways")),
        }
    }
}

/// Ranges of the keys that keep a name; `Own` if none does.
fn by_ranges(KeyRanges { columns, bounds }: KeyRanges, name: impl Fn(String) -> Option<String>) -> Place {
    let columns: Vec<_> = columns.into_iter().filter_map(name).collect();
    if columns.is_empty() { Place::Own } else { Place::Ranged(KeyRanges { columns, bounds }) }
}

/// Whether what each task reads of a scan is filtered to its range, where it is filtered at all: row groups that lie within
/// it need no filter.
fn within(per_task: &[bytes::Bytes], ranges: &KeyRanges) -> bool {
    let start = |task: usize| task.checked_sub(1).map(|before| ranges.bounds[before]);
    per_task.len() == ranges.bounds.len() + 1
        && per_task.iter().enumerate().all(|(task, unit)| match crate::decode(unit) {
            Ok(SourceUnit::Files { keep: Some(keep), .. }) => {
                let end = ranges.bounds.get(task).copied();
                ranges.columns.contains(&keep.column)
                    && (keep.from.is_none() || keep.from == start(task))
                    && (keep.to.is_none() || keep.to == end)
            }
            Ok(SourceUnit::Files { keep: None, .. }) => true,
            Ok(SourceUnit::Frame { .. }) | Err(_) => false,
        })
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
