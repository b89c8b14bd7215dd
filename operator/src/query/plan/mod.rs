//! Decides from everything observed of a query what to do, what its status says, and when to reconcile again. Pure and
//! total: no client, no clock. `live` decides while a query runs, `finish` after its end, on deletion or suspension.

pub mod after;
#[cfg(test)]
mod after_tests;
mod borrow;
#[cfg(test)]
mod borrow_tests;
mod crew;
mod draft;
#[cfg(test)]
mod end_tests;
mod finish;
#[cfg(test)]
pub mod labour;
mod line;
mod live;
mod outcome;
mod progress;
#[cfg(test)]
mod properties;
pub mod queue;
#[cfg(test)]
mod queue_tests;
pub mod scale;
#[cfg(test)]
mod scale_tests;
#[cfg(test)]
mod tests;
mod trouble;
#[cfg(test)]
mod turn_tests;
#[cfg(test)]
pub mod world;

use std::time::Duration;

use floe_api::{DistributedQueryStatus, Phase, Reason};
use jiff::{SignedDuration, Timestamp};

use super::facts::Observed;
use super::names::Place;
use super::policy::Policy;
use crate::context::register::Loan;
use crate::kueue::Step;

use draft::Draft;
pub use draft::cut;

pub const ACCEPTED: &str = "Accepted";
pub const COORDINATOR_READY: &str = "CoordinatorReady";
pub const WORKERS_READY: &str = "WorkersReady";
pub const PLANNED: &str = "Planned";
pub const SUCCEEDED: &str = "Succeeded";
pub const CLEANED_UP: &str = "CleanedUp";

/// The operator's options that affect decisions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a result without a sink is kept if the query has no TTL.
    pub result_ttl: Duration,
    /// The policy that queries must comply with.
    pub policy: Policy,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub status: DistributedQueryStatus,
    /// Reconcile again after this time at the latest. `None`: only on a change.
    pub requeue: Option<Duration>,
    /// The inputs of a start must be read before anything can be decided.
    pub wants_inputs: bool,
    /// Events to send.
    pub notices: Vec<Notice>,
}

/// One effect. It is idempotent, and touches only objects of the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    AddFinalizer,
    EnsureJob {
        attempt: u32,
    },
    EnsurePolicy,
    /// Makes the group in which Volcano places the attempt's pods; it belongs to the coordinator's.
    EnsureGroup {
        uid: String,
    },
    CreatePod(Place),
    /// Submits the job to a coordinator of the context that the query borrows.
    Submit {
        attempt: u32,
        ip: String,
    },
    /// Cancels the query at its coordinator, or ends the coordinator's lingering.
    Dismiss {
        ip: String,
    },
    /// Has the coordinator stop giving the worker tasks.
    Drain {
        ip: String,
        worker: String,
    },
    DeletePod {
        name: String,
        uid: String,
    },
    /// Deletes the NetworkPolicy and the Secrets of all attempts.
    DeleteShared {
        attempts: u32,
    },
    /// Tells Kueue of the query.
    Queue(Step),
    RemoveFinalizer,
    DeleteQuery,
}

impl Action {
    /// Actions of one wave are independent of each other; they depend on the waves before.
    pub fn wave(&self) -> u8 {
        match self {
            Action::AddFinalizer | Action::EnsureJob { .. } | Action::EnsurePolicy | Action::Queue(_) => 0,
            Action::Dismiss { .. } | Action::EnsureGroup { .. } => 0,
            Action::CreatePod(_) | Action::Submit { .. } | Action::Drain { .. } | Action::DeletePod { .. } => 1,
            Action::DeleteShared { .. } => 2,
            Action::RemoveFinalizer | Action::DeleteQuery => 3,
        }
    }
}

/// An Event to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub warning: bool,
    pub reason: Reason,
    pub note: String,
    /// The pod that it is about.
    pub pod: Option<String>,
}

/// How long a deletion waits for the contexts to be listed.
const UNREAD: SignedDuration = SignedDuration::from_secs(60);

/// Whether the context that it borrows has not been read yet.
fn is_unknown(observed: &Observed, now: Timestamp) -> bool {
    let deleted = observed.query.metadata.deletion_timestamp.as_ref();
    observed.loan == Loan::NotYet
        && observed.query.spec.managed_by.is_none()
        && deleted.is_none_or(|at| now.duration_since(at.0) < UNREAD)
}

pub fn plan(observed: &Observed, settings: &Settings, now: Timestamp) -> Plan {
    let mut draft = Draft::new(observed, settings, now);
    if is_unknown(observed, now) {
        // Its coordinator would seem to be gone.
        draft.look_again(live::RETRY);
        return draft.into_plan();
    }
    if observed.query.metadata.deletion_timestamp.is_some() {
        // Do this even if another controller manages the query: nobody else removes Floe's finalizer.
        finish::teardown(&mut draft);
        return draft.into_plan();
    }
    if observed.query.spec.managed_by.is_some() {
        // Managed by another controller: do not even write its status.
        return draft.idle();
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
