//! Talks to the pods of queries, apart from the reconciles, so that a slow or dead pod holds nothing else up. Polls every
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
/// Somebody may be waiting for a short query, while a second does not matter in a long one: a coordinator is polled again
/// after a tenth of the time for which it has been polled, within these bounds.
const EAGER: Duration = Duration::from_millis(100);
const STEADY: Duration = Duration::from_secs(1);
/// A pod that has not answered for this long is reported in the status, and polled less often.
const PATIENCE: Duration = Duration::from_secs(10);
const SILENT: Duration = Duration::from_secs(3);
const QUESTIONS_AT_ONCE: usize = 128;
/// How many workers of one query are told the address at the same time.
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
}

/// The running pod of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    pub name: String,
    pub ip: String,
}

/// What the pods of an attempt have said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// The coordinator's latest report.
    pub report: Option<Arc<Report>>,
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
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(5))
            .build()?;
        let (news, receiver) = mpsc::unbounded_channel();
        let slots = Arc::new(Semaphore::new(QUESTIONS_AT_ONCE));
        Ok((Self { http, follows: Mutex::default(), slots, news, patience: PATIENCE }, receiver))
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
            slots: Arc::clone(&self.slots),
            news: self.news.clone(),
            patience: self.patience,
            key,
        };
        let heard = Arc::clone(&talk.heard);
        let task = tokio::spawn(talk.go_on()).abort_handle();
        let follow = Follow { address: address.clone(), workers: sender, heard, task };
        if let Some(before) = follows.insert(address.id, follow) {
            before.task.abort();
        }
    }

    /// What the pods of an attempt have said.
    pub fn heard(&self, id: &str, attempt: u32) -> Heard {
        let follows = self.follows();
        let follow = follows.get(id).filter(|follow| follow.address.attempt == attempt);
        follow.map(|follow| follow.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }

    /// Stops polling and keeps the last report: the address of an ended pod may soon belong to another one.
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

fn at(ip: &str, port: u16) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// The innermost cause of an error: for connections, the kernel's message.
fn root(error: &dyn std::error::Error) -> String {
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
    async fn go_on(mut self) {
        let began = Instant::now();
        let mut well_at = began;
        loop {
            let answer = {
                let Ok(_slot) = self.slots.acquire().await else { return };
                ask(&self.http, &self.address).await
            };
            let mut unheard = None;
            match answer {
                Ok(report) => {
                    let connected = report.as_ref().map(|report| report.workers.clone()).unwrap_or_default();
                    let is_over = report.as_ref().and_then(Verdict::of).is_some();
                    // Without a report, the coordinator has not read its job yet.
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
                    if let Some((worker, error)) = self.introduce(&connected).await {
                        unheard = Some(format!("pod {worker} does not answer at port {WORKER_PORT}: {}", root(&error)));
                    }
                }
                Err(error) => {
                    unheard = Some(format!("the coordinator does not answer at port {HTTP_PORT}: {}", root(&error)));
                }
            }
            match unheard {
                None => {
                    well_at = Instant::now();
                    self.hear(|heard| heard.silence.take().is_some());
                }
                Some(words) => {
                    tracing::debug!(query = self.key.1, namespace = self.key.0, "{words}");
                    let is_told = well_at.elapsed() > self.patience;
                    // The first message stays until all pods answer again.
                    self.hear(|heard| is_told && heard.silence.is_none() && heard.silence.replace(words).is_none());
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause(began.elapsed(), well_at.elapsed() > self.patience)) => {}
                changed = self.workers.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Updates what is known. If that is news, the query is reconciled.
    fn hear(&self, change: impl FnOnce(&mut Heard) -> bool) {
        let is_new = change(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        if is_new {
            // The receiver is gone when the operator stops.
            let _ = self.news.send(self.key.clone());
        }
    }

    /// Tells the coordinator's address to all workers that are not connected; those that do not listen yet are told next
    /// time. Returns one that could not be told.
    async fn introduce(&mut self, connected: &[String]) -> Option<(String, PollError)> {
        let coordinator = at(&self.address.ip, CONTROL_PORT);
        let strangers: Vec<Worker> = {
            let workers = self.workers.borrow_and_update();
            workers.iter().filter(|worker| !connected.contains(&worker.name)).cloned().collect()
        };
        let told = strangers.into_iter().map(|worker| {
            let url = format!("http://{}/coordinator", at(&worker.ip, WORKER_PORT));
            let request = self.http.post(url).bearer_auth(&self.address.token).timeout(TELL_TIMEOUT);
            let request = request.body(coordinator.clone());
            async move { tell(request).await.err().map(|error| (worker.name, error)) }
        });
        let answers: Vec<_> = futures::stream::iter(told).buffered(TOLD_AT_ONCE).collect().await;
        answers.into_iter().flatten().next()
    }
}

/// Reads nothing of the answer but its status.
async fn tell(request: reqwest::RequestBuilder) -> Result<(), PollError> {
    match request.send().await?.status() {
        status if status.is_success() => Ok(()),
        status => Err(PollError::Status(status)),
    }
}

async fn ask(http: &reqwest::Client, address: &Address) -> Result<Option<Report>, PollError> {
    let mut answer = http.get(url(address)).bearer_auth(&address.token).send().await?;
    match answer.status() {
        StatusCode::NOT_FOUND => return Ok(None),
        status if !status.is_success() => return Err(PollError::Status(status)),
        _ => {}
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(PollError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(without_times(serde_json::from_slice(&body)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::http::HeaderMap;
    use axum::routing::{get, post};

    #[test]
    fn short_queries_are_asked_often_and_dead_ones_seldom() {
        let seconds = Duration::from_secs;
        assert_eq!(pause(Duration::ZERO, false), Duration::from_millis(100));
        assert_eq!(pause(seconds(5), false), Duration::from_millis(500));
        assert_eq!(pause(seconds(600), false), seconds(1));
        assert_eq!(pause(seconds(600), true), seconds(3));
    }

    /// Loopback has an address for each pod.
    async fn pod(ip: &str, port: u16, router: Router) {
        let listener = tokio::net::TcpListener::bind((ip, port)).await.unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    #[tokio::test]
    async fn workers_are_told_of_their_coordinator_until_it_knows_them() {
        let known = Arc::new(Mutex::new(Vec::<String>::new()));
        let (connect, told) = (Arc::clone(&known), Arc::new(Mutex::new(Vec::new())));
        let heard = Arc::clone(&told);
        let listen = move |headers: HeaderMap, body: String| {
            assert_eq!(headers["authorization"], "Bearer secret");
            heard.lock().unwrap().push(body);
            connect.lock().unwrap().push("q-1-w0-0".into());
            std::future::ready("")
        };
        let report = move || {
            let workers = known.lock().unwrap().clone();
            let phase = if workers.is_empty() { "Planning" } else { "Succeeded" };
            std::future::ready(serde_json::json!({"phase": phase, "workers": workers}).to_string())
        };
        pod("127.9.7.1", HTTP_PORT, Router::new().route("/api/v1/queries/u", get(report))).await;
        let (mut poller, mut news) = Poller::new().unwrap();
        poller.patience = Duration::from_millis(200);
        let key: Key = ("n".into(), "q".into());
        let address = Address { id: "u".into(), attempt: 1, ip: "127.9.7.1".into(), token: "secret".into() };
        poller.follow(key.clone(), address.clone(), Vec::new());
        assert_eq!(news.recv().await, Some(key.clone()));
        // The worker's pod runs before its process listens; for longer than that it is told of.
        let worker = Worker { name: "q-1-w0-0".into(), ip: "127.9.7.2".into() };
        poller.follow(key.clone(), address, vec![worker]);
        assert_eq!(news.recv().await, Some(key.clone()));
        assert!(poller.heard("u", 1).silence.unwrap().contains("q-1-w0-0"));
        pod("127.9.7.2", WORKER_PORT, Router::new().route("/coordinator", post(listen))).await;
        let heard = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                news.recv().await.unwrap();
                let heard = poller.heard("u", 1);
                if heard.report.as_deref().and_then(Verdict::of).is_some() {
                    return heard;
                }
            }
        });
        assert_eq!(heard.await.unwrap().silence, None);
        assert_eq!(*told.lock().unwrap(), ["127.9.7.1:7070"]);
        assert_eq!(poller.heard("u", 2), Heard::default());
    }

    /// What the poller reports of a coordinator and a worker that answer like this.
    async fn silence_of(ip: &str, coordinator: Router, worker: Router) -> String {
        let worker_ip = format!("{ip}9");
        pod(ip, HTTP_PORT, coordinator).await;
        pod(&worker_ip, WORKER_PORT, worker).await;
        let (mut poller, mut news) = Poller::new().unwrap();
        poller.patience = Duration::from_millis(200);
        let address = Address { id: "u".into(), attempt: 1, ip: ip.into(), token: "secret".into() };
        let worker = Worker { name: "q-1-w0-0".into(), ip: worker_ip };
        poller.follow(("n".into(), "q".into()), address, vec![worker]);
        let silence = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                news.recv().await.unwrap();
                if let Some(silence) = poller.heard("u", 1).silence {
                    return silence;
                }
            }
        });
        let silence = silence.await.unwrap();
        poller.forget_all();
        silence
    }

    /// A server that answers could redirect to, and its number of connections.
    async fn elsewhere(ip: &str) -> (String, Arc<std::sync::atomic::AtomicUsize>) {
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let listener = tokio::net::TcpListener::bind((ip, 0)).await.unwrap();
        let url = format!("http://{}/latest/meta-data", listener.local_addr().unwrap());
        tokio::spawn(async move {
            // Every connection counts, whatever is requested.
            while listener.accept().await.is_ok() {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        (url, asked)
    }

    #[tokio::test]
    async fn a_pod_cannot_send_the_operator_elsewhere() {
        let (url, asked) = elsewhere("127.9.8.7").await;
        let redirect = |code: StatusCode, url: &str| {
            let answer = (code, [(axum::http::header::LOCATION, url.to_owned())]);
            move || std::future::ready(answer.clone())
        };
        for (at, code) in [301, 302, 303, 307, 308].into_iter().enumerate() {
            let code = StatusCode::from_u16(code).unwrap();
            let away = Router::new().fallback(redirect(code, &url));
            let sound = Router::new().fallback(|| std::future::ready(r#"{"phase": "Running"}"#));
            let silence = silence_of(&format!("127.9.8.1{at}"), away.clone(), Router::new()).await;
            assert_eq!(
                silence,
                format!("the coordinator does not answer at port {HTTP_PORT}: the pod answered {code}")
            );
            let silence = silence_of(&format!("127.9.8.2{at}"), sound, away).await;
            assert_eq!(silence, format!("pod q-1-w0-0 does not answer at port {WORKER_PORT}: the pod answered {code}"));
        }
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 0);
        // A client that follows redirects does reach it.
        pod("127.9.8.99", HTTP_PORT, Router::new().fallback(redirect(StatusCode::FOUND, &url))).await;
        let follow = reqwest::Client::builder().timeout(Duration::from_millis(500)).build().unwrap();
        follow.get(format!("http://127.9.8.99:{HTTP_PORT}/")).send().await.unwrap_err();
        assert!(asked.load(std::sync::atomic::Ordering::Relaxed) > 0);
    }

    #[tokio::test]
    async fn an_answer_without_end_is_given_up() {
        let endless = || {
            let piece = axum::body::Bytes::from(vec![b' '; 1 << 20]);
            std::future::ready(axum::body::Body::from_stream(futures::stream::repeat_with(move || {
                Ok::<_, std::convert::Infallible>(piece.clone())
            })))
        };
        let silence = silence_of("127.9.9.1", Router::new().fallback(endless), Router::new()).await;
        let silence = silence.rsplit(": ").next().unwrap();
        assert_eq!(silence, format!("the pod's answer has more than {MAX_ANSWER_BYTES} bytes"));
    }
}
