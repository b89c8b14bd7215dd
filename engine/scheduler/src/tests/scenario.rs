//! Makes one random query: its stages and tasks, what each reads, where outputs are kept, and which faults happen to
//! it.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use crate::Limits;
use floe_wire::graph::*;
use floe_wire::task::*;

/// splitmix64
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
    pub fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What is done to a query, which decides how it must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing goes wrong: every task runs exactly once.
    Calm,
    /// Slow attempts and nothing else.
    Slow,
    /// All that can be recovered from, with budgets that suffice.
    Recoverable,
    /// The same with small budgets.
    Harsh,
    UserErrors,
    Cancelled,
    Deadline,
    /// All workers go and none comes back.
    Deserted,
    /// A task ends every worker that runs it.
    Poison,
    /// Tasks that fit only alone.
    BigTasks,
    /// Tasks that fit only in smaller parts.
    Split,
    /// A task that fits nowhere.
    TooBig,
    /// A task that hits a bug of Floe's own, each time.
    Broken,
}

impl Kind {
    pub const ALL: [Kind; 13] = [
        Kind::Calm,
        Kind::Slow,
        Kind::Recoverable,
        Kind::Harsh,
        Kind::UserErrors,
        Kind::Cancelled,
        Kind::Deadline,
        Kind::Deserted,
        Kind::Poison,
        Kind::BigTasks,
        Kind::Split,
        Kind::TooBig,
        Kind::Broken,
    ];

