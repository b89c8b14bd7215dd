//! Plans cut into stages and run here, task by task in one process, against the same plan run whole.
//! `FLOE_PLANS=<directory>` runs every plan file in it and prints what differs.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use polars_buffer::Buffer;
use polars_core::prelude::*;
use polars_plan::plans::{IR, IRPlan};

use super::{Mode, Options, plan, resolve};
use crate::error::{QueryError, Result};
use crate::exec::{self, Context, PieceWriter, Store};
use crate::graph::*;

struct Memory;
struct Inline(Vec<u8>);

impl Store for Memory {
    fn create(&self, _: &str, _: TaskId, _: u32) -> Result<Box<dyn PieceWriter>> {
        Ok(Box::new(Inline(Vec::new())))
    }
    fn open(&self, _: &str, piece: &Piece) -> Result<Buffer<u8>> {
        match &piece.at {
            Location::Inline(b) => Ok(Buffer::from_vec(b.to_vec())),
            _ => Err(QueryError::internal("not inline")),
        }
    }
}

impl Write for Inline {
    fn write(&mut self, b: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(b);
        Ok(b.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl PieceWriter for Inline {
    fn position(&self) -> u64 {
        self.0.len() as u64
    }
    fn finish(self: Box<Self>) -> Result<Location> {
        Ok(Location::Inline(Bytes::from(self.0)))
    }
}

fn context() -> Context {
    Context {
        query: "q".into(),
        store: Arc::new(Memory),
        open_sink: Arc::new(|_, _, _| Err(QueryError::internal("no sink here"))),
        compression: None,
        cancel: Arc::default(),
        progress: Arc::default(),
    }
}

fn distributed(ir: IRPlan, options: &Options) -> Result<(DataFrame, StageGraph)> {
    let schema = output_schema(&ir);
    let graph = plan(ir, options)?;
    let ctx = context();
    let mut done: HashMap<StageId, Vec<TaskOutput>> = HashMap::new();
    for stage in &graph.stages {
        let mut outputs = Vec::new();
        for (t, task) in resolve(&graph, stage.id, &done)?.into_iter().enumerate() {
            let id = TaskId { stage: stage.id, task: t as u32 };
            let spec = TaskSpec { id, attempt: 0, leaves: task.leaves, output: stage.output.clone() };
            outputs.push(exec::run(&stage.fragment, &spec, &ctx)?);
        }
        done.insert(stage.id, outputs);
    }
    let pieces: Vec<Piece> = graph
        .roots
        .iter()
        .flat_map(|s| done[s].iter().flat_map(|o| o.pieces.iter().map(|p| p.piece.clone())))
        .collect();
    Ok((exec::read(&pieces, &schema, "q", &Memory)?, graph))
}

fn output_schema(ir: &IRPlan) -> SchemaRef {
    let node = match ir.root() {
        IR::Sink { input, .. } => *input,
        _ => ir.lp_top,
    };
    ir.lp_arena.get(node).schema(&ir.lp_arena).into_owned()
}

fn sorted(df: &DataFrame) -> Option<DataFrame> {
    let names: Vec<_> = df.get_column_names_owned();
    if names.is_empty() {
        return Some(df.clone());
    }
    df.sort(names, SortMultipleOptions::default()).ok()
}

#[test]
fn plans_of_a_directory() {
    let Ok(dir) = std::env::var("FLOE_PLANS") else { return };
    let limit: u64 = std::env::var("FLOE_BROADCAST").ok().and_then(|v| v.parse().ok()).unwrap_or(128 << 20);
    let only = std::env::var("FLOE_ONLY").ok();
    std::panic::set_hook(Box::new(|_| {}));
    let mut counts: HashMap<&'static str, u32> = HashMap::new();
    let mut reasons: HashMap<String, u32> = HashMap::new();
    let mut files: Vec<_> = std::fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().expect("a name").to_string_lossy().to_string();
        if only.as_ref().is_some_and(|o| !name.contains(o.as_str())) {
            continue;
        }
        let bytes = std::fs::read(&file).expect("a file");
        let load = || crate::plan::decode(&bytes, &Default::default()).and_then(|l| crate::plan::optimize(l.plan));
        let oracle = load().and_then(exec::execute);
        let options =
            Options { mode: Mode::Distributed, workers: 3, broadcast_limit_bytes: limit, ..Options::default() };
        let ours = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| load().and_then(|ir| distributed(ir, &options))))
            .unwrap_or_else(|p| Err(exec::panic_error(&*p)));
        if let Ok((_, graph)) = &ours {
            if graph.stages.len() > 1 {
                *counts.entry("  of them in several stages").or_default() += 1;
            }
            for s in &graph.single_worker {
                let reason = s.reason.chars().take(60).collect::<String>();
                *reasons.entry(format!("{}: {}", s.node, reason)).or_default() += 1;
            }
        }
        let outcome = match (&oracle, &ours) {
            (Ok(a), Ok((b, graph))) => {
                if a.schema() != b.schema() {
                    println!("{name} SCHEMA\n  {:?}\n  {:?}", a.schema(), b.schema());
                    "differs"
                } else if a.equals_missing(b) {
                    "equal"
                } else {
                    let same = sorted(a).zip(sorted(b)).is_some_and(|(a, b)| a.equals_missing(&b));
                    if !same || only.is_some() {
                        println!("{name} DIFFERS {} vs {} rows", a.height(), b.height());
                    }
                    if only.is_some() {
                        println!("{a}\n{b}");
                        for s in &graph.stages {
                            println!("{} {:?}\n{}", s.label, s.output, s.explain.join("\n"));
                        }
                    }
                    if same { "order" } else { "differs" }
                }
            },
            (Err(a), Err(b)) if a.message == b.message => "failed alike",
            (Err(a), Err(b)) => {
                println!("{name} MESSAGES\n  {a}\n  {b}");
                "failed differently"
            },
            (Ok(_), Err(b)) => {
                println!("{name} FAILED HERE {} {}", b.class, b.message.chars().take(300).collect::<String>());
                "failed here only"
            },
            (Err(a), Ok(_)) => {
                println!("{name} FAILED THERE {a}");
                "failed there only"
            },
        };
        *counts.entry(outcome).or_default() += 1;
    }
    println!("{counts:#?}");
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|r| std::cmp::Reverse(r.1));
    for (reason, n) in reasons.iter().take(60) {
        println!("{n:5} {reason}");
    }
}
