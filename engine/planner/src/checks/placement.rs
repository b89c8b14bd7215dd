//! Checks that every join, group-by, unique and window has its matching rows in one task, and that partial groups are
//! combined before anyone sees them.

use polars_ops::frame::JoinType;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, FunctionIR, IR};
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;

use super::groups::{self, column};
use super::keys::{self, Key, alike};
use super::{Form, Written};
use crate::fragment::SourceUnit;
use floe_wire::check::Finding;
use floe_wire::facts::{Grouping, KeyRanges};
use floe_wire::graph::{Exchange, Leaf, Read};

/// Which rows of a relation one task holds.
#[derive(Clone)]
pub(super) enum Place {
    /// All of them.
    Everywhere,
    /// A hash partition by these keys.
    Hashed(Vec<Key>),
    /// All rows of a group, by these keys.
    Grouped(Vec<Key>),
    /// A range of a key.
    Ranged(KeyRanges),
    /// Its part of a scan or frame: files or row groups.
    Source,
    /// Some of the rows, by no rule that the checker knows.
    Own,
}

/// The rows of a node.
struct Rows {
    place: Place,
    /// A group may have a row in each of several tasks, which are yet to be combined.
    partial: bool,
}

/// What is wrong, and whether the stage gives partial groups.
pub(super) fn check(form: &Form<'_>) -> (Vec<Finding>, bool) {
    let arena = form.plan.expr_arena.clone();
    let mut walk = Walk { form, leaf: 0, grouping: 0, findings: Vec::new(), arena };
    let Rows { partial, .. } = walk.rows(form.plan.lp_top);
    let mut findings = walk.findings;
    findings.truncate(1);
    if partial && form.gives_result() {
        findings.push(Finding::PartialGroups { stage: form.stage });
    }
    (findings, partial)
}

struct Walk<'a> {
    form: &'a Form<'a>,
    leaf: usize,
    /// Group-bys and uniques seen so far, top down.
    grouping: usize,
    findings: Vec<Finding>,
    /// The expressions of the fragment, and of the exchanges' keys.
    arena: Arena<AExpr>,
}

