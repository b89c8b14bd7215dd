//! Draws the stage graph as SVG from the JSON of the runner or a coordinator: a row of boxes for each distance from the
//! scans, and arrows along the exchanges. Pure; a browser is enough to look at it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

/// Width of a character of the monospaced font, in units of the drawing.
const CHAR_WIDTH: f64 = 6.65;
const LINE_HEIGHT: f64 = 15.0;
const PAD: f64 = 9.0;
const GAP_X: f64 = 28.0;
const GAP_Y: f64 = 46.0;
/// Longer lines are cut; the box's tooltip has them in full.
const MAX_CHARS: usize = 56;
const MAX_LINES: usize = 14;

#[derive(Deserialize)]
struct Graph {
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Stage {
    id: u32,
    label: String,
    tasks: Option<u32>,
    deps: Vec<u32>,
    exchange: String,
    explain: Vec<String>,
    inputs: Vec<String>,
}

struct Boxed<'a> {
    stage: &'a Stage,
    lines: Vec<String>,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// Draws the JSON form of a graph.
pub fn draw(json: &str) -> Result<String, serde_json::Error> {
    let graph: Graph = serde_json::from_str(json)?;
    Ok(render(&graph.stages))
}

fn render(stages: &[Stage]) -> String {
    let levels = levels(stages);
    let mut rows: BTreeMap<usize, Vec<Boxed<'_>>> = BTreeMap::new();
    for stage in stages {
        let lines = lines(stage);
        let chars = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        let (width, height) = (chars as f64 * CHAR_WIDTH + 2.0 * PAD, lines.len() as f64 * LINE_HEIGHT + 2.0 * PAD);
        let level = levels.get(&stage.id).copied().unwrap_or(0);
        rows.entry(level).or_default().push(Boxed { stage, lines, x: 0.0, y: 0.0, width, height });
    }
    let width_of = |row: &Vec<Boxed<'_>>| row.iter().map(|b| b.width + GAP_X).sum::<f64>() - GAP_X;
    let total_width = rows.values().map(width_of).fold(0.0, f64::max) + 2.0 * PAD;
    let mut y = PAD;
    // Put the scans at the bottom, as in the other formats.
    for row in rows.values_mut().rev() {
        let height = row.iter().map(|b| b.height).fold(0.0, f64::max);
        let mut x = (total_width - width_of(row)) / 2.0;
        for one in row.iter_mut() {
            (one.x, one.y) = (x, y + (height - one.height));
            x += one.width + GAP_X;
        }
        y += height + GAP_Y;
    }
    let total_height = (y - GAP_Y + PAD).max(2.0 * PAD);
    let all: BTreeMap<u32, &Boxed<'_>> = rows.values().flatten().map(|one| (one.stage.id, one)).collect();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {total_width:.0} {total_height:.0}\" width=\"{total_width:.0}\" \
         height=\"{total_height:.0}\" font-family=\"ui-monospace, monospace\" font-size=\"11\">\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path d=\"M0 0L8 4L0 8z\" fill=\"#5b6b7b\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for one in all.values() {
        for from in one.stage.deps.iter().filter_map(|dep| all.get(dep)) {
            arrow(&mut out, from, one);
        }
    }
    all.values().for_each(|one| boxed(&mut out, one));
    out.push_str("</svg>");
    out
}

/// The distance of each stage from the scans. Stages come after those they read.
fn levels(stages: &[Stage]) -> BTreeMap<u32, usize> {
    let mut levels: BTreeMap<u32, usize> = BTreeMap::new();
    for stage in stages {
        let level = stage.deps.iter().filter_map(|dep| levels.get(dep)).max().map_or(0, |level| level + 1);
        levels.insert(stage.id, level);
    }
    levels
}

fn lines(stage: &Stage) -> Vec<String> {
    let tasks = stage.tasks.map(|n| format!(" ({n} tasks)")).unwrap_or_default();
    let mut lines = vec![format!("stage {}: {}{tasks}", stage.id, stage.label)];
    lines.extend(stage.explain.iter().cloned());
    // Inputs from other stages are drawn as arrows.
    lines.extend(stage.inputs.iter().filter(|input| !input.starts_with("stage ")).map(|input| format!("<- {input}")));
    if lines.len() > MAX_LINES {
        lines.truncate(MAX_LINES - 1);
        lines.push("…".to_owned());
    }
    lines.iter().map(|line| cut(line)).collect()
}

