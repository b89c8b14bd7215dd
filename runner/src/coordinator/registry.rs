//! Tracks the connected workers and the listening queries: routes each worker's messages to their query, and signals to
//! every query which workers come and go. Decides nothing; the cluster scheduler's shell is `admission`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::proto::{self, Attempt, ToWorker, to_worker};
use crate::shuffle::Peers;
use floe_scheduler::cluster;
use floe_wire::chunk::WorkerId;
use floe_wire::error::TaskError;
use floe_wire::graph::TaskId;
use floe_wire::task::TaskOutput;

use super::admission::Cluster;

/// A worker that dies above this share of its memory limit counts as out of memory.
const NEAR_LIMIT_PERCENT: u64 = 85;

/// A message to a query.
#[derive(Debug)]
pub enum Signal {
    WorkerUp {
        worker: String,
    },
    WorkerDraining {
        worker: String,
    },
    /// `out_of_memory`: it was close to its memory limit when last heard.
    WorkerLost {
        worker: String,
        out_of_memory: bool,
    },
    Started {
        worker: String,
        task: TaskId,
        attempt: u32,
    },
    Progress {
        worker: String,
        task: TaskId,
        attempt: u32,
        rows: u64,
        bytes: u64,
    },
    Done {
        worker: String,
        task: TaskId,
        attempt: u32,
        output: TaskOutput,
    },
    Failed {
        worker: String,
        task: TaskId,
        attempt: u32,
        error: TaskError,
    },
    /// No task of the query runs on this worker any more.
    Gone {
        worker: String,
    },
    /// The query must report its demand again.
    Called,
}

/// A connected worker.
#[derive(Debug)]
pub struct Link {
    pub id: String,
    /// Its number in the table of the engine's workers.
    pub number: WorkerId,
    pub slots: u32,
    pub pid: u32,
    pub memory_limit_bytes: u64,
    pub memory_bytes: AtomicU64,
    pub shuffle_bytes: AtomicU64,
    /// Consecutive heartbeats without tasks or outputs since it began to drain.
    pub quiet_beats: AtomicU32,
    outbox: UnboundedSender<ToWorker>,
}

impl Link {
    fn new(hello: &proto::Hello, number: WorkerId, outbox: UnboundedSender<ToWorker>) -> Link {
        Link {
            id: hello.worker.clone(),
            number,
            slots: hello.slots,
            pid: hello.pid,
            memory_limit_bytes: hello.memory_limit_bytes,
            memory_bytes: AtomicU64::new(0),
            shuffle_bytes: AtomicU64::new(0),
            quiet_beats: AtomicU32::new(0),
            outbox,
        }
    }

    /// Returns whether it was sent; a worker that is gone is reported lost elsewhere.
    pub fn send(&self, message: to_worker::Message) -> bool {
        self.outbox.send(message.into()).is_ok()
    }

    /// Sends the worker the peers that came and went.
    fn introduce(&self, came: Vec<proto::Peer>, went: Vec<WorkerId>) {
        let went = went.into_iter().map(|worker| worker.0).collect();
        self.send(to_worker::Message::Peers(proto::Peers { worker: self.number.0, came, went }));
    }

    fn near_its_limit(&self) -> bool {
        self.memory_limit_bytes > 0
            && self.memory_bytes.load(Ordering::Relaxed) > self.memory_limit_bytes / 100 * NEAR_LIMIT_PERCENT
    }
}

#[derive(Debug)]
pub struct Registry {
    state: Mutex<State>,
    count: watch::Sender<usize>,
    /// Where the outputs of the connected workers are.
    pub peers: Arc<Peers>,
}

#[derive(Debug)]
pub(super) struct State {
    /// The number of workers that ever joined.
    joined: u32,
    /// Connected workers by name; true if draining.
    pub(super) workers: HashMap<String, (Arc<Link>, bool)>,
    /// Runs of queries by name.
    queries: HashMap<String, Listener>,
    pub(super) cluster: Cluster,
}

#[derive(Debug)]
struct Listener {
    /// The query whose registration with the cluster scheduler the run uses.
    place: String,
    sender: UnboundedSender<Signal>,
}

impl State {
    fn tell_all(&self, signal: impl Fn() -> Signal) {
        self.queries.values().for_each(|query| drop(query.sender.send(signal())));
    }

    pub(super) fn tell_place(&self, place: &str, signal: Signal) {
        if let Some(listener) = self.queries.values().find(|listener| listener.place == place) {
            let _ = listener.sender.send(signal);
        }
    }
}

