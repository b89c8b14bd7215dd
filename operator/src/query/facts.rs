//! What `plan` decides upon: everything observed of one query at one moment, as plain values. Made by `observe`; no
//! effect and no client belongs here.

use std::collections::BTreeMap;
use std::sync::Arc;

use floe_api::Reason;
use floe_api::job::{Job, StorageOptions};
use floe_api::report::{Report, WORKER_ORPHANED, WORKER_RESTART};
use floe_api::{DistributedQuery, DistributedQueryStatus};
use jiff::Timestamp;

use super::names::Place;
use crate::coordinator::Verdict;

/// One query and all that is known of it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object with its spec. A large inline plan may be left out of it; `inputs` has the whole.
    pub query: Arc<DistributedQuery>,
    /// The newest status, which may be newer than the object's.
    pub status: DistributedQueryStatus,
    /// The query's pods of all attempts, those made a moment ago included.
    pub pods: Vec<PodFacts>,
    /// Pods that were made and seen and are gone, by name, with what was last seen of why.
    pub gone: BTreeMap<String, Loss>,
    /// What the current attempt's coordinator says; absent until it answers.
    pub report: Option<Arc<Report>>,
    /// Which of its pods does not answer, after a while.
    pub silence: Option<String>,
    /// What a start needs. Read only when `plan` asks for it.
    pub inputs: Option<Arc<Inputs>>,
    /// What the cluster refused the last time something was made.
    pub trouble: Option<Trouble>,
    /// The object cannot be read as a query (a pod template or affinity of a wrong shape).
    pub unreadable: Option<String>,
}

/// Everything that the Secrets of an attempt are made of.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The object as it is now, whole.
    pub query: Arc<DistributedQuery>,
    /// What `secretRef`s resolved to, by the name of the storage.
    pub secrets: BTreeMap<String, StorageOptions>,
    /// The first attempt's job, which later attempts repeat, and the Secrets that its plan lies in.
    pub first: Option<(Job, PlanSecrets)>,
    /// What the spec names and the namespace lacks.
    pub missing: Vec<Missing>,
}

/// Where a large inline plan lies: `<query>-floe-<attempt>-<uid>-plan-<0..parts>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanSecrets {
    pub attempt: u32,
    pub parts: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub reason: Reason,
    pub message: String,
}

/// A refusal of the API server, as the user reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub reason: Reason,
    pub message: String,
    /// Trying again cannot help.
    pub fatal: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    pub name: String,
    pub uid: String,
    pub place: Place,
    pub created_at: Option<Timestamp>,
    /// When a deletion that was asked for takes effect at the latest.
    pub deleting_at: Option<Timestamp>,
    pub ip: Option<String>,
    pub node: Option<String>,
    /// Why the cluster takes the pod away, if it does.
    pub disruption: Option<Loss>,
    /// Its node does not answer.
    pub unready: bool,
    pub state: PodState,
}

/// Where the main container is.
#[derive(Clone, Debug, PartialEq)]
pub enum PodState {
    /// Not started yet; what holds it up, if something does.
    Waiting(Option<Stuck>),
    Running,
    Ended(Ending),
}

/// Why a pod does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub reason: Reason,
    /// The scheduler's or the kubelet's words.
    pub words: String,
    /// It cannot heal by itself.
    pub fatal: bool,
}

/// How the main container ended.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Ending {
    pub exit_code: Option<i32>,
    pub at: Option<Timestamp>,
    pub oom: bool,
    /// Termination message, or the log's last lines.
    pub words: String,
    pub verdict: Option<Verdict>,
}

/// Why a pod is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub reason: Reason,
    pub words: String,
}

impl Loss {
    /// Of a pod that is gone or on its way, when nothing more is known.
    pub fn deleted() -> Loss {
        Loss { reason: Reason::PodDeleted, words: "was deleted".into() }
    }
}

impl PodFacts {
    pub fn is_ended(&self) -> bool {
        matches!(self.state, PodState::Ended(_))
    }

    pub fn is_running(&self) -> bool {
        self.state == PodState::Running && self.deleting_at.is_none()
    }

    /// A pod that takes nothing any more: ended, or past the end of its deletion on a node that does not answer.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.is_ended() || self.deleting_at.is_some_and(|at| now.duration_since(at).as_secs() > STUCK_DELETION_SECONDS)
    }

    pub fn attempt(&self) -> Option<u32> {
        self.place.attempt()
    }

    /// Why a pod that should run does not, once it is known.
    pub fn loss(&self) -> Option<Loss> {
        match (&self.state, &self.disruption) {
            (PodState::Ended(ending), _) if ending.oom => {
                Some(Loss { reason: Reason::OutOfMemory, words: "was killed for running out of memory".into() })
            }
            (_, Some(loss)) => Some(loss.clone()),
            // Near its limit a worker gives up before the kernel ends it.
            (PodState::Ended(ending), None) if ending.exit_code == Some(WORKER_RESTART.into()) => {
                Some(Loss { reason: Reason::OutOfMemory, words: ending.describe() })
            }
            (PodState::Ended(ending), None) => Some(Loss { reason: Reason::WorkerLost, words: ending.describe() }),
            (PodState::Waiting(_) | PodState::Running, None) => self.deleting_at.is_some().then(Loss::deleted),
        }
    }
}

/// How long after a deletion's grace a pod that is still there counts as gone: its node does not answer.
const STUCK_DELETION_SECONDS: i64 = 30;

impl Ending {
    pub fn describe(&self) -> String {
        let code = match self.exit_code {
            Some(code) if code == i32::from(WORKER_RESTART) => format!("gave up for lack of memory (exit code {code})"),
            Some(code) if code == i32::from(WORKER_ORPHANED) => format!("lost the coordinator (exit code {code})"),
            Some(code) => format!("ended with exit code {code}"),
            None => "ended".to_owned(),
        };
        match self.words.trim() {
            "" => code,
            words => format!("{code}: {}", tail(words, 500)),
        }
    }
}

/// The end of a text, whole characters, at most `bytes` long.
fn tail(text: &str, bytes: usize) -> &str {
    let mut from = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

impl Observed {
    pub fn name(&self) -> &str {
        self.query.metadata.name.as_deref().unwrap_or_default()
    }

    /// The attempt at work, or the one that was last.
    pub fn attempt(&self) -> u32 {
        self.status.attempt.unwrap_or(0)
    }

    pub fn pod(&self, place: Place) -> Option<&PodFacts> {
        self.pods.iter().find(|pod| pod.place == place)
    }

    pub fn coordinator(&self) -> Option<&PodFacts> {
        self.pod(Place::Coordinator { attempt: self.attempt() })
    }

    /// The current coordinator's last word: what it answers, or what it left when it ended.
    pub fn verdict(&self) -> Option<Verdict> {
        let ended = self.coordinator().and_then(|pod| match &pod.state {
            PodState::Ended(ending) => ending.verdict.clone(),
            PodState::Waiting(_) | PodState::Running => None,
        });
        ended.or_else(|| self.report.as_deref().and_then(Verdict::of))
    }

    pub fn has_finalizer(&self) -> bool {
        self.query.metadata.finalizers.iter().flatten().any(|name| name == super::names::FINALIZER)
    }
}
