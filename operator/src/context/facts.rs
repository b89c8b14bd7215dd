//! What is observed of a context, as plain values. No effects, no client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use floe_api::report::EngineReport;
use floe_api::{ComputeContext, ComputeContextStatus};
use jiff::Timestamp;

use super::names;
use crate::query::facts::{PodFacts, Trouble};
use crate::query::names::Place;

/// One context and everything known about it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub context: Arc<ComputeContext>,
    /// The latest status, which may be newer than the object's.
    pub status: ComputeContextStatus,
    /// Pods of all revisions, including those created a moment ago.
    pub pods: Vec<PodFacts>,
    /// Names of pods that existed and are gone.
    pub gone: BTreeSet<String>,
    /// What the coordinators reported, by revision.
    pub engines: BTreeMap<u32, Heard>,
    /// What its pods would be made of now; an error if they cannot be built.
    pub model: Result<Model, Trouble>,
    /// What the cluster refused last.
    pub trouble: Option<Trouble>,
    /// Create no pod before this time.
    pub hold_until: Option<Timestamp>,
}

/// Identifies what the pods of one spec are made of, to tell them from the pods of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub digest: String,
    pub image: String,
}

/// What a coordinator reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    pub report: Option<Arc<EngineReport>>,
    /// Which pod has not answered for a while, and why.
    pub silence: Option<String>,
}

impl Seen {
    pub fn name(&self) -> &str {
        self.context.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn coordinator(&self, revision: u32) -> Option<&PodFacts> {
        self.pods.iter().find(|pod| pod.place == Place::Coordinator { attempt: revision })
    }

    pub fn workers(&self, revision: u32) -> impl Iterator<Item = &PodFacts> {
        self.pods.iter().filter(move |pod| matches!(pod.place, Place::Worker { attempt, .. } if attempt == revision))
    }

    pub fn report(&self, revision: u32) -> Option<&EngineReport> {
        self.engines.get(&revision).and_then(|heard| heard.report.as_deref())
    }

    /// Whether the coordinator of a revision takes no more queries: it has ended, is being deleted, or is gone.
    pub fn is_lost(&self, revision: u32, now: Timestamp) -> bool {
        match self.coordinator(revision) {
            Some(pod) => pod.is_over(now) || pod.deleting_at.is_some(),
            None => {
                let name = names::pod(self.name(), Place::Coordinator { attempt: revision });
                self.gone.contains(&name) || self.status.serving == Some(revision)
            }
        }
    }
}
