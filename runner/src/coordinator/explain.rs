//! Prints the stage graph as text, Graphviz, Mermaid or JSON. Pure.

use std::fmt::Write;

use floe_api::report::StageInfo;
use serde::Serialize;

use floe_wire::check::Finding;
use floe_wire::facts::{JoinDecision, JoinOption};
use floe_wire::graph::{Leaf, Read, Stage, StageGraph};

use super::events::{exchange, stage_infos};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Dot,
    Mermaid,
    Json,
}

/// Prints the graph with the checker's findings.
pub fn render(graph: &StageGraph, format: Format) -> String {
    render_with(graph, &floe_planner::check(graph), format)
}

fn render_with(graph: &StageGraph, findings: &[Finding], format: Format) -> String {
    match format {
        Format::Text => text(graph, findings),
        Format::Dot => dot(graph, findings),
        Format::Mermaid => mermaid(graph, findings),
        Format::Json => json(graph, findings),
    }
}

/// Says where a leaf's data comes from.
fn leaf(leaf: &Leaf) -> String {
    match leaf {
        Leaf::Source { what, per_task } => format!("{what}: {} task(s)", per_task.len()),
        Leaf::Exchange { stages, read } => {
            let read = match read {
                Read::Partition => "by partition",
                Read::All => "all to every task",
                Read::Forward => "task by task",
                Read::Neighbours { .. } => "of neighbouring tasks, as many as fill a file",
                Read::Before => "of the tasks before",
                Read::After => "of the tasks after",
                Read::KeySummaries => "its keys to every task, which drops rows without a match",
            };
            let stages: Vec<String> = stages.iter().map(|stage| stage.0.to_string()).collect();
            format!("stage {}: {read}", stages.join(", "))
        }
    }
}

/// Describes a join and its strategy.
fn decided(decision: &JoinDecision) -> String {
    format!("{}: {}, as {}", decision.join, option(&decision.chosen), decision.reason)
}

/// Describes a join strategy and its expected cost, first by what strategies are compared.
fn option(option: &JoinOption) -> String {
    let bytes = |bytes: Option<u64>| match bytes {
        None => "unknown".to_owned(),
        Some(bytes) if bytes < 1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        Some(bytes) => format!("{:.1} MB", bytes as f64 / 1e6),
    };
    let cost = &option.cost;
    let rounds = if cost.rounds == 1 { "round" } else { "rounds" };
    format!(
        "{} (handles {}, likely {}; network {}, held by a task {}, {} {rounds})",
        option.strategy,
        bytes(cost.handled_bytes),
        bytes(cost.likely_bytes),
        bytes(cost.network_bytes),
        bytes(cost.held_bytes),
        cost.rounds
    )
}

fn text(graph: &StageGraph, findings: &[Finding]) -> String {
    let mut out = String::new();
    for stage in &graph.stages {
        let _ = writeln!(out, "stage {}: {}", stage.id.0, stage.label);
        for line in &stage.explain {
            let _ = writeln!(out, "    {line}");
        }
        for decision in &stage.facts.joins {
            let _ = writeln!(out, "  {}", decided(decision));
            if let Some(other) = &decision.runner_up {
                let _ = writeln!(out, "    runner-up: {}", option(other));
            }
            for other in &decision.refused {
                let _ = writeln!(out, "    not {}: {}", other.strategy, other.why);
            }
        }
        for input in &stage.leaves {
            let _ = writeln!(out, "  <- {}", leaf(input));
        }
        let _ = writeln!(out, "  -> {}", exchange(&stage.output));
        if let Some(why) = &stage.nondeterminism {
            let _ = writeln!(out, "  may differ when run again: {why}");
        }
        if let Some(form) = &stage.adaptive {
            let small: Vec<String> = form.small.iter().map(|stage| stage.0.to_string()).collect();
            let (small, bytes, without) = (small.join(", "), form.bytes, form.replaces.0);
            let _ = writeln!(
                out,
                "  instead, without stage {without}, if stage {small} makes at most {bytes} bytes: {}",
                form.label
            );
            for line in &form.explain {
                let _ = writeln!(out, "    | {line}");
            }
        }
    }
    let roots: Vec<String> = graph.roots.iter().map(|root| root.0.to_string()).collect();
    let _ = writeln!(out, "result: stage {}", roots.join(", "));
    if !graph.single_worker.is_empty() {
        let _ = writeln!(out, "on one worker:");
        for node in &graph.single_worker {
            let _ = writeln!(out, "  {} (stage {}): {}", node.node, node.stage.0, node.reason);
        }
    }
    for note in &graph.notes {
        let _ = writeln!(out, "note: {note}");
    }
    for warning in &graph.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    for finding in findings {
        let _ = writeln!(out, "fault ({}): {finding}", finding.rule());
    }
    out
}

