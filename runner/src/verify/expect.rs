//! What a run of `verify` may find without failing: fall-backs and differences between Polars versions that are known,
//! each with its reason, and the least shares of plans that must have been distributed. Read from a file that is
//! committed beside the plans. Results that differ from those of the engine's own Polars are never expected.

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
    /// By the name of a set of plans, and of how they were run.
    pub floors: BTreeMap<String, Floor>,
    pub fall_backs: Vec<Known>,
    pub versions: Vec<Known>,
}

/// The least shares of the plans that ran there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Floor {
    /// Plans that ran in more than one stage.
    pub staged: f64,
    /// Of those, the ones without a node that ran on one worker for want of a distributed form.
    pub distributed: f64,
}

/// Something known: it covers a plan if all that is said here holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Known {
    /// What differs, or why the plan falls back.
    pub what: String,
    /// Versions of Polars whose plans it is about; all without any.
    pub versions: Vec<String>,
    /// Names of plans, one of which it must be.
    pub plans: Vec<String>,
    /// Parts of the plan's text, all of which must be there.
    pub plan_has: Vec<String>,
    /// Parts of the difference in words or of the reason of the fall-back, all of which must be there.
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

    /// Notes on a judgement that it was expected, if it was. `plan` is the plan's text.
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
