//! Talks to the pods of contexts, apart from the reconciles: polls every coordinator for its load, and tells
//! unconnected workers their coordinator's address.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use floe_api::report::EngineReport;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::facts::Heard;
use crate::pods::Key;
use crate::poll::{self, PollError, Worker};
use crate::query::build::{CONTROL_PORT, HTTP_PORT};

/// Poll interval; short, because somebody may be waiting for workers.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
const SILENT_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Report a coordinator in the status that has not answered for this long.
const PATIENCE: Duration = Duration::from_secs(10);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// UID of its pod.
    pub pod: String,
    pub ip: String,
    pub token: String,
}

struct Follow {
    context: Key,
    address: Address,
    workers: watch::Sender<Vec<Worker>>,
    heard: Arc<Mutex<Heard>>,
    task: AbortHandle,
}

/// The conversations, by UID of the coordinator's pod.
pub struct Talks {
    http: reqwest::Client,
    follows: Mutex<HashMap<String, Follow>>,
    news: mpsc::UnboundedSender<Key>,
}

impl Talks {
    /// The receiver gets the contexts for which there is news.
    pub fn new(http: reqwest::Client) -> (Self, mpsc::UnboundedReceiver<Key>) {
        let (news, receiver) = mpsc::unbounded_channel();
        (Self { http, follows: Mutex::default(), news }, receiver)
    }

    fn follows(&self) -> MutexGuard<'_, HashMap<String, Follow>> {
        self.follows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls this coordinator from now on, and tells these workers its address.
    pub fn follow(&self, context: Key, address: Address, workers: Vec<Worker>) {
        let mut follows = self.follows();
        if let Some(known) = follows.get(&address.pod).filter(|known| known.address == address) {
            known.workers.send_if_modified(|told| {
                let is_new = *told != workers;
                *told = workers;
                is_new
            });
            return;
        }
        let (sender, receiver) = watch::channel(workers);
        let heard = Arc::<Mutex<Heard>>::default();
        let talk = Talk {
            http: self.http.clone(),
            address: address.clone(),
            workers: receiver,
            heard: Arc::clone(&heard),
            news: self.news.clone(),
            context: context.clone(),
        };
        let task = tokio::spawn(talk.run()).abort_handle();
        let follow = Follow { context, address: address.clone(), workers: sender, heard, task };
        if let Some(before) = follows.insert(address.pod, follow) {
            before.task.abort();
        }
    }

    pub fn heard(&self, pod: &str) -> Heard {
        let follows = self.follows();
        let follow = follows.get(pod);
        follow.map(|follow| follow.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }

    /// Ends the context's conversations with all pods but these.
    pub fn keep_only(&self, context: &Key, pods: &BTreeSet<&str>) {
        self.follows().retain(|pod, follow| {
            let stays = follow.context != *context || pods.contains(pod.as_str());
            if !stays {
                follow.task.abort();
            }
            stays
        });
    }

    pub fn forget_all(&self) {
        self.follows().drain().for_each(|(_, follow)| follow.task.abort());
    }

    /// Has the coordinator drain a worker, which no longer counts as one that takes tasks.
    pub async fn drain(&self, address: &Address, worker: &str) -> Result<(), PollError> {
        drain(&self.http, &address.ip, &address.token, worker).await?;
        let follows = self.follows();
        if let Some(follow) = follows.get(&address.pod) {
            let mut heard = follow.heard.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(report) = &mut heard.report {
                let workers = Arc::make_mut(report).workers.iter_mut();
                workers.filter(|known| known.id == worker).for_each(|known| known.draining = true);
            }
        }
        Ok(())
    }
}

/// Has a coordinator drain a worker.
pub async fn drain(http: &reqwest::Client, ip: &str, token: &str, worker: &str) -> Result<(), PollError> {
    let url = format!("http://{}/api/v1/workers/{worker}/drain", poll::at(ip, HTTP_PORT));
    match poll::tell(http.post(url).bearer_auth(token).timeout(DRAIN_TIMEOUT)).await {
        // The worker is gone: there is nothing to drain.
        Ok(()) | Err(PollError::Status(reqwest::StatusCode::NOT_FOUND)) => Ok(()),
        Err(error) => Err(error),
    }
}

struct Talk {
    http: reqwest::Client,
    address: Address,
    workers: watch::Receiver<Vec<Worker>>,
    heard: Arc<Mutex<Heard>>,
    news: mpsc::UnboundedSender<Key>,
    context: Key,
}

impl Talk {
    async fn run(mut self) {
        let url = format!("http://{}/api/v1/engine", poll::at(&self.address.ip, HTTP_PORT));
        let mut well_at = Instant::now();
        loop {
            let request = self.http.get(&url).bearer_auth(&self.address.token);
            let answer = poll::read(request).await.and_then(|body| Ok(serde_json::from_slice::<EngineReport>(&body)?));
            let unheard = match answer {
                Ok(report) => {
                    let connected: Vec<String> = report.workers.iter().map(|worker| worker.id.clone()).collect();
                    self.hear(|heard| {
                        let is_new = heard.report.as_deref().map(gist) != Some(gist(&report));
                        heard.report = Some(Arc::new(report));
                        is_new
                    });
                    let coordinator = poll::at(&self.address.ip, CONTROL_PORT);
                    let workers = self.workers.borrow_and_update().clone();
                    poll::introduce(&self.http, &self.address.token, &coordinator, workers, &connected).await
                }
                Err(error) => {
                    Some(format!("the coordinator does not answer at port {HTTP_PORT}: {}", poll::root(&error)))
                }
            };
            let is_silent = match unheard {
                None => {
                    well_at = Instant::now();
                    self.hear(|heard| heard.silence.take().is_some());
                    false
                }
                Some(words) => {
                    let is_told = well_at.elapsed() > PATIENCE;
                    self.hear(|heard| is_told && heard.silence.is_none() && heard.silence.replace(words).is_none());
                    is_told
                }
            };
            tokio::select! {
                () = tokio::time::sleep(if is_silent { SILENT_POLL_INTERVAL } else { POLL_INTERVAL }) => {}
                changed = self.workers.changed() => if changed.is_err() { return },
            }
        }
    }

    fn hear(&self, change: impl FnOnce(&mut Heard) -> bool) {
        let is_new = change(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        if is_new {
            // The receiver is gone when the operator stops.
            let _ = self.news.send(self.context.clone());
        }
    }
}

/// The part of a report whose change is news; memory in use varies from one moment to the next and is left out.
fn gist(report: &EngineReport) -> EngineReport {
    let mut gist = report.clone();
    for worker in &mut gist.workers {
        worker.shuffle_bytes = u64::from(worker.shuffle_bytes > 0);
        worker.memory_bytes = u64::from(worker.memory_bytes > worker.memory_limit_bytes / 5 * 4);
    }
    gist
}
