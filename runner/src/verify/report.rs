//! The report of `verify`: a table by outcome, how many plans ran in more than one stage, which nodes ran on one worker
//! and why, the worst offenders; as text and as JSON. Only counting and printing: judging is `judge`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::class::Class;
use super::expect::Floor;
use super::judge::Checked;

/// Up to this many plans, the report also lists those with nothing to compare.
const LIST_ALL_UP_TO_PLANS: usize = 20;

/// Everything that was checked, summed up.
#[derive(Debug, Serialize)]
pub struct Report {
    pub plans: usize,
    pub outcomes: BTreeMap<&'static str, usize>,
    pub ran: usize,
    /// Of these, plans that ran in more than one stage.
    pub staged: usize,
    /// Of the staged ones, those without a node that ran on one worker for want of a distributed form.
    pub distributed: usize,
    /// The least shares that pass, of the plans that ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
    /// Reasons of expected faults -> plans.
    pub expected: BTreeMap<String, usize>,
    /// (node and reason) -> plans.
    pub single_worker: BTreeMap<String, usize>,
    /// Why plans fell back to one node -> plans.
    pub fell_back: BTreeMap<String, usize>,
    pub seconds: f64,
    pub plans_per_second: f64,
    pub polars_ms: f64,
    pub floe_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    pub checked: Vec<Checked>,
}

impl Report {
    pub fn new(mut checked: Vec<Checked>, took: Duration, seed: Option<u64>) -> Report {
        checked.sort_by(|a, b| b.is_fault().cmp(&a.is_fault()).then_with(|| a.plan.cmp(&b.plan)));
        let mut outcomes: BTreeMap<&'static str, usize> = Class::ALL.iter().map(|c| (c.as_str(), 0)).collect();
        let mut single_worker = BTreeMap::new();
        let mut fell_back = BTreeMap::new();
        let mut expected = BTreeMap::new();
        let (mut ran, mut staged, mut distributed) = (0, 0, 0);
        for one in &checked {
            *outcomes.entry(one.outcome.as_str()).or_default() += 1;
            ran += usize::from(one.stages > 0);
            staged += usize::from(one.stages > 1);
            distributed += usize::from(one.stages > 1 && one.single_worker.is_empty());
            let mut seen: Vec<String> =
                one.single_worker.iter().map(|s| format!("{}: {}", kind(&s.node), s.reason)).collect();
            seen.sort();
            seen.dedup();
            seen.into_iter().for_each(|key| *single_worker.entry(key).or_default() += 1);
            if let Some(reason) = &one.fell_back {
                *fell_back.entry(reason.clone()).or_default() += 1;
            }
            if let Some(what) = &one.expected {
                *expected.entry(format!("{}: {what}", one.outcome.as_str())).or_default() += 1;
            }
        }
        let seconds = took.as_secs_f64();
        Report {
            plans: checked.len(),
            outcomes,
            ran,
            staged,
            distributed,
            floor: None,
            expected,
            single_worker,
            fell_back,
            seconds,
            plans_per_second: checked.len() as f64 / seconds.max(1e-9),
            polars_ms: checked.iter().map(|c| c.polars_ms).sum(),
            floe_ms: checked.iter().map(|c| c.floe_ms).sum(),
            seed,
            checked,
        }
    }

    /// Compares the shares with a floor, too.
    pub fn with_floor(self, floor: Option<Floor>) -> Report {
        Report { floor, ..self }
    }

    pub fn faults(&self) -> usize {
        self.checked.iter().filter(|c| c.is_fault()).count()
    }

    /// Whether there is nothing to look into.
    pub fn passes(&self) -> bool {
        let (staged, distributed) = self.shares();
        let reached =
            |floor: Floor| self.equal() >= floor.equal && staged >= floor.staged && distributed >= floor.distributed;
        self.faults() == 0 && self.floor.is_none_or(reached)
    }

    /// Share of all plans.
    fn equal(&self) -> f64 {
        let equal = self.outcomes.get(Class::Equal.as_str()).copied().unwrap_or(0);
        equal as f64 / self.plans.max(1) as f64
    }

    /// Shares of the plans that ran: in more than one stage, and distributed as a whole. Zero if none ran.
    fn shares(&self) -> (f64, f64) {
        let share = |count: usize| count as f64 / self.ran.max(1) as f64;
        (share(self.staged), share(self.distributed))
    }

    /// Prints how many plans were equal and how many were distributed, beside the floors.
    fn write_shares(&self, out: &mut String) {
        let (staged, distributed) = self.shares();
        let mut line = |count: usize, what: &str, share: f64, least: Option<f64>| {
            let _ = write!(out, "{count} of the {what} ({:.1}%", share * 100.0);
            let _ = match least {
                Some(least) if share < least => writeln!(out, ", BELOW the floor of {:.1}%)", least * 100.0),
                Some(least) => writeln!(out, ", floor {:.1}%)", least * 100.0),
                None => writeln!(out, ")"),
            };
        };
        let equal = self.outcomes.get(Class::Equal.as_str()).copied().unwrap_or(0);
        line(equal, &format!("{} plans were equal", self.plans), self.equal(), self.floor.map(|f| f.equal));
        let ran = format!("{} plans that ran", self.ran);
        line(self.staged, &format!("{ran} ran in more than one stage"), staged, self.floor.map(|f| f.staged));
        let what = format!("{ran} ran so with no node on one worker");
        line(self.distributed, &what, distributed, self.floor.map(|f| f.distributed));
    }