    /// Workers crash, drain, lose files, and attempts fail, so that a retry helps.
    pub fn faulty(self) -> bool {
        match self {
            Kind::Recoverable | Kind::Harsh => true,
            Kind::Calm
            | Kind::Slow
            | Kind::UserErrors
            | Kind::Cancelled
            | Kind::Deadline
            | Kind::Deserted
            | Kind::Poison
            | Kind::BigTasks
            | Kind::Split
            | Kind::TooBig
            | Kind::Broken => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Inline,
    Worker,
    Store,
}

/// One random query and what happens to it.
pub struct Scenario {
    pub kind: Kind,
    pub graph: StageGraph,
    /// By stage and task: what it reads.
    pub reads: Vec<Vec<Vec<TaskId>>>,
    pub kept: Vec<Kept>,
    pub limits: Limits,
    pub useful: Vec<bool>,
    /// Stages whose tasks write something different in each attempt.
    pub unstable: Vec<bool>,
    pub user_errors: HashSet<TaskId>,
    pub poison: Option<TaskId>,
    pub big: HashSet<TaskId>,
    /// Stages that are cut into fewer tasks at first, and the one of those that does not fit.
    pub split: HashMap<usize, (usize, usize)>,
    pub too_big: Option<TaskId>,
    pub broken: Option<TaskId>,
    pub workers: usize,
    pub slots: u32,
}

impl Scenario {
    pub fn new(kind: Kind, rng: &mut Rng) -> Self {
        let stages = rng.range(1, 7) as usize;
        let mut graph = StageGraph::default();
        let mut reads: Vec<Vec<Vec<TaskId>>> = Vec::new();
        let mut kept = Vec::new();
        for at in 0..stages {
            let inputs: Vec<usize> =
                (0..at).filter(|input| rng.chance(if input + 1 == at { 70 } else { 25 })).collect();
            let count = if rng.chance(6) { 0 } else { rng.range(1, 5) as usize };
            let mut tasks = Vec::new();
            for task in 0..count {
                let mut from = Vec::new();
                for input in &inputs {
                    let all = (0..reads[*input].len()).map(|task| id(*input, task));
                    match (at + *input) % 3 {
                        0 => from.extend(all.filter(|read| read.task as usize % count == task)),
                        1 => from.extend(all),
                        _ => from.extend(all.filter(|_| rng.chance(70))),
                    }
                }
                tasks.push(from);
            }
            reads.push(tasks);
            kept.push([Kept::Worker, Kept::Worker, Kept::Worker, Kept::Inline, Kept::Store][rng.below(5) as usize]);
            let exchange =
                Leaf::Exchange { stages: inputs.iter().map(|at| StageId(*at as u32)).collect(), read: Read::All };
            let source = Leaf::Source { what: String::new(), per_task: vec![Bytes::new(); count] };
            graph.stages.push(Stage {
                id: StageId(at as u32),
                label: format!("work {at}"),
                fragment: Bytes::new(),
                explain: Vec::new(),
                leaves: if inputs.is_empty() { vec![source] } else { vec![exchange] },
                output: Exchange::Whole,
                adaptive: None,
                facts: Default::default(),
                nondeterminism: None,
            });
            if inputs.len() >= 2 && rng.chance(40) {
                other_form(&mut graph, &mut reads, (inputs[0], inputs[inputs.len() - 1]), rng);
            }
        }
        graph.roots = vec![StageId(stages as u32 - 1)];
        for at in 0..stages - 1 {
            if rng.chance(15) {
                graph.roots.push(StageId(at as u32));
            }
        }
        let mut useful = vec![false; stages];
        for at in (0..stages).rev() {
            useful[at] |= graph.roots.contains(&StageId(at as u32));
            if useful[at] {
                graph.inputs(&graph.stages[at]).iter().for_each(|input| useful[input.0 as usize] = true);
            }
        }
        let all: Vec<TaskId> = (0..stages)
            .filter(|at| useful[*at])
            .flat_map(|at| (0..reads[at].len()).map(move |task| id(at, task)))
            .collect();
        let mut some = |count: u64| -> HashSet<TaskId> {
            (0..count).filter(|_| !all.is_empty()).map(|_| all[rng.below(all.len() as u64) as usize]).collect()
        };
        let one = some(1).into_iter().next();
        let of = |this: Kind| one.filter(|_| kind == this);
        let user_errors = if kind == Kind::UserErrors { some(3) } else { HashSet::new() };
        let big = if kind == Kind::BigTasks { some(4) } else { HashSet::new() };
        let mut split = HashMap::new();
        for (at, tasks) in reads.iter().enumerate().filter(|(at, tasks)| useful[*at] && tasks.len() > 1) {
            if kind == Kind::Split && rng.chance(60) {
                let fewer = rng.range(1, tasks.len() as u64 - 1);
                split.insert(at, (fewer as usize, rng.below(fewer) as usize));
            }
        }
        let generous = kind != Kind::Harsh;
        let some_unstable = kind.faulty() && rng.chance(50);
        let unstable: Vec<bool> = (0..stages).map(|_| some_unstable && rng.chance(40)).collect();
        for (stage, _) in graph.stages.iter_mut().zip(&unstable).filter(|(_, unstable)| **unstable) {
            stage.nondeterminism = Some(Nondeterminism::NoSeed);
        }
        let many = if generous { 10_000 } else { 4 };
        let limits = Limits {
            io_per_task: if generous { 1000 } else { 3 },
            io_per_query: if generous { 10_000 } else { 12 },
            lost_per_task: if kind == Kind::Poison { 4 } else { many },
            lost_per_query: if generous { 10_000 } else { 12 },
            fetch_per_task: many,
            internal_per_task: 2,
            no_worker_ms: 60_000,
            silent_ms: 20_000,
            slow_min_ms: 500,
            speculation: kind != Kind::Calm && rng.chance(80),
            user_error_wait_ms: rng.below(200),
            seed: rng.next(),
            ..Limits::default()
        };
        Self {
            kind,
            graph,
            reads,
            kept,
            limits,
            useful,
            unstable,
            user_errors,
            poison: of(Kind::Poison),
            big,
            split,
            too_big: of(Kind::TooBig),
            broken: of(Kind::Broken),
            workers: rng.range(1, 4) as usize,
            slots: rng.range(1, 3) as u32,
        }
    }

    /// What an attempt writes.
    pub fn value(&self, task: TaskId, attempt: u32, inputs: impl Iterator<Item = u64>) -> u64 {
        let version = if self.unstable[task.stage.0 as usize] { u64::from(attempt) << 48 } else { 0 };
        let start = Rng(version | (u64::from(task.stage.0) << 32) | u64::from(task.task)).next();
        inputs.fold(start, |sum, value| Rng(sum.rotate_left(7) ^ value).next())
    }

    /// The one right content of every output, if these attempts won.
    pub fn right_values(&self, won: impl Fn(TaskId) -> u32) -> Vec<Vec<u64>> {
        let mut values: Vec<Vec<u64>> = Vec::new();
        for (stage, tasks) in self.reads.iter().enumerate() {
            let of_stage = tasks.iter().enumerate().map(|(task, reads)| {
                let read = reads.iter().map(|read| values[read.stage.0 as usize][read.task as usize]);
                self.value(id(stage, task), won(id(stage, task)), read)
            });
            let of_stage = of_stage.collect();
            values.push(of_stage);
        }
        values
    }
}

/// The last stage may replace one of the stages that it reads and do its work itself, if another one turns out small;
/// half of the time it does.
fn other_form(
    graph: &mut StageGraph,
    reads: &mut [Vec<Vec<TaskId>>],
    (small, replaced): (usize, usize),
    rng: &mut Rng,
) {
    let Some(mut stage) = graph.stages.pop() else { return };
    let [small_id, replaced_id] = [small, replaced].map(|at| StageId(at as u32));
    let read_elsewhere = graph.stages.iter().any(|other| graph.inputs(other).contains(&replaced_id));
    if !read_elsewhere && graph.stages[replaced].adaptive.is_none() {
        let mut leaves = graph.stages[replaced].leaves.clone();
        leaves.push(Leaf::Exchange { stages: vec![small_id], read: Read::All });
        stage.adaptive = Some(Box::new(AdaptiveForm {
            small: vec![small_id],
            bytes: 1,
            replaces: replaced_id,
            label: stage.label.clone(),
            fragment: Bytes::new(),
            explain: Vec::new(),
            leaves,
            facts: Default::default(),
        }));
        if rng.chance(50) {
            let of_the_other: BTreeSet<TaskId> = std::mem::take(&mut reads[replaced]).into_iter().flatten().collect();
            for task in &mut reads[stage.id.0 as usize] {
                task.retain(|read| read.stage != replaced_id);
                task.extend(of_the_other.iter().filter(|_| rng.chance(70)));
                task.sort_unstable();
                task.dedup();
            }
        }
    }
    graph.stages.push(stage);
}

pub fn id(stage: usize, task: usize) -> TaskId {
    TaskId { stage: StageId(stage as u32), task: task as u32 }
}

pub fn value_of(output: &TaskOutput) -> u64 {
    u64::from_le_bytes(output.staged[0].as_ref().try_into().expect("eight bytes"))
}