fn edges(stage: &Stage) -> impl Iterator<Item = (u32, &Read)> {
    stage.leaves.iter().flat_map(|leaf| {
        let (stages, read) = match leaf {
            Leaf::Source { .. } => (&[][..], &Read::All),
            Leaf::Exchange { stages, read } => (stages.as_slice(), read),
        };
        stages.iter().map(move |from| (from.0, read))
    })
}

fn lines(stage: &Stage) -> Vec<String> {
    let mut lines = vec![format!("stage {}: {}", stage.id.0, stage.label)];
    lines.extend(stage.explain.iter().cloned());
    lines.extend(stage.facts.joins.iter().map(decided));
    lines.extend(stage.leaves.iter().filter(|leaf| matches!(leaf, Leaf::Source { .. })).map(leaf));
    lines
}

fn dot(graph: &StageGraph, findings: &[Finding]) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = String::from("digraph query {\n  rankdir=BT;\n  node [shape=box, fontname=\"monospace\"];\n");
    for stage in &graph.stages {
        let label: Vec<String> = lines(stage).iter().map(|line| escape(line)).collect();
        let _ = writeln!(out, "  s{} [label=\"{}\\l\"];", stage.id.0, label.join("\\l"));
        for (from, _) in edges(stage) {
            let label = graph.stages.get(from as usize).map(|from| exchange(&from.output)).unwrap_or_default();
            let _ = writeln!(out, "  s{from} -> s{} [label=\"{}\"];", stage.id.0, escape(&label));
        }
    }
    for (at, finding) in findings.iter().enumerate() {
        let _ = writeln!(out, "  fault{at} [shape=note, label=\"{}\"];", escape(&finding.to_string()));
    }
    out.push_str("}\n");
    out
}

fn mermaid(graph: &StageGraph, findings: &[Finding]) -> String {
    let escape =
        |text: &str| text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;");
    let mut out = String::from("flowchart BT\n");
    for stage in &graph.stages {
        let label: Vec<String> = lines(stage).iter().map(|line| escape(line)).collect();
        let _ = writeln!(out, "  s{}[\"{}\"]", stage.id.0, label.join("<br>"));
        for (from, _) in edges(stage) {
            let label = graph.stages.get(from as usize).map(|from| exchange(&from.output)).unwrap_or_default();
            let _ = writeln!(out, "  s{from} -->|\"{}\"| s{}", escape(&label), stage.id.0);
        }
    }
    for (at, finding) in findings.iter().enumerate() {
        let _ = writeln!(out, "  fault{at}>\"{}\"]", escape(&finding.to_string()));
    }
    out
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    stages: Vec<JsonStage<'a>>,
    roots: Vec<u32>,
    single_worker: &'a [floe_wire::graph::SingleWorker],
    warnings: &'a [String],
    notes: &'a [String],
    /// Faults of the graph: bugs of Floe, never the user's.
    findings: Vec<JsonFinding>,
}

#[derive(Serialize)]
struct JsonFinding {
    rule: String,
    message: String,
}

#[derive(Serialize)]
struct JsonStage<'a> {
    #[serde(flatten)]
    info: StageInfo,
    explain: &'a [String],
    joins: &'a [JoinDecision],
    inputs: Vec<String>,
    /// Why its tasks may give different rows when they run again.
    #[serde(rename = "mayDiffer", skip_serializing_if = "Option::is_none")]
    may_differ: Option<String>,
}

