//! The progress of a query as server-sent events: its status at every change, until it ends. The object itself is
//! watched, so any replica can serve it, and it survives restarts of the operator and of the coordinator.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderName;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use kube::api::{DynamicObject, WatchEvent};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::auth::Allowed;
use super::call::{self, Call};
use super::limits::Slot;
use super::problem::{Kind, Problem};
use super::{Api, object, view};

/// Duration of one watch; the caller's right is checked again before the next.
const WATCH_SECONDS: u32 = 50;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Retry while the API server is unavailable for a moment.
const RETRY: Duration = Duration::from_secs(1);
const RETRIES: u32 = 30;

pub async fn follow(api: Arc<Api>, call: Call) -> Result<Response, Problem> {
    let first = object::get(&api.client, &call.allowed).await?;
    let slot = api.streams.take(&call.allowed.user().name).map_err(|why| {
        let mut problem = Problem::new(Kind::TooManyRequests, why);
        problem.retry_after_seconds = Some(5);
        problem
    })?;
    let (sender, receiver) = mpsc::channel(4);
    let most = api.settings.limits.stream;
    tokio::spawn(async move {
        let told = Telling {
            api,
            sender: sender.clone(),
            token: call.token,
            allowed: call.allowed,
            version: String::new(),
            uid: first.metadata.uid.clone(),
            _slot: slot,
        };
        tokio::select! {
            () = told.all(first) => {}
            () = sender.closed() => {}
            // The client reconnects by itself, as clients of event streams do.
            () = tokio::time::sleep(most) => {}
        }
    });
    let events = Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Have an Ingress pass events on without buffering.
    Ok(([(HeaderName::from_static("x-accel-buffering"), "no")], events).into_response())
}

/// The event types.
pub const EVENTS: [&str; 4] = ["status", "end", "deleted", "problem"];

struct Telling {
    api: Arc<Api>,
    sender: mpsc::Sender<Result<Event, Infallible>>,
    token: String,
    allowed: Allowed,
    /// The resource version that was sent last.
    version: String,
    /// UID of the query: another query of the same name is none of this caller's business.
    uid: Option<String>,
    _slot: Slot,
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum Then {
    More,
    End,
}

impl Telling {
    async fn all(mut self, first: DynamicObject) {
        let (mut now, mut failures) = (Some(first), 0);
        loop {
            if let Some(object) = now.take()
                && self.tell(&object).await == Then::End
            {
                return;
            }
            let round = self.round().await;
            let problem = match round {
                Ok(Then::End) => return,
                Ok(Then::More) => {
                    failures = 0;
                    continue;
                }
                Err(problem) => problem,
            };
            failures += 1;
            if problem.kind != Kind::Unavailable || failures > RETRIES {
                self.send("problem", "", &problem.json()).await;
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Checks the right again, reads the query, and sends its changes for one watch.
    async fn round(&mut self) -> Result<Then, Problem> {
        self.allowed = call::again(&self.api, &self.token, &self.allowed).await?;
        let Some(object) = object::find(&self.api.client, &self.allowed).await? else {
            return Ok(self.gone().await);
        };
        if self.tell(&object).await == Then::End {
            return Ok(Then::End);
        }
        let version = object::version(&object);
        let mut events = object::watch(&self.api.client, &self.allowed, &version, WATCH_SECONDS).await?;
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    if self.tell(&object).await == Then::End {
                        return Ok(Then::End);
                    }
                }
                Ok(WatchEvent::Deleted(_)) => return Ok(self.gone().await),
                Ok(WatchEvent::Bookmark(_)) => {}
                // Start the watch anew.
                Ok(WatchEvent::Error(_)) | Err(_) => break,
            }
        }
        Ok(Then::More)
    }

    async fn tell(&mut self, object: &DynamicObject) -> Then {
        let version = object::version(object);
        if self.uid != object.metadata.uid {
            return self.gone().await;
        }
        let ended = view::has_ended(object);
        if version != self.version {
            self.send(if ended { "end" } else { "status" }, &version, &view::progress(object)).await;
            self.version = version;
        }
        if ended { Then::End } else { Then::More }
    }

    async fn gone(&self) -> Then {
        let what =
            serde_json::json!({"name": self.allowed.name(), "namespace": self.allowed.namespace(), "uid": self.uid});
        self.send("deleted", "", &what).await;
        Then::End
    }

    async fn send(&self, kind: &str, id: &str, data: &serde_json::Value) {
        // JSON has no raw line breaks, so setting the data cannot fail.
        let event = Event::default().event(kind).data(data.to_string());
        let event = if id.is_empty() { event } else { event.id(id) };
        // If the reader is gone, the whole stream ends.
        let _ = self.sender.send(Ok(event)).await;
    }
}
