//! Talks to the pods of queries, apart from the reconciles, so that a slow or dead pod blocks nothing else. Polls every
//! coordinator for its progress and reconciles its query when there is news. Tells workers their coordinator's address
//! until it reports them as connected, so that a query needs neither a Service nor a DNS name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use floe_api::report::Report;
use futures::StreamExt;
use reqwest::StatusCode;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;

use crate::coordinator::{Verdict, without_times};
use crate::pods::Key;
use crate::query::build::{CONTROL_PORT, HTTP_PORT, WORKER_PORT};

const TIMEOUT: Duration = Duration::from_secs(2);
const TELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Poll a coordinator again after a tenth of the time that it has been polled for, within these bounds: somebody may be
/// waiting for a short query, while a second does not matter in a long one.
const EAGER: Duration = Duration::from_millis(100);
const STEADY: Duration = Duration::from_secs(1);
/// Report a pod in the status that has not answered for this long, and poll it less often.
const PATIENCE: Duration = Duration::from_secs(10);
const SILENT: Duration = Duration::from_secs(3);
const QUESTIONS_AT_ONCE: usize = 128;
/// Open requests to coordinators of contexts, which hold back their answers until the query ends.
const AWAITED_AT_ONCE: usize = 1024;
/// Idle connections to keep per pod: a context's coordinator is asked about many queries.
const KEPT_CONNECTIONS: usize = 64;
/// How many workers of one query to tell the address at the same time.
const TOLD_AT_ONCE: usize = 32;
/// For comparison: a report of 1,000 stages has about 300 kB.
const MAX_ANSWER_BYTES: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum PollError {
    #[error("the pod cannot be asked: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the pod answered {0}")]
    Status(StatusCode),
    #[error("the pod's answer cannot be read: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("the pod's answer has more than {} bytes", MAX_ANSWER_BYTES)]
    TooLong,
}

/// How to reach a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub id: String,
    pub attempt: u32,
    pub ip: String,
    pub token: String,
    /// It belongs to a context, and serves other queries as well.
    pub is_lent: bool,
}

/// The running pod of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    pub name: String,
    pub ip: String,
}

/// What the pods of an attempt have reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// The coordinator's latest report.
    pub report: Option<Arc<Report>>,
    /// The coordinator answers, but does not know this attempt.
    pub is_absent: bool,
    /// Which pod has not answered for a while, and why.
    pub silence: Option<String>,
}

struct Follow {
    address: Address,
    workers: watch::Sender<Vec<Worker>>,
    heard: Arc<Mutex<Heard>>,
    task: AbortHandle,
}

pub struct Poller {
    http: reqwest::Client,
    follows: Mutex<HashMap<String, Follow>>,
    slots: Arc<Semaphore>,
    /// Slots for queries on contexts.
    lent_slots: Arc<Semaphore>,
    news: mpsc::UnboundedSender<Key>,
    patience: Duration,
}

impl Poller {
    /// The receiver gets the queries for which there is news.
    pub fn new() -> Result<(Self, mpsc::UnboundedReceiver<Key>), reqwest::Error> {
        // Pods are reached directly, even if the operator has to use a proxy elsewhere. They run users' code, and the
        // operator reaches more of the network than they do: they must not redirect it.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .pool_max_idle_per_host(KEPT_CONNECTIONS)
            .pool_idle_timeout(Duration::from_secs(5))
            .build()?;
        let (news, receiver) = mpsc::unbounded_channel();
        let slots = Arc::new(Semaphore::new(QUESTIONS_AT_ONCE));
        let lent_slots = Arc::new(Semaphore::new(AWAITED_AT_ONCE));
        Ok((Self { http, follows: Mutex::default(), slots, lent_slots, news, patience: PATIENCE }, receiver))
    }

    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Sends queries to reconcile again.
    pub fn waker(&self) -> mpsc::UnboundedSender<Key> {
        self.news.clone()
    }

