//! Queries' places in the engine: who may start, and who may use which slots, as the cluster scheduler decides. It is
//! told of everything under the registry's lock, so that it and the queries agree on which workers are there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use floe_scheduler::cluster::{self, Action, Claim, ClusterState, Counts, Demand, Event};
use floe_wire::error::{QueryError, Result};
use tokio::sync::oneshot;

use super::registry::{Registry, Signal, State};

/// The cluster scheduler, and whom to tell what it decides.
#[derive(Debug)]
pub(super) struct Cluster {
    began: Instant,
    state: ClusterState,
    /// Queries that wait to be admitted.
    gates: HashMap<String, oneshot::Sender<()>>,
}

/// What a query may use of a worker from now on.
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

    fn decide(&mut self, event: Event) -> Vec<Action> {
        let now = self.began.elapsed().as_millis() as u64;
        cluster::decide(&mut self.state, event, now)
    }
}

impl State {
    /// Tells the cluster scheduler and carries out what it decides; what is granted and who is refused is the caller's.
    pub(super) fn share(&mut self, event: Event) -> (Vec<Granted>, Option<QueryError>) {
        let (mut granted, mut refused) = (Vec::new(), None);
        for action in self.cluster.decide(event) {
            match action {
                Action::Admit { query } => {
                    if let Some(gate) = self.cluster.gates.remove(&query) {
                        // Who no longer waits there leaves by itself.
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

/// A query's place: it waits there to be admitted, and leaves when this is dropped.
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

/// A place whose query has not been admitted yet.
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
    /// A query arrives; an error if there is no room for it, not even to wait.
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

    /// What a query runs and wishes; answered by what it may use. `heard`: it has heard all that it was told: else its
    /// demand may be about workers that are gone, and is not taken.
    pub fn demand(&self, query: &str, demand: Demand, heard: impl FnOnce() -> bool) -> Option<Vec<Granted>> {
        let mut state = self.state();
        heard().then(|| state.share(Event::Demand { query: query.to_string(), demand }).0)
    }

    pub fn counts(&self) -> Counts {
        self.state().cluster.state.counts()
    }

    /// How many queries start before this one, if it waits.
    pub fn ahead(&self, query: &str) -> Option<usize> {
        self.state().cluster.state.ahead(query)
    }
}
