//! Asks the coordinators how far they are, beside the reconciling: a slow or dead coordinator holds nothing else up.
//! A query is looked at again when its coordinator says something new.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

use crate::coordinator::Report;
use crate::pods::Key;
use crate::query::build::HTTP_PORT;

const TIMEOUT: Duration = Duration::from_secs(2);
const DISMISS_TIMEOUT: Duration = Duration::from_secs(1);
/// In the first seconds of an attempt people wait; after that a second is soon enough.
const EAGER: Duration = Duration::from_millis(300);
const EAGER_FOR: Duration = Duration::from_secs(10);
const STEADY: Duration = Duration::from_secs(1);
/// A coordinator that has not answered for a while is asked less often.
const SILENT: Duration = Duration::from_secs(3);
const QUESTIONS_AT_ONCE: usize = 128;
/// A report of 1,000 stages has about 300 kB.
const MAX_ANSWER_BYTES: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum PollError {
    #[error("the coordinator cannot be asked: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the coordinator answered {0}")]
    Status(StatusCode),
    #[error("the coordinator's answer cannot be read: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("the coordinator's answer is too long")]
    TooLong,
}

/// Where a coordinator answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub id: String,
    pub attempt: u32,
    pub ip: String,
    pub token: String,
}

struct Follow {
    address: Address,
    latest: Arc<Mutex<Option<Arc<Report>>>>,
    task: AbortHandle,
}

pub struct Poller {
    http: reqwest::Client,
    follows: Mutex<HashMap<String, Follow>>,
    slots: Arc<Semaphore>,
    news: mpsc::UnboundedSender<Key>,
}

impl Poller {
    /// The receiver gets the queries whose coordinators said something new.
    pub fn new() -> Result<(Self, mpsc::UnboundedReceiver<Key>), reqwest::Error> {
        // Pods are reached directly, whatever proxy the operator is told to use.
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(TIMEOUT)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(5))
            .build()?;
        let (news, receiver) = mpsc::unbounded_channel();
        let slots = Arc::new(Semaphore::new(QUESTIONS_AT_ONCE));
        Ok((Self { http, follows: Mutex::default(), slots, news }, receiver))
    }

    fn follows(&self) -> MutexGuard<'_, HashMap<String, Follow>> {
        self.follows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks this coordinator from now on, instead of any other of the query.
    pub fn follow(&self, key: Key, address: Address) {
        let mut follows = self.follows();
        if follows.get(&address.id).is_some_and(|known| known.address == address) {
            return;
        }
        let latest = Arc::default();
        let task = tokio::spawn(ask_on(
            self.http.clone(),
            address.clone(),
            Arc::clone(&latest),
            Arc::clone(&self.slots),
            self.news.clone(),
            key,
        ));
        let follow = Follow { address: address.clone(), latest, task: task.abort_handle() };
        if let Some(before) = follows.insert(address.id, follow) {
            before.task.abort();
        }
    }

    /// The newest word of an attempt's coordinator.
    pub fn latest(&self, id: &str, attempt: u32) -> Option<Arc<Report>> {
        let follows = self.follows();
        let follow = follows.get(id).filter(|follow| follow.address.attempt == attempt)?;
        follow.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

    /// Cancels a query, or lets a finished coordinator go. One that does not answer is on its way out anyway.
    pub async fn dismiss(&self, address: &Address) {
        let request = self.http.delete(url(address)).bearer_auth(&address.token).timeout(DISMISS_TIMEOUT);
        if let Err(error) = request.send().await {
            tracing::debug!(%error, "the coordinator did not hear that it may go");
        }
    }
}

fn url(address: &Address) -> String {
    let Address { id, ip, .. } = address;
    if ip.contains(':') {
        format!("http://[{ip}]:{HTTP_PORT}/api/v1/queries/{id}")
    } else {
        format!("http://{ip}:{HTTP_PORT}/api/v1/queries/{id}")
    }
}

async fn ask_on(
    http: reqwest::Client,
    address: Address,
    latest: Arc<Mutex<Option<Arc<Report>>>>,
    slots: Arc<Semaphore>,
    news: mpsc::UnboundedSender<Key>,
    key: Key,
) {
    let began = Instant::now();
    let mut answered = Instant::now();
    loop {
        let answer = {
            let Ok(_slot) = slots.acquire().await else { return };
            ask(&http, &address).await
        };
        match answer {
            Ok(Some(report)) => {
                answered = Instant::now();
                let ended = report.verdict().is_some();
                let is_new = {
                    let mut known = latest.lock().unwrap_or_else(PoisonError::into_inner);
                    let is_new = known.as_deref() != Some(&report);
                    if is_new {
                        *known = Some(Arc::new(report));
                    }
                    is_new
                };
                if (is_new && news.send(key.clone()).is_err()) || ended {
                    return;
                }
            }
            // It has not read its job yet.
            Ok(None) => answered = Instant::now(),
            Err(error) => tracing::debug!(query = key.1, namespace = key.0, %error, "no answer"),
        }
        let pause = if began.elapsed() < EAGER_FOR {
            EAGER
        } else if answered.elapsed() > EAGER_FOR {
            SILENT
        } else {
            STEADY
        };
        tokio::time::sleep(pause).await;
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
    Ok(Some(serde_json::from_slice(&body)?))
}