    fn follows(&self) -> MutexGuard<'_, HashMap<String, Follow>> {
        self.follows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls this coordinator from now on, instead of any other of the query, and tells these workers its address.
    pub fn follow(&self, key: Key, address: Address, workers: Vec<Worker>) {
        let mut follows = self.follows();
        if let Some(known) = follows.get(&address.id).filter(|known| known.address == address) {
            known.workers.send_if_modified(|told| {
                let is_new = *told != workers;
                *told = workers;
                is_new
            });
            return;
        }
        let (sender, receiver) = watch::channel(workers);
        let talk = Talk {
            http: self.http.clone(),
            address: address.clone(),
            workers: receiver,
            heard: Arc::default(),
            slots: Arc::clone(if address.is_lent { &self.lent_slots } else { &self.slots }),
            news: self.news.clone(),
            patience: self.patience,
            key,
        };
        let heard = Arc::clone(&talk.heard);
        let task = tokio::spawn(talk.run()).abort_handle();
        let follow = Follow { address: address.clone(), workers: sender, heard, task };
        if let Some(before) = follows.insert(address.id, follow) {
            before.task.abort();
        }
    }

    /// What the pods of an attempt have reported.
    pub fn heard(&self, id: &str, attempt: u32) -> Heard {
        let follows = self.follows();
        let follow = follows.get(id).filter(|follow| follow.address.attempt == attempt);
        follow.map(|follow| follow.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }

    /// Stops polling but keeps the last report: the address of an ended pod may soon belong to another one.
    pub fn rest(&self, id: &str) {
        if let Some(follow) = self.follows().get(id) {
            follow.task.abort();
        }
    }

    pub fn forget(&self, id: &str) {
        if let Some(follow) = self.follows().remove(id) {
            follow.task.abort();
        }
    }

    pub fn forget_all(&self) {
        for (_, follow) in self.follows().drain() {
            follow.task.abort();
        }
    }

    /// Cancels a query, or ends the lingering of its coordinator. A coordinator that does not answer is ending anyway.
    pub async fn dismiss(&self, address: &Address) {
        let request = self.http.delete(url(address)).bearer_auth(&address.token).timeout(TELL_TIMEOUT);
        if let Err(error) = request.send().await {
            tracing::debug!(%error, "the coordinator did not hear that it may go");
        }
    }
}

fn url(address: &Address) -> String {
    format!("http://{}/api/v1/queries/{}", at(&address.ip, HTTP_PORT), address.id)
}

pub fn at(ip: &str, port: u16) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// The innermost cause of an error: for connections, the kernel's message.
pub fn root(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(cause) = at.source() {
        at = cause;
    }
    at.to_string()
}

/// How long to wait before polling again.
fn pause(running: Duration, is_silent: bool) -> Duration {
    if is_silent { SILENT } else { (running / 10).clamp(EAGER, STEADY) }
}

/// The conversation with the pods of one attempt.
struct Talk {
    http: reqwest::Client,
    address: Address,
    workers: watch::Receiver<Vec<Worker>>,
    heard: Arc<Mutex<Heard>>,
    slots: Arc<Semaphore>,
    news: mpsc::UnboundedSender<Key>,
    patience: Duration,
    key: Key,
}

impl Talk {
    /// Polls until the coordinator has reported an outcome.
    async fn run(mut self) {
        let began = Instant::now();
        let is_lent = self.address.is_lent;
        let mut well_at = began;
        loop {
            let asked = Instant::now();
            let pause = pause(began.elapsed(), well_at.elapsed() > self.patience);
            let answer = {
                let Ok(_slot) = self.slots.acquire().await else { return };
                ask(&self.http, &self.address, pause).await
            };
            let unheard = match answer {
                Ok(report) => {
                    let is_absent = report.is_none();
                    self.hear(|heard| std::mem::replace(&mut heard.is_absent, is_absent) != is_absent && is_lent);
                    let connected = report.as_ref().map(|report| report.workers.clone()).unwrap_or_default();
                    let is_over = report.as_ref().and_then(Verdict::of).is_some();
                    // Until it sends a report, the coordinator has not read its job.
                    if let Some(report) = report {
                        self.hear(|heard| {
                            let is_new = heard.report.as_deref() != Some(&report);
                            if is_new {
                                heard.report = Some(Arc::new(report));
                            }
                            is_new
                        });
                    }
                    if is_over {
                        return;
                    }
                    self.introduce(&connected).await
                }
                Err(error) => Some(format!("the coordinator does not answer at port {HTTP_PORT}: {}", root(&error))),
            };
            match unheard {
                None => {
                    well_at = Instant::now();
                    self.hear(|heard| heard.silence.take().is_some());
                }
                Some(words) => {
                    tracing::debug!(query = self.key.1, namespace = self.key.0, "{words}");
                    let is_told = well_at.elapsed() > self.patience;
                    // Keep the first message until all pods answer again.
                    self.hear(|heard| is_told && heard.silence.is_none() && heard.silence.replace(words).is_none());
                }
            }
            // An answer that was held back has used up that time already.
            let rest = if is_lent { pause.saturating_sub(asked.elapsed()) } else { pause };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                changed = self.workers.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Updates what is known, and reconciles the query if that is news.
    fn hear(&self, change: impl FnOnce(&mut Heard) -> bool) {
        let is_new = change(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        if is_new {
            // The receiver is gone when the operator stops.
            let _ = self.news.send(self.key.clone());
        }
    }

    /// Tells the coordinator's address to all workers that are not connected; those that do not listen yet are told at
    /// the next poll. Returns a description of one that could not be reached.
    async fn introduce(&mut self, connected: &[String]) -> Option<String> {
        let coordinator = at(&self.address.ip, CONTROL_PORT);
        let workers = self.workers.borrow_and_update().clone();
        introduce(&self.http, &self.address.token, &coordinator, workers, connected).await
    }
}

/// Tells unconnected workers their coordinator's address. Returns a description of one that could not be reached.
pub async fn introduce(
    http: &reqwest::Client,
    token: &str,
    coordinator: &str,
    workers: Vec<Worker>,
    connected: &[String],
) -> Option<String> {
    let told = workers.into_iter().filter(|worker| !connected.contains(&worker.name)).map(|worker| {
        let url = format!("http://{}/coordinator", at(&worker.ip, WORKER_PORT));
        let request = http.post(url).bearer_auth(token).timeout(TELL_TIMEOUT).body(coordinator.to_owned());
        async move { tell(request).await.err().map(|error| (worker.name, error)) }
    });
    let answers: Vec<_> = futures::stream::iter(told).buffered(TOLD_AT_ONCE).collect().await;
    let (worker, error) = answers.into_iter().flatten().next()?;
    Some(format!("pod {worker} does not answer at port {WORKER_PORT}: {}", root(&error)))
}

/// Sends a request, and reads only the status of the answer.
pub async fn tell(request: reqwest::RequestBuilder) -> Result<(), PollError> {
    match request.send().await?.status() {
        status if status.is_success() => Ok(()),
        status => Err(PollError::Status(status)),
    }
}

/// `wait`: how long the coordinator of a context may wait for the query's end before it answers.
async fn ask(http: &reqwest::Client, address: &Address, wait: Duration) -> Result<Option<Report>, PollError> {
    let mut url = url(address);
    if address.is_lent {
        url = format!("{url}?wait_ms={}", wait.min(STEADY).as_millis());
    }
    let report = match read(http.get(url).bearer_auth(&address.token)).await {
        Ok(body) => without_times(serde_json::from_slice(&body)?),
        Err(PollError::Status(StatusCode::NOT_FOUND)) => return Ok(None),
        // A coordinator of many queries reveals which ones it knows only to callers with the query's token.
        Err(PollError::Status(StatusCode::UNAUTHORIZED)) if address.is_lent => return Ok(None),
        Err(error) => return Err(error),
    };
    // A report about another attempt is of no use.
    let is_other = address.is_lent && report.attempt != address.attempt;
    Ok(Some(report).filter(|_| !is_other))
}

/// Reads the whole answer, up to a limit.
pub async fn read(request: reqwest::RequestBuilder) -> Result<Vec<u8>, PollError> {
    let mut answer = request.send().await?;
    if !answer.status().is_success() {
        return Err(PollError::Status(answer.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(PollError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
#[path = "poll_tests.rs"]
mod tests;
