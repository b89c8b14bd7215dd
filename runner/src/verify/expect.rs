//! What a run of `verify` may find without failing: known fall-backs and known differences between Polars versions,
//! each with its reason, and the least shares of plans that must be distributed. Read from a file that is committed
//! beside the plans. A result that differs from the engine's own Polars is never expected.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::class::Class;
use super::judge::Checked;

/// The file as a whole.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Expected {
    /// By the name of a set of plans and of the way they are run.
    pub floors: BTreeMap<String, Floor>,
    pub fall_backs: Vec<Known>,
    pub versions: Vec<Known>,
}

/// The least shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Floor {
    /// Of all plans, those with equal results: plans that cannot be read or compared must not become many unnoticed.
    pub equal: f64,
    /// Of the plans that the other side ran, those in more than one stage.
    pub staged: f64,
    /// Of those, the ones without a node that ran on one worker for want of a distributed form.
    pub distributed: f64,
}

/// A known fault: covers a plan that meets all of these conditions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Known {
    /// What differs, or why the plan falls back.
    pub what: String,
    /// Versions of Polars whose plans it covers; empty: all.
    pub versions: Vec<String>,
    /// Names of plans, one of which must match.
    pub plans: Vec<String>,
    /// Texts that the plan's text must contain, all of them.
    pub plan_has: Vec<String>,
    /// Texts that the difference in words, or the reason of the fall-back, must contain, all of them.
    pub detail_has: Vec<String>,
}

impl Expected {
    pub fn read(path: &Path) -> anyhow::Result<Expected> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Expected::parse(&text).with_context(|| path.display().to_string())
    }

    /// The floor of this name.
    pub fn floor(&self, name: &str) -> anyhow::Result<Floor> {
        let known = || self.floors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.floors.get(name).copied().with_context(|| format!("no floor `{name}` (there are: {})", known()))
    }

    fn parse(text: &str) -> anyhow::Result<Expected> {
        let expected: Expected = serde_yaml_ng::from_str(text)?;
        for known in expected.fall_backs.iter().chain(&expected.versions) {
            anyhow::ensure!(!known.what.trim().is_empty(), "an entry does not say what it is: {known:?}");
            let narrow = [&known.plans, &known.plan_has, &known.detail_has];
            anyhow::ensure!(
                narrow.iter().any(|list| !list.is_empty()),
                "`{}` covers every plan: name plans, or what the plan or the detail has",
                known.what
            );
        }
        Ok(expected)
    }

    /// Notes on a judgement that it was expected, if so. `plan` is the plan's text.
    pub fn excuse(&self, checked: &mut Checked, plan: &str) {
        let table = match checked.outcome {
            Class::FellBack => &self.fall_backs,
            Class::VersionDiffers => &self.versions,
            _ => return,
        };
        checked.expected = table.iter().find(|known| known.covers(checked, plan)).map(|known| known.what.clone());
    }
}

impl Known {
    fn covers(&self, checked: &Checked, plan: &str) -> bool {
        let detail = checked.detail.as_deref().unwrap_or_default();
        (self.versions.is_empty() || checked.version.is_some_and(|v| self.versions.iter().any(|known| known == v)))
            && (self.plans.is_empty() || self.plans.iter().any(|name| checked.plan.trim_end_matches(".bin") == name))
            && self.plan_has.iter().all(|part| plan.contains(part))
            && self.detail_has.iter().all(|part| detail.contains(part))
    }
}

#[cfg(test)]
#[path = "expect_tests.rs"]
mod tests;