fn cut(line: &str) -> String {
    if line.chars().count() <= MAX_CHARS {
        return line.to_owned();
    }
    line.chars().take(MAX_CHARS - 1).chain(['…']).collect()
}

fn boxed(out: &mut String, one: &Boxed<'_>) {
    let (x, y) = (one.x, one.y);
    let whole: Vec<&str> = std::iter::once(one.stage.label.as_str())
        .chain(one.stage.explain.iter().chain(&one.stage.inputs).map(String::as_str))
        .collect();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<g><title>{}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"4\" fill=\"#f3f7fa\" stroke=\"#5b6b7b\"/>",
        escape(&whole.join("\n")),
        one.width,
        one.height
    );
    for (number, line) in one.lines.iter().enumerate() {
        let weight = if number == 0 { " font-weight=\"bold\"" } else { "" };
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" xml:space=\"preserve\" fill=\"#1d2733\"{weight}>{}</text>",
            x + PAD,
            y + PAD + LINE_HEIGHT * (number as f64 + 0.75),
            escape(line)
        );
    }
    out.push_str("</g>\n");
}

fn arrow(out: &mut String, from: &Boxed<'_>, to: &Boxed<'_>) {
    let (x1, y1) = (from.x + from.width / 2.0, from.y);
    let (x2, y2) = (to.x + to.width / 2.0, to.y + to.height + 2.0);
    let bend = (y1 - y2) / 2.0;
    let _ = writeln!(
        out,
        "<path d=\"M{x1:.1} {y1:.1}C{x1:.1} {:.1} {x2:.1} {:.1} {x2:.1} {y2:.1}\" fill=\"none\" stroke=\"#5b6b7b\" marker-end=\"url(#arrow)\"/>",
        y1 - bend,
        y2 + bend
    );
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#5b6b7b\" stroke=\"#ffffff\" stroke-width=\"4\" paint-order=\"stroke\">{}</text>",
        (x1 + x2) / 2.0,
        (y1 + y2) / 2.0 + 4.0,
        escape(&cut(&from.stage.exchange))
    );
}

fn escape(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_control() || *c == '\n');
    kept.fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAPH: &str = r#"{"stages": [
        {"id": 0, "label": "scan t", "tasks": 4, "deps": [], "exchange": "hash(k) x 4", "explain": ["FILTER a < \"b\" & c"], "inputs": ["parquet t: 4 task(s)"]},
        {"id": 1, "label": "scan u", "tasks": 2, "deps": [], "exchange": "whole", "explain": [], "inputs": []},
        {"id": 2, "label": "join", "tasks": null, "deps": [0, 1], "exchange": "result", "explain": ["a very long line of a plan that goes on and on and on and on and on"], "inputs": ["stage 0: by partition"]}],
        "roots": [2], "singleWorker": [], "warnings": [], "findings": []}"#;

    fn places(svg: &str) -> Vec<(f64, f64)> {
        let number = |line: &str, name: &str| -> f64 {
            let rest = line.split_once(&format!(" {name}=\"")).unwrap().1;
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        let boxes = svg.lines().filter_map(|line| line.split_once("<rect x=").map(|_| line));
        boxes
            .map(|line| {
                (number(line.rsplit_once("<rect").unwrap().1, "x"), number(line.rsplit_once("<rect").unwrap().1, "y"))
            })
            .collect()
    }

    #[test]
    fn stages_are_boxes_above_those_they_read() {
        let svg = draw(GRAPH).unwrap();
        let at = places(&svg);
        assert_eq!(at.len(), 3);
        assert!(at[0].1 > at[2].1 && at[1].1 > at[2].1, "{at:?}");
        assert!(at[0].0 < at[1].0, "{at:?}");
        assert_eq!(svg.matches("marker-end").count(), 2);
        assert!(svg.contains(">hash(k) x 4</text>") && svg.contains("stage 0: scan t (4 tasks)"), "{svg}");
        assert!(svg.contains("FILTER a &lt; &quot;b&quot; &amp; c") && !svg.contains("&lt;- stage 0"), "{svg}");
        assert!(svg.contains("…</text>"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"));
    }

    #[test]
    fn an_empty_graph_and_a_wrong_one_are_no_panic() {
        assert!(draw(r#"{"stages": []}"#).unwrap().ends_with("</svg>"));
        assert!(draw("[]").is_err());
    }
}
