//! The decision: from everything observed of a query to what is to be done, what its status says, and when to look
//! again. Pure and total; no client, no clock. `live` decides while a query is at work, `finish` when it has ended, is
//! deleted or held.

mod crew;
mod draft;
mod finish;
mod live;
mod progress;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod trouble;
#[cfg(test)]
pub mod world;

use std::time::Duration;

use floe_api::{DistributedQueryStatus, Phase, Reason};
use jiff::Timestamp;

use super::facts::Observed;
use super::names::Place;

use draft::Draft;

pub const ACCEPTED: &str = "Accepted";
pub const COORDINATOR_READY: &str = "CoordinatorReady";
pub const WORKERS_READY: &str = "WorkersReady";
pub const PLANNED: &str = "Planned";
pub const SUCCEEDED: &str = "Succeeded";
pub const CLEANED_UP: &str = "CleanedUp";

/// What of the operator's options decides something.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a result without a sink stays when the query names no TTL.
    pub result_ttl: Duration,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub status: DistributedQueryStatus,
    /// Look again after this time, whatever happens. `None`: only on a change.
    pub requeue: Option<Duration>,
    /// Nothing can be decided before what a start needs is read.
    pub wants_inputs: bool,
    /// What people should hear of beside the status.
    pub notices: Vec<Notice>,
}

/// One effect. Each can be repeated, and none names an object that is not the query's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    AddFinalizer,
    EnsureJob {
        attempt: u32,
    },
    EnsurePolicy,
    CreatePod(Place),
    /// Cancels the query at its coordinator, or ends the coordinator's lingering.
    Dismiss {
        ip: String,
    },
    DeletePod {
        name: String,
        uid: String,
    },
    /// The NetworkPolicy and the Secrets of all attempts.
    DeleteShared {
        attempts: u32,
    },
    RemoveFinalizer,
    DeleteQuery,
}

impl Action {
    /// Actions of a wave do not need each other; a wave needs those before it.
    pub fn wave(&self) -> u8 {
        match self {
            Action::AddFinalizer | Action::EnsureJob { .. } | Action::EnsurePolicy | Action::Dismiss { .. } => 0,
            Action::CreatePod(_) | Action::DeletePod { .. } => 1,
            Action::DeleteShared { .. } => 2,
            Action::RemoveFinalizer | Action::DeleteQuery => 3,
        }
    }
}

/// An Event in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub warning: bool,
    pub reason: Reason,
    pub note: String,
    /// The pod that it is about.
    pub pod: Option<String>,
}

pub fn plan(observed: &Observed, settings: &Settings, now: Timestamp) -> Plan {
    let mut draft = Draft::new(observed, settings, now);
    if observed.query.spec.managed_by.is_some() {
        // Another controller's: not even its status is ours.
        return draft.idle();
    }
    if observed.query.metadata.deletion_timestamp.is_some() {
        finish::teardown(&mut draft);
        return draft.into_plan();
    }
    if let Some(fault) = &observed.unreadable {
        live::unreadable(&mut draft, fault);
        return draft.into_plan();
    }
    match observed.status.phase {
        Some(Phase::Succeeded | Phase::Failed | Phase::Cancelled) => finish::finished(&mut draft),
        Some(Phase::Suspended) => finish::held(&mut draft),
        None | Some(Phase::Pending | Phase::Starting | Phase::Planning | Phase::Running | Phase::Committing) => {
            live::live(&mut draft)
        }
    }
    draft.into_plan()
}