    /// The report as text. `most` faults are shown one by one.
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
        out.push('\n');
        self.write_shares(&mut out);
        for (heading, counts) in [
            ("On one worker (plans, node: reason)", &self.single_worker),
            ("Fell back to one node (plans, reason)", &self.fell_back),
            ("Expected (plans, outcome: what is known)", &self.expected),
        ] {
            if counts.is_empty() {
                continue;
            }
            let _ = writeln!(out, "\n{heading}");
            for (count, key) in ranked(counts).into_iter().take(30) {
                let _ = writeln!(out, "{count:>7}  {}", key.replace('\n', " "));
            }
        }
        let (faults, others): (Vec<&Checked>, Vec<&Checked>) =
            self.checked.iter().filter(|c| c.outcome != Class::Equal).partition(|c| c.is_fault());
        // Users who check a few queries want to know why each was not compared.
        let others = if self.plans <= LIST_ALL_UP_TO_PLANS { others } else { Vec::new() };
        for (heading, those) in [("No faults, but nothing to compare", others), ("Faults", faults)] {
            if those.is_empty() {
                continue;
            }
            let _ = writeln!(out, "\n{heading}");
            for one in those.iter().take(most) {
                let version = one.version.map_or_else(String::new, |version| format!("  (Polars {version})"));
                let _ = writeln!(out, "  {}  {}{version}", one.outcome.as_str(), one.plan);
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
            self.polars_ms / 1e3,
            self.floe_ms / 1e3
        );
        if let Some(seed) = self.seed {
            let _ = writeln!(out, "seed {seed}");
        }
        out
    }
}

/// The kind of a node: its name without its arguments.
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
            version: None,
            expected: None,
            stages,
            tasks: stages,
            single_worker: vec![floe_wire::graph::SingleWorker {
                stage: floe_wire::graph::StageId(0),
                node: "SORT BY [a]".into(),
                reason: "why".into(),
            }],
            fell_back: None,
            polars_ms: 1.0,
            floe_ms: 2.0,
            rows: Some(1),
        }
    }

    #[test]
    fn counts_and_names_faults() {
        let checked = vec![one("a", Class::Equal, 3), one("b", Class::Differs, 1), one("c", Class::NotPromised, 2)];
        let report = Report::new(checked, Duration::from_secs(1), Some(5));
        assert_eq!((report.faults(), report.staged, report.distributed, report.ran), (1, 2, 0, 3));
        assert_eq!(report.single_worker.get("SORT BY: why"), Some(&3));
        let text = report.text(10);
        assert!(text.contains("differs  b") && text.contains("seed 5") && text.contains("2 of the 3"), "{text}");
        assert!(text.contains("not promised  c") && !text.contains("equal  a"), "{text}");
        assert!(serde_json::to_string(&report).is_ok());
    }

    #[test]
    fn a_share_below_its_floor_fails_and_is_reported() {
        let report = |floor| {
            let checked = vec![one("a", Class::Equal, 3), one("b", Class::Equal, 1)];
            Report::new(checked, Duration::from_secs(1), None).with_floor(floor)
        };
        let floor = |staged, distributed| Some(Floor { equal: 1.0, staged, distributed });
        for (floor, passes, told) in [
            (None, true, "(50.0%)"),
            (floor(0.5, 0.0), true, "(50.0%, floor 50.0%)"),
            (floor(0.51, 0.0), false, "BELOW the floor of 51.0%"),
            (floor(0.5, 0.1), false, "(0.0%, BELOW the floor of 10.0%)"),
        ] {
            let report = report(floor);
            assert_eq!(report.passes(), passes, "{floor:?}");
            assert!(report.text(10).contains(told), "{}", report.text(10));
        }
        let unread = vec![one("a", Class::Equal, 3), one("b", Class::CouldNotBeRead, 0)];
        let unread = Report::new(unread, Duration::from_secs(1), None).with_floor(floor(0.5, 0.0));
        assert!(!unread.passes());
        assert!(unread.text(10).contains("1 of the 2 plans were equal (50.0%, BELOW the floor of 100.0%)"));
        let none = Report::new(Vec::new(), Duration::from_secs(1), None).with_floor(floor(0.01, 0.0));
        assert!(!none.passes());
    }

    #[test]
    fn expected_faults_pass_and_are_reported() {
        let expected = Checked { expected: Some("Titlecase".into()), ..one("a", Class::VersionDiffers, 2) };
        let report = Report::new(vec![expected, one("b", Class::FellBack, 2)], Duration::from_secs(1), None);
        assert_eq!(report.faults(), 1);
        let text = report.text(10);
        assert!(text.contains("version differs: Titlecase") && text.contains("fell back  b"), "{text}");
    }
}