impl Registry {
    pub fn new(limits: cluster::Limits) -> Registry {
        let cluster = Cluster::new(limits);
        let state = State { joined: 0, workers: HashMap::new(), queries: HashMap::new(), cluster };
        Registry { state: Mutex::new(state), count: watch::channel(0).0, peers: Arc::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a worker and introduces it and the others to each other; refuses a name that is in use.
    pub fn join(&self, hello: &proto::Hello, outbox: UnboundedSender<ToWorker>) -> Option<Arc<Link>> {
        let mut state = self.state();
        if state.workers.contains_key(&hello.worker) {
            return None;
        }
        let number = WorkerId(state.joined);
        state.joined += 1;
        let link = Arc::new(Link::new(hello, number, outbox));
        let (_, peer) = hello.peer.clone().unwrap_or_default().place();
        self.peers.insert(number, peer.clone());
        let came = vec![proto::Peer::new(number, &peer)];
        state.workers.values().for_each(|(other, _)| other.introduce(came.clone(), Vec::new()));
        let others = state
            .workers
            .values()
            .filter_map(|(other, _)| Some(proto::Peer::new(other.number, &self.peers.get(other.number)?)));
        link.introduce(others.chain(came).collect(), Vec::new());
        tracing::info!(worker = %link.id, pid = link.pid, slots = link.slots, "worker connected");
        state.tell_all(|| Signal::WorkerUp { worker: link.id.clone() });
        state.workers.insert(link.id.clone(), (link.clone(), false));
        let (worker, slots, memory_bytes) = (link.id.clone(), link.slots, link.memory_limit_bytes);
        state.share(cluster::Event::WorkerUp { worker, slots, memory_bytes });
        self.count.send_replace(state.workers.len());
        Some(link)
    }

    /// Drains a worker: it gets no more tasks; running ones go on, and its outputs stay readable.
    pub fn drain(&self, worker: &str) {
        let mut state = self.state();
        if let Some((link, draining)) = state.workers.get_mut(worker) {
            if std::mem::replace(draining, true) {
                return;
            }
            link.quiet_beats.store(0, Ordering::Relaxed);
            state.tell_all(|| Signal::WorkerDraining { worker: worker.to_string() });
            state.share(cluster::Event::WorkerDraining { worker: worker.to_string() });
        }
    }

    pub fn lose(&self, worker: &str) {
        let mut state = self.state();
        let Some((link, _)) = state.workers.remove(worker) else { return };
        self.peers.remove(link.number);
        state.workers.values().for_each(|(other, _)| other.introduce(Vec::new(), vec![link.number]));
        let out_of_memory = link.near_its_limit();
        tracing::info!(worker, out_of_memory, "worker gone");
        state.tell_all(|| Signal::WorkerLost { worker: worker.to_string(), out_of_memory });
        state.share(cluster::Event::WorkerLost { worker: worker.to_string() });
        self.count.send_replace(state.workers.len());
    }

    /// Starts to listen for a run of the query `place`; the first signals are the connected workers.
    pub fn listen(&self, query: &str, place: &str) -> UnboundedReceiver<Signal> {
        let (sender, receiver) = unbounded_channel();
        let mut state = self.state();
        let mut workers: Vec<_> = state.workers.values().filter(|(_, draining)| !draining).collect();
        workers.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        for (link, _) in workers {
            let _ = sender.send(Signal::WorkerUp { worker: link.id.clone() });
        }
        state.queries.insert(query.to_string(), Listener { place: place.to_string(), sender });
        receiver
    }

    /// Ends a run and frees its slots.
    pub fn unlisten(&self, query: &str) {
        let mut state = self.state();
        if let Some(Listener { place, .. }) = state.queries.remove(query) {
            state.share(cluster::Event::Demand { query: place, demand: cluster::Demand::default() });
        }
    }

    pub fn tell(&self, query: &str, signal: Signal) {
        if let Some(listener) = self.state().queries.get(query) {
            let _ = listener.sender.send(signal);
        }
    }

    pub fn link(&self, worker: &str) -> Option<Arc<Link>> {
        self.state().workers.get(worker).map(|(link, _)| link.clone())
    }

    /// The number of workers that take tasks.
    pub fn taking(&self) -> usize {
        self.state().workers.values().filter(|(_, draining)| !draining).count()
    }

    pub fn links(&self) -> Vec<Arc<Link>> {
        self.state().workers.values().map(|(link, _)| link.clone()).collect()
    }

    /// Waits until `count` workers are connected; returns how many are.
    pub async fn wait_for(&self, count: usize, limit: Duration) -> usize {
        let mut watch = self.count.subscribe();
        let _ = tokio::time::timeout(limit, watch.wait_for(|there| *there >= count)).await;
        *watch.borrow()
    }
}

/// The signal for a worker's progress report.
pub fn signal(worker: &str, attempt: &Attempt, rows: u64, bytes: u64) -> Signal {
    Signal::Progress { worker: worker.to_string(), task: attempt.task_id(), attempt: attempt.attempt, rows, bytes }
}