fn json(graph: &StageGraph, findings: &[Finding]) -> String {
    let stages = stage_infos(graph).into_iter().zip(&graph.stages).map(|(info, stage)| JsonStage {
        info,
        explain: &stage.explain,
        joins: &stage.facts.joins,
        inputs: stage.leaves.iter().map(leaf).collect(),
        may_differ: stage.nondeterminism.map(|why| why.to_string()),
    });
    let json = Json {
        stages: stages.collect(),
        roots: graph.roots.iter().map(|root| root.0).collect(),
        single_worker: &graph.single_worker,
        warnings: &graph.warnings,
        notes: &graph.notes,
        findings: findings.iter().map(|f| JsonFinding { rule: f.rule(), message: f.to_string() }).collect(),
    };
    // Plain data with string keys always has a JSON form.
    serde_json::to_string_pretty(&json).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use floe_wire::graph::{Exchange, StageId};

    fn graph() -> StageGraph {
        let stage = |id: u32, label: &str, leaves: Vec<Leaf>, output: Exchange| Stage {
            id: StageId(id),
            label: label.into(),
            fragment: bytes::Bytes::new(),
            explain: vec![format!("NODE \"{id}\"")],
            leaves,
            output,
            adaptive: None,
            facts: Default::default(),
            nondeterminism: None,
        };
        let scan = Leaf::Source { what: "parquet t".into(), per_task: vec![bytes::Bytes::new(); 2] };
        let read = Leaf::Exchange { stages: vec![StageId(0)], read: Read::Partition };
        StageGraph {
            stages: vec![
                stage(0, "scan t", vec![scan], Exchange::Hash { keys: vec!["k".into()], partitions: 4 }),
                stage(1, "group by", vec![read], Exchange::Result),
            ],
            roots: vec![StageId(1)],
            single_worker: Vec::new(),
            warnings: vec!["careful".into()],
            notes: Vec::new(),
            coalescing: None,
            max_broadcast_bytes: None,
            outputs: Vec::new(),
        }
    }

    #[test]
    fn every_format_shows_the_exchange() {
        let graph = graph();
        let text = render(&graph, Format::Text);
        assert!(
            text.contains("stage 0: scan t\n    NODE \"0\"\n  <- parquet t: 2 task(s)\n  -> hash(k) x 4\n"),
            "{text}"
        );
        assert!(
            text.contains("  <- stage 0: by partition\n  -> result\nresult: stage 1\nwarning: careful\n"),
            "{text}"
        );
        let dot = render(&graph, Format::Dot);
        assert!(dot.contains("s0 -> s1 [label=\"hash(k) x 4\"]") && dot.contains("NODE \\\"0\\\""), "{dot}");
        let mermaid = render(&graph, Format::Mermaid);
        assert!(mermaid.contains("s0 -->|\"hash(k) x 4\"| s1") && mermaid.contains("NODE &quot;0&quot;"), "{mermaid}");
        let json: serde_json::Value = serde_json::from_str(&render(&graph, Format::Json)).unwrap();
        assert_eq!(json["stages"][1]["deps"][0], 0);
        assert_eq!(json["stages"][0]["exchange"], "hash(k) x 4");
    }

    #[test]
    fn every_format_shows_how_joins_are_done() {
        use floe_wire::facts::{JoinCost, RefusedOption};
        let mut graph = graph();
        let cost = JoinCost {
            handled_bytes: Some(7_500_000),
            likely_bytes: Some(700_000),
            network_bytes: Some(2_500_000),
            held_bytes: None,
            rounds: 1,
        };
        let option = |strategy: &str| JoinOption { strategy: strategy.into(), cost };
        graph.stages[1].facts.joins.push(JoinDecision {
            join: "inner join on k".into(),
            chosen: option("broadcast join of the right side"),
            reason: "it is small".into(),
            runner_up: Some(option("hash join")),
            refused: vec![RefusedOption { strategy: "co-located join".into(), why: "no order".into() }],
        });
        let cost = "(handles 7.5 MB, likely 700.0 kB; network 2.5 MB, held by a task unknown, 1 round)";
        let chosen = format!("inner join on k: broadcast join of the right side {cost}, as it is small");
        let text = render_with(&graph, &[], Format::Text);
        let others = format!("    runner-up: hash join {cost}\n    not co-located join: no order\n");
        assert!(text.contains(&format!("  {chosen}\n{others}")), "{text}");
        assert!(render_with(&graph, &[], Format::Dot).contains(&chosen));
        assert!(render_with(&graph, &[], Format::Mermaid).contains(&chosen));
        let json: serde_json::Value = serde_json::from_str(&render_with(&graph, &[], Format::Json)).unwrap();
        let join = &json["stages"][1]["joins"][0];
        assert_eq!(join["chosen"]["cost"]["networkBytes"], 2_500_000);
        assert_eq!(join["chosen"]["cost"]["likelyBytes"], 700_000);
        assert_eq!(join["refused"][0]["why"], "no order");
        assert_eq!(join["runnerUp"]["strategy"], "hash join");
    }

    #[test]
    fn every_format_shows_what_is_wrong() {
        let findings = [Finding::Unread { stage: StageId(0) }];
        let shown = |format| render_with(&graph(), &findings, format);
        assert!(shown(Format::Text).ends_with("fault (unread): nobody reads stage 0\n"));
        assert!(shown(Format::Dot).contains("fault0 [shape=note, label=\"nobody reads stage 0\"]"));
        assert!(shown(Format::Mermaid).contains("fault0>\"nobody reads stage 0\"]"));
        let json: serde_json::Value = serde_json::from_str(&shown(Format::Json)).unwrap();
        assert_eq!(json["findings"][0]["rule"], "unread");
        assert_eq!(render_with(&graph(), &[], Format::Text).matches("fault").count(), 0);
    }
}
