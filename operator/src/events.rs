//! Publishes Kubernetes Events, apart from the reconciles, through one recorder that aggregates repetitions.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;

use crate::query::plan::Notice;

/// Limit of the API server for an Event's note.
const MAX_NOTE_BYTES: usize = 1000;
/// How many Events may wait to be sent. Further ones are dropped rather than block queries.
const MAX_WAITING_EVENTS: usize = 10_000;

/// The object that Events are about.
pub struct Regarding(ObjectReference);

impl Regarding {
    pub fn of<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        Self(ObjectReference { field_path: None, ..object.object_ref(&()) })
    }
}

#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(Event, ObjectReference)>,
}

impl Events {
    /// The task ends once every handle is dropped and the queue is sent.
    pub fn start(client: Client, instance: String) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(MAX_WAITING_EVENTS);
        let reporter = Reporter { controller: "floe-operator".into(), instance: Some(instance) };
        let recorder = Arc::new(Recorder::new(client, reporter));
        let task = tokio::spawn(async move {
            while let Some((event, regarding)) = waiting.recv().await {
                if let Err(error) = recorder.publish(&event, &regarding).await {
                    tracing::debug!(%error, reason = event.reason, "an Event was not taken");
                }
            }
        });
        (Self { queue }, task)
    }

    pub fn publish(&self, regarding: &Regarding, notice: Notice) {
        let action = if notice.pod.is_some() { "ReplacePod" } else { "Reconcile" };
        let secondary = notice.pod.map(|name| ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(name),
            namespace: regarding.0.namespace.clone(),
            ..ObjectReference::default()
        });
        let event = Event {
            type_: if notice.warning { EventType::Warning } else { EventType::Normal },
            reason: notice.reason.as_str().to_owned(),
            note: Some(cut(notice.note)),
            action: action.to_owned(),
            secondary,
        };
        // A full queue means that the API server is behind; the status says the same.
        if self.queue.try_send((event, regarding.0.clone())).is_err() {
            tracing::debug!("an Event was dropped");
        }
    }
}

fn cut(mut note: String) -> String {
    if note.len() > MAX_NOTE_BYTES {
        let mut end = MAX_NOTE_BYTES;
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        note.truncate(end);
        note.push('…');
    }
    note
}
