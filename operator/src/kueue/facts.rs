//! What Kueue says of a query, as plain values, and what the query then is. No client.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;

use crate::query::names::Role;

/// The state of a query in its queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Standing {
    /// It names no queue.
    #[default]
    Free,
    /// It names a queue, and the operator does not work with Kueue.
    Off,
    /// Kueue's objects have not been read yet.
    NotYet,
    /// It has no Workload.
    Missing,
    Waiting {
        /// The words of Kueue.
        words: String,
        /// The Workload asks for other pods than the query now does.
        is_stale: bool,
    },
    Admitted(Grant),
    /// Kueue wants its place back: once its pods are gone, the reservation is given up.
    Evicted {
        reason: String,
        words: String,
    },
    /// Its Workload is being deleted.
    Leaving,
    /// Its Workload is declared finished.
    Finished,
}

/// What Kueue has granted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grant {
    pub cluster_queue: String,
    pub workers: u32,
    pub coordinator_pods: Additions,
    pub worker_pods: Additions,
    /// Kueue was told that all pods run.
    pub is_ready: bool,
    /// Kueue was told that the workers are gone while the coordinator holds a result.
    pub is_reclaimed: bool,
    pub is_stale: bool,
}

/// What the pods of a set get in addition, so that they go to the nodes of their flavor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Additions {
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// What Kueue is told of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Asks for a place.
    Enter,
    /// Withdraws the question, or gives up the place.
    Leave,
    /// The pods of an evicted query are gone.
    GiveUp,
    /// All pods run.
    Ready,
    /// The query has ended, and its workers are gone.
    Reclaim,
    /// The query has ended, and its pods are gone.
    Finish { is_success: bool, message: String },
}

impl Standing {
    /// Whether the query may have pods.
    pub fn is_open(&self) -> bool {
        matches!(self, Standing::Free | Standing::Admitted(_))
    }

    /// Whether pods that are there must go. What is not known yet takes nothing away.
    pub fn is_lost(&self) -> bool {
        match self {
            Standing::Evicted { .. }
            | Standing::Waiting { .. }
            | Standing::Leaving
            | Standing::Missing
            | Standing::Finished => true,
            Standing::Free | Standing::Off | Standing::NotYet | Standing::Admitted(_) => false,
        }
    }

    pub fn grant(&self) -> Option<&Grant> {
        match self {
            Standing::Admitted(grant) => Some(grant),
            _ => None,
        }
    }
}

impl Grant {
    pub fn additions(&self, role: Role) -> &Additions {
        match role {
            Role::Coordinator | Role::Clean => &self.coordinator_pods,
            Role::Worker => &self.worker_pods,
        }
    }
}