impl Walk<'_> {
    /// Visits every leaf, left to right.
    fn rows(&mut self, node: Node) -> Rows {
        let form = self.form;
        let ir = form.plan.lp_arena.get(node);
        let grouping = is_grouping(ir).then(|| {
            self.grouping += 1;
            form.facts.groupings.get(self.grouping - 1).copied().unwrap_or_default()
        });
        let mut inputs: Vec<Rows> = ir.inputs().map(|input| self.rows(input)).collect();
        if inputs.is_empty() {
            self.leaf += 1;
            return self.read(self.leaf - 1);
        }
        if let (IR::Join { left_on, right_on, options, .. }, 2) = (ir, inputs.len()) {
            let (Some(right), Some(left)) = (inputs.pop(), inputs.pop()) else {
                return Rows { place: Place::Own, partial: false };
            };
            let how = &options.args.how;
            // Whether a row has a match does not depend on how many it has.
            let partial = left.partial || right.partial && !matches!(how, JoinType::Semi | JoinType::Anti);
            let checked = options.args.validation.needs_checks();
            let place = if form.facts.tasks < 2 {
                Place::Everywhere
            } else {
                match self.joined(&left.place, &right.place, how, checked, left_on, right_on) {
                    Ok(place @ (Place::Hashed(_) | Place::Grouped(_))) => self.beside(place, node, &left.place),
                    Ok(place) => place,
                    Err(why) => {
                        self.findings.push(Finding::JoinApart { stage: form.stage, why });
                        Place::Own
                    }
                }
            };
            return Rows { place, partial };
        }
        let all = inputs.iter().all(|input| matches!(input.place, Place::Everywhere));
        let partial = inputs.iter().any(|input| input.partial);
        let place = match inputs.pop() {
            Some(input) if inputs.is_empty() => input.place,
            _ if all => Place::Everywhere,
            _ => Place::Own,
        };
        for keys in groups::windows(ir, &self.arena) {
            self.whole(&place, &keys);
        }
        match (groups::of_node(ir, form.plan, &mut self.arena), grouping) {
            (Some(keys), Some(Grouping::Whole)) => {
                self.whole(&place, &keys);
                Rows { place: self.grouped(place, ir), partial: false }
            }
            (Some(_), _) => Rows { place: self.after(place, ir), partial: true },
            (None, _) => Rows { place: self.after(place, ir), partial },
        }
    }

    fn whole(&mut self, place: &Place, keys: &[Node]) {
        if self.form.facts.tasks < 2 {
            return;
        }
        if let Err(why) = groups::together(place, keys, &self.arena) {
            self.findings.push(Finding::GroupsApart { stage: self.form.stage, why });
        }
    }

    /// The rows of whole groups: a group is in one task.
    fn grouped(&mut self, place: Place, ir: &IR) -> Place {
        match (&place, ir) {
            (Place::Everywhere | Place::Ranged(_), _) | (_, IR::Distinct { .. }) => self.after(place, ir),
            (_, IR::GroupBy { keys, .. }) => {
                Place::Grouped(keys.iter().map(|key| Key::column(key.output_name(), &mut self.arena)).collect())
            }
            _ => place,
        }
    }

    /// What is known of rows after a node that does not move them: keys that it renames, replaces or drops.
    fn after(&mut self, place: Place, ir: &IR) -> Place {
        let expr_arena = &self.form.plan.expr_arena;
        let of = |exprs: &[ExprIR], name: &str| {
            exprs.iter().find(|e| column(e, expr_arena).as_deref() == Some(name)).map(|e| e.output_name().to_string())
        };
        let new_name: Box<dyn Fn(&str) -> Option<String> + '_> = match ir {
            IR::Select { expr, .. } => Box::new(move |name| of(expr, name)),
            IR::GroupBy { keys, .. } => Box::new(move |name| of(keys, name)),
            IR::HStack { exprs, .. } => Box::new(move |name| {
                let replaces = |e: &ExprIR| *e.output_name() == *name && column(e, expr_arena).as_deref() != Some(name);
                (!exprs.iter().any(replaces)).then(|| name.to_owned())
            }),
            IR::SimpleProjection { columns, .. } => {
                Box::new(move |name| columns.contains(name).then(|| name.to_owned()))
            }
            IR::MapFunction { function, .. } => match function {
                FunctionIR::Hint(_) | FunctionIR::Rechunk | FunctionIR::RowIndex { .. } => return place,
                _ => Box::new(|_| None),
            },
            _ => return place,
        };
        match place {
            Place::Hashed(of) => keys::renamed(&of, &*new_name, &mut self.arena).map_or(Place::Own, Place::Hashed),
            Place::Grouped(of) => keys::renamed(&of, &*new_name, &mut self.arena).map_or(Place::Own, Place::Grouped),
            Place::Ranged(ranges) => by_ranges(ranges, |name| new_name(&name)),
            other => other,
        }
    }

    /// Keys after a join that adds the columns of another side, which may have the same names.
    fn beside(&mut self, place: Place, join: Node, left: &Place) -> Place {
        let plan = self.form.plan;
        let (Place::Hashed(of) | Place::Grouped(of)) = &place else { return place };
        let IR::Join { input_left, .. } = plan.lp_arena.get(join) else { return place };
        let (added, output) =
            (plan.lp_arena.get(*input_left).schema(&plan.lp_arena), plan.lp_arena.get(join).schema(&plan.lp_arena));
        let of_right = matches!(left, Place::Everywhere);
        let kept = |name: &str| (output.contains(name) && !(of_right && added.contains(name))).then(|| name.to_owned());
        keys::renamed(of, &kept, &mut self.arena).map_or(Place::Own, Place::Grouped)
    }

    fn read(&mut self, leaf: usize) -> Rows {
        let (stages, read) = match self.form.leaves.get(leaf) {
            Some(Leaf::Exchange { stages, read }) => (stages, read),
            Some(Leaf::Source { per_task, .. }) => {
                let ranges = self.form.facts.placeholders.get(leaf).and_then(|placeholder| placeholder.ranges.as_ref());
                let place = match ranges {
                    Some(ranges) if within(per_task, ranges) => Place::Ranged(ranges.clone()),
                    Some(_) | None => Place::Source,
                };
                return Rows { place, partial: false };
            }
            None => return Rows { place: Place::Own, partial: false },
        };
        let Written { plans, partial } = self.form.written;
        let partial = stages.iter().any(|stage| partial.get(stage.0 as usize).copied().unwrap_or_default());
        let written: Vec<_> = stages.iter().filter_map(|id| self.form.graph.stages.get(id.0 as usize)).collect();
        let hashed = |exchange: &Exchange| match exchange {
            Exchange::Hash { keys, .. } => Some(keys.clone()),
            _ => None,
        };
        let first = written.first().and_then(|stage| hashed(&stage.output));
        let place = match (read, first, &written[..]) {
            (Read::All, ..) => Place::Everywhere,
            (Read::Partition, Some(keys), _) if written.iter().all(|of| hashed(&of.output).as_ref() == Some(&keys)) => {
                Place::Hashed(keys.iter().map(|key| Key::read(key, stages, plans, &mut self.arena)).collect())
            }
            // A stage that kept its rows: task t has those of its task t.
            (Read::Forward, _, [stage]) => stage.facts.ranges.clone().map_or(Place::Own, Place::Ranged),
            _ => Place::Own,
        };
        Rows { place, partial }
    }

    fn joined(
        &mut self,
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
            (Place::Hashed(l), Place::Hashed(r)) => {
                let on: Vec<(Node, Node)> = match how {
                    How::Cross | How::IEJoin | How::Range => return Err(format!("a {how} join by hash")),
                    How::AsOf(options) => {
                        let mut names = |by: &Option<Vec<PlSmallStr>>| -> Vec<Node> {
                            by.iter().flatten().map(|name| self.arena.add(AExpr::Column(name.clone()))).collect()
                        };
                        let (left_by, right_by) = (names(&options.left_by), names(&options.right_by));
                        left_by.into_iter().zip(right_by).collect()
                    }
                    _ => left_on.iter().map(ExprIR::node).zip(right_on.iter().map(ExprIR::node)).collect(),
                };
                self.same_partitions(l, r, &on)?;
                // Rows of the right side without a match have no key in the left side's columns.
                match how {
                    How::Inner | How::Left | How::Semi | How::Anti | How::AsOf(_) => Ok(left.clone()),
                    _ => Ok(Place::Own),
                }
            }
            _ if matches!(how, How::Cross | How::IEJoin | How::Range | How::AsOf(_)) => {
                Err(format!("the sides of the {how} join are cut in different ways"))
            }
            (Place::Ranged(l), Place::Ranged(r)) => {
                let arena = &self.form.plan.expr_arena;
                let named =
                    |on: &ExprIR, side: &KeyRanges| column(on, arena).is_some_and(|key| side.columns.contains(&key));
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
            _ => Err(format!("the sides of the {how} join are cut in different ways")),
        }
    }

    /// Checks that rows which the join calls equal are in one partition: both sides make each key of the exchange alike
    /// from a pair of join keys.
    fn same_partitions(&mut self, left: &[Key], right: &[Key], on: &[(Node, Node)]) -> Result<(), String> {
        if left.len() != right.len() {
            return Err(format!("one side is exchanged by {} keys, and the other by {}", left.len(), right.len()));
        }
        for (l, r) in left.iter().zip(right) {
            if !alike(l, r, on, &mut self.arena) {
                let (l, r) = (l.shown(&self.arena), r.shown(&self.arena));
                return Err(format!("rows are exchanged by {l} and {r}, which the join does not compare"));
            }
        }
        Ok(())
    }
}

/// Whether a node makes groups of rows with equal keys, which facts say something about.
pub(crate) fn is_grouping(ir: &IR) -> bool {
    matches!(ir, IR::GroupBy { .. } | IR::Distinct { .. })
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
            Ok(SourceUnit::Frame { .. } | SourceUnit::Database { .. }) | Err(_) => false,
        })
}
