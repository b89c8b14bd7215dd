//! Carries out the cluster scheduler's decisions: admits queries and grants them slots. Every event reaches it under
//! the registry's lock, so that it and the queries agree on which workers are connected.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use floe_scheduler::cluster::{self, Action, Claim, ClusterState, Counts, Demand, Event};
use floe_wire::error::{QueryError, Result};
use tokio::sync::oneshot;

use super::registry::{Registry, Signal, State};

/// The cluster scheduler with its clock.
#[derive(Debug)]
pub(super) struct Cluster {
    began: Instant,
    state: ClusterState,
    /// By waiting query: tells it that it is admitted.
    gates: HashMap<String, oneshot::Sender<()>>,
}

/// A grant: what a query may use on one worker from now on.
#[derive(Clone, Debug)]
pub struct Granted {
    pub worker: String,
    pub slots: u32,
    pub whole: bool,
}

impl Cluster {
    pub(super) fn new(limits: cluster::Limits) -> Cluster {
        Cluster { began: Instant::now(), state: ClusterState::new(limits), gates: HashMap::new() }
    }

    pub(super) fn counts(&self) -> Counts {
        self.state.counts()
    }

    /// Slots in use by worker.
    pub(super) fn used(&self) -> HashMap<&str, u32> {
        self.state.used().collect()
    }

    fn decide(&mut self, event: Event) -> Vec<Action> {
        let now = self.began.elapsed().as_millis() as u64;
        cluster::decide(&mut self.state, event, now)
    }
}

impl State {
    /// Passes an event to the cluster scheduler and carries out its actions; returns the caller's grants and refusal.
    pub(super) fn share(&mut self, event: Event) -> (Vec<Granted>, Option<QueryError>) {
        let (mut granted, mut refused) = (Vec::new(), None);
        for action in self.cluster.decide(event) {
            match action {
                Action::Admit { query } => {
                    if let Some(gate) = self.cluster.gates.remove(&query) {
                        // Fails if the query has stopped waiting; it then leaves by itself.
                        let _ = gate.send(());
                    }
                }
                Action::Refuse { query, error } => {
                    self.cluster.gates.remove(&query);
                    refused = Some(error);
                }
                Action::Grant { query: _, worker, slots, whole } => granted.push(Granted { worker, slots, whole }),
                Action::Call { query } => self.tell_place(&query, Signal::Called),
            }
        }
        (granted, refused)
    }
}

/// A query's registration with the cluster scheduler; the query leaves when this is dropped.
pub struct Admission {
    registry: Arc<Registry>,
    pub query: String,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.registry.state();
        state.cluster.gates.remove(&self.query);
        state.share(Event::Left { query: std::mem::take(&mut self.query) });
    }
}

/// The registration of a query that has not been admitted yet.
pub struct Waiting {
    place: Admission,
    gate: oneshot::Receiver<()>,
}

impl Waiting {
    pub async fn admitted(self) -> Result<Admission> {
        let closed = |_| QueryError::internal("the query's place is gone");
        self.gate.await.map_err(closed)?;
        Ok(self.place)
    }
}

impl Registry {
    /// Registers a query; fails if there is no room for it, not even to wait.
    pub fn arrive(self: &Arc<Self>, query: &str, claim: Claim) -> Result<Waiting> {
        let (sender, gate) = oneshot::channel();
        let mut state = self.state();
        state.cluster.gates.insert(query.to_string(), sender);
        let (_, refused) = state.share(Event::Arrived { query: query.to_string(), claim });
        drop(state);
        match refused {
            Some(error) => Err(error),
            None => Ok(Waiting { place: Admission { registry: self.clone(), query: query.to_string() }, gate }),
        }
    }

    /// Reports a query's demand; returns its grants. `heard`: whether the query has processed all its signals; if not,
    /// its demand may name workers that are gone, and is ignored.
    pub fn demand(&self, query: &str, demand: Demand, heard: impl FnOnce() -> bool) -> Option<Vec<Granted>> {
        let mut state = self.state();
        heard().then(|| state.share(Event::Demand { query: query.to_string(), demand }).0)
    }

    pub fn counts(&self) -> Counts {
        self.state().cluster.counts()
    }

    /// The number of queries ahead of this one; none if it does not wait.
    pub fn ahead(&self, query: &str) -> Option<usize> {
        self.state().cluster.state.ahead(query)
    }
}
