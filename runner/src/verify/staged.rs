//! Runs the distributed plan without the machinery: planner, tasks and exchanges as on a cluster, but one after another
//! in this process, with every piece kept in memory. What differs here is a fault of the planner or of `exec`; what
//! differs only on workers is a fault of shuffle, scheduler or transport. Tests use it because it needs no processes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use polars::prelude::DataFrame;
use polars_plan::dsl::DslPlan;

use super::judge::{Ran, Side};
use super::oracle::{self, panic_error};
use super::sinks;
use floe_exec::{Context, Inline, Progress};
use floe_wire::check;
use floe_wire::error::{Category, QueryError, Result};
use floe_wire::graph::{Exchange, StageGraph, StageId};
use floe_wire::task::Portion;

/// Runs plans in stages in this process.
pub struct Staged {
    pub options: floe_planner::Options,
    pub limit: Duration,
}

impl Side for Staged {
    fn run(&self, _name: &str, bytes: &[u8], plan: &DslPlan) -> Ran {
        let started = Instant::now();
        if sinks::has_sinks(plan) {
            // Staged files and their commit belong to the coordinator: here such a plan runs on one node.
            let outcome = oracle::contained_run(plan.clone(), oracle::With::InMemory);
            return Ran {
                outcome,
                stages: 1,
                tasks: 1,
                single_worker: Vec::new(),
                fell_back: None,
                elapsed: started.elapsed(),
            };
        }
        let (send, receive) = mpsc::sync_channel(1);
        let (bytes, options) = (bytes.to_vec(), self.options.clone());
        let spawned = std::thread::Builder::new().name("staged".into()).stack_size(16 << 20).spawn(move || {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&bytes, &options)));
            // The receiver is gone if the limit has passed.
            let _ = send.send(ran.unwrap_or_else(|payload| (Err(panic_error(payload.as_ref())), None)));
        });
        let late = || {
            let text = format!("the stages did not finish within {} s", self.limit.as_secs());
            (Err(QueryError::new(Category::Deadline, "Timeout", text)), None)
        };
        let (outcome, graph) = match spawned {
            Ok(_) => receive.recv_timeout(self.limit).unwrap_or_else(|_| late()),
            Err(e) => (Err(QueryError::internal(format!("no thread: {e}"))), None),
        };
        Ran {
            outcome,
            stages: graph.as_ref().map_or(0, |g| g.stages.len()),
            tasks: 0,
            single_worker: graph.map(|g| g.single_worker).unwrap_or_default(),
            fell_back: None,
            elapsed: started.elapsed(),
        }
    }
}

fn run(bytes: &[u8], options: &floe_planner::Options) -> (Result<Vec<DataFrame>>, Option<StageGraph>) {
    let planned = super::side::loaded(bytes).and_then(|loaded| floe_plan::optimize(loaded.plan)).and_then(|ir| {
        let schema = ir.lp_arena.get(ir.lp_top).schema(&ir.lp_arena).into_owned();
        let graph = floe_planner::plan(ir, options)?;
        match check::rejection(&floe_planner::check(&graph)) {
            Some(rejected) => Err(rejected),
            None => Ok((graph, schema)),
        }
    });
    match planned {
        Err(e) => (Err(e), None),
        Ok((graph, schema)) => {
            let result = drive(&graph).and_then(|rows| Ok(floe_exec::read(&rows, &schema, &Inline)?));
            (result.map(|frame| vec![frame]), Some(graph))
        }
    }
}

fn drive(graph: &StageGraph) -> Result<Vec<Portion>> {
    let lost = |root: &&StageId| !graph.stages.get(root.0 as usize).is_some_and(|s| s.output == Exchange::Result);
    if let Some(root) = graph.roots.iter().find(lost) {
        return Err(QueryError::internal(format!("stage {} is a root and keeps no result", root.0)));
    }
    let ctx = Context {
        query: "verify".into(),
        store: Arc::new(Inline),
        open_sink: Arc::new(|_, _, _| Err(QueryError::internal("this run has no sinks"))),
        compression: None,
        disk_compression: None,
        batch_bytes: 1 << 10,
        run_bytes: 1 << 10,
        read_budget: floe_exec::ReadBudget::new(1 << 20),
        stream_from_bytes: u64::MAX,
        cancel: Arc::new(AtomicBool::new(false)),
        progress: Arc::new(Progress::default()),
    };
    Ok(floe_exec::run_here(graph, &ctx, |stage| stage.0 % 2 == 0)?)
}
