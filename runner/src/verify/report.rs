//! What `verify` tells: a table by outcome, how many plans ran in more than one stage, which nodes ran on one worker
//! and why, the worst offenders; the same as JSON. Only counting and printing: judging is `judge`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::judge::{Checked, Class};

/// Of so many plans those are told one by one, too, that failed on both sides.
const FEW: usize = 20;

/// Everything that was checked, summed up.
#[derive(Debug, Serialize)]
pub struct Report {
    pub plans: usize,
    pub outcomes: BTreeMap<&'static str, usize>,
    /// Of the plans that ran there: in more than one stage.
    pub distributed: usize,
    pub ran_there: usize,
    /// (node and reason) -> plans.
    pub single_worker: BTreeMap<String, usize>,
    /// Why whole plans fell back to one worker -> plans.
    pub fell_back: BTreeMap<String, usize>,
    pub seconds: f64,
    pub plans_per_second: f64,
    pub here_ms: f64,
    pub there_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    pub checked: Vec<Checked>,
}

impl Report {
    pub fn new(mut checked: Vec<Checked>, took: Duration, seed: Option<u64>) -> Report {
        checked.sort_by(|a, b| b.outcome.is_fault().cmp(&a.outcome.is_fault()).then_with(|| a.plan.cmp(&b.plan)));
        let mut outcomes: BTreeMap<&'static str, usize> = Class::ALL.iter().map(|c| (c.as_str(), 0)).collect();
        let mut single_worker = BTreeMap::new();
        let mut fell_back = BTreeMap::new();
        let (mut distributed, mut ran_there) = (0, 0);
        for one in &checked {
            *outcomes.entry(one.outcome.as_str()).or_default() += 1;
            ran_there += usize::from(one.stages > 0);
            distributed += usize::from(one.stages > 1);
            let mut seen: Vec<String> =
                one.single_worker.iter().map(|s| format!("{}: {}", kind(&s.node), s.reason)).collect();
            seen.sort();
            seen.dedup();
            seen.into_iter().for_each(|key| *single_worker.entry(key).or_default() += 1);
            if let Some(reason) = &one.fell_back {
                *fell_back.entry(reason.clone()).or_default() += 1;
            }
        }
        let seconds = took.as_secs_f64();
        Report {
            plans: checked.len(),
            outcomes,
            distributed,
            ran_there,
            single_worker,
            fell_back,
            seconds,
            plans_per_second: checked.len() as f64 / seconds.max(1e-9),
            here_ms: checked.iter().map(|c| c.here_ms).sum(),
            there_ms: checked.iter().map(|c| c.there_ms).sum(),
            seed,
            checked,
        }
    }

    pub fn faults(&self) -> usize {
        self.checked.iter().filter(|c| c.outcome.is_fault()).count()
    }

    /// For people. `most` faults are shown one by one.
    pub fn text(&self, most: usize) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{:<20} {:>7}", "outcome", "plans");
        for class in Class::ALL {
            let count = self.outcomes.get(class.as_str()).copied().unwrap_or(0);
            if count > 0 || matches!(class, Class::Equal | Class::Differs) {
                let _ = writeln!(out, "{:<20} {count:>7}", class.as_str());
            }
        }
        let _ = writeln!(out, "{:<20} {:>7}", "all", self.plans);
        let _ = writeln!(
            out,
            "\n{} of the {} plans that ran there ran in more than one stage",
            self.distributed, self.ran_there
        );
        if !self.single_worker.is_empty() {
            let _ = writeln!(out, "\nOn one worker (plans, node: reason)");
            for (count, key) in ranked(&self.single_worker).into_iter().take(30) {
                let _ = writeln!(out, "{count:>7}  {key}");
            }
        }
        if !self.fell_back.is_empty() {
            let _ = writeln!(out, "\nFell back to one node (plans, reason)");
            for (count, key) in ranked(&self.fell_back).into_iter().take(30) {
                let _ = writeln!(out, "{count:>7}  {key}");
            }
        }
        let (faults, others): (Vec<&Checked>, Vec<&Checked>) =
            self.checked.iter().filter(|c| c.outcome != Class::Equal).partition(|c| c.outcome.is_fault());
        // Who checks a few queries wants to know of each why it was not compared.
        let others = if self.plans <= FEW { others } else { Vec::new() };
        for (heading, those) in [("No faults, but nothing to compare", others), ("Faults", faults)] {
            if those.is_empty() {
                continue;
            }
            let _ = writeln!(out, "\n{heading}");
            for one in those.iter().take(most) {
                let _ = writeln!(out, "  {}  {}", one.outcome.as_str(), one.plan);
                for text in [&one.detail, &one.note].into_iter().flatten() {
                    let _ = writeln!(out, "      {}", text.replace('\n', " "));
                }
            }
            if those.len() > most {
                let _ = writeln!(out, "  … and {} more (--json lists all)", those.len() - most);
            }
        }
        let _ = writeln!(
            out,
            "\n{:.1} s, {:.0} plans a second; single node {:.1} s, distributed {:.1} s in sum",
            self.seconds,
            self.plans_per_second,
            self.here_ms / 1e3,
            self.there_ms / 1e3
        );
        if let Some(seed) = self.seed {
            let _ = writeln!(out, "seed {seed}");
        }
        out
    }
}

/// The kind of a node: what it is without its arguments.
fn kind(node: &str) -> &str {
    node.split(['[', '(', '{', ':']).next().unwrap_or(node).trim()
}

fn ranked(counts: &BTreeMap<String, usize>) -> Vec<(usize, &str)> {
    let mut list: Vec<(usize, &str)> = counts.iter().map(|(k, v)| (*v, k.as_str())).collect();
    list.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(plan: &str, outcome: Class, stages: usize) -> Checked {
        Checked {
            plan: plan.into(),
            outcome,
            detail: Some("first difference".into()),
            note: None,
            stages,
            tasks: stages,
            single_worker: vec![floe_wire::graph::SingleWorker {
                stage: floe_wire::graph::StageId(0),
                node: "SORT BY [a]".into(),
                reason: "why".into(),
            }],
            fell_back: None,
            here_ms: 1.0,
            there_ms: 2.0,
            rows: Some(1),
        }
    }

    #[test]
    fn counts_and_names_faults() {
        let checked = vec![one("a", Class::Equal, 3), one("b", Class::Differs, 1), one("c", Class::NotPromised, 2)];
        let report = Report::new(checked, Duration::from_secs(1), Some(5));
        assert_eq!((report.faults(), report.distributed, report.ran_there), (1, 2, 3));
        assert_eq!(report.single_worker.get("SORT BY: why"), Some(&3));
        let text = report.text(10);
        assert!(text.contains("differs  b") && text.contains("seed 5") && text.contains("2 of the 3"), "{text}");
        assert!(text.contains("not promised  c") && !text.contains("equal  a"), "{text}");
        assert!(serde_json::to_string(&report).is_ok());
    }
}
