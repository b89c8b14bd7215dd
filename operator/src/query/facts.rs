//! The input of `plan`: everything observed of one query, as plain values. Made by `observe`. No effects, no client.

use std::collections::BTreeMap;
use std::sync::Arc;

use floe_api::Reason;
use floe_api::job::{Job, StorageOptions};
use floe_api::report::{Report, WORKER_ORPHANED, WORKER_RESTART};
use floe_api::{AfterCondition, DistributedQuery, DistributedQueryStatus, Phase, PinnedStatus, Quantity};
use jiff::Timestamp;

use super::names::Place;
use crate::context::register::Loan;
use crate::coordinator::Verdict;
use crate::gang::Gang;
use crate::kueue::Standing;
pub use crate::line::Waiting;
use crate::shares::Share;

/// One query and everything known about it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object. It may lack a large inline plan; `inputs` has it in full.
    pub query: Arc<DistributedQuery>,
    /// The latest status, which may be newer than the object's.
    pub status: DistributedQueryStatus,
    /// The pods of all attempts, including those created a moment ago.
    pub pods: Vec<PodFacts>,
    /// Pods that existed and are gone, by name, with the reason as far as it was seen.
    pub gone: BTreeMap<String, Loss>,
    /// The report of the current attempt's coordinator; none until it answers.
    pub report: Option<Arc<Report>>,
    /// The coordinator of a context answers, but does not know the attempt.
    pub is_absent: bool,
    /// Which of its pods has not answered for a while, and why.
    pub silence: Option<String>,
    /// The context that it borrows.
    pub loan: Loan,
    /// The context's coordinator that runs the attempt, treated as the query's own.
    pub lender: Option<PodFacts>,
    /// What a start needs. Read only if `plan` asks for it.
    pub inputs: Option<Arc<Inputs>>,
    /// What the cluster refused when something was last created.
    pub trouble: Option<Trouble>,
    /// What an attempt that begins now would be pinned to; none if its pods cannot be built.
    pub pins: Option<PinnedStatus>,
    /// The queries that must end first.
    pub before: Vec<Before>,
    /// Its state in a queue of Kueue.
    pub standing: Standing,
    /// Its share by the operator's own limits.
    pub share: Share,
    /// Whether it may create pods now.
    pub turn: Turn,
    /// Why the object cannot be parsed as a query (such as an invalid pod template or affinity).
    pub unreadable: Option<String>,
}

/// A query that must end before this one starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    pub query: String,
    pub condition: AfterCondition,
    pub state: State,
}

/// The state of such a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The queries have not been read yet.
    NotYet,
    Missing,
    Going,
    Ended {
        phase: Phase,
        reason: String,
    },
    /// It waits for this one itself: the names along the cycle, in order.
    Circle(Vec<String>),
}

impl Before {
    pub fn is_met(&self) -> bool {
        match (&self.state, self.condition) {
            (State::Ended { phase, .. }, AfterCondition::Succeeded) => *phase == Phase::Succeeded,
            (State::Ended { .. }, AfterCondition::Ended) => true,
            _ => false,
        }
    }
}

/// Whether a query may create pods, if a quota limits those of its namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// No quota is known to be in the way.
    #[default]
    Free,
    /// Others wait, and this query is first.
    Mine,
    Waiting(Waiting),
}

/// What the Secrets of an attempt are made from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The current object in full.
    pub query: Arc<DistributedQuery>,
    /// The options that `secretRef`s resolved to, by the name of the storage.
    pub secrets: BTreeMap<String, StorageOptions>,
    /// The properties that `secretRef`s of catalogs resolved to, by the name of the catalog.
    pub catalog_secrets: BTreeMap<String, StorageOptions>,
    /// The first attempt's job, which later attempts reuse, and the Secrets with its plan.
    pub first: Option<(Job, PlanSecrets)>,
    /// What the spec refers to and the namespace does not have.
    pub missing: Vec<Missing>,
}

/// The Secrets with a large inline plan: `<query>-floe-<attempt>-<uid>-plan-<0..parts>`.
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

/// A refusal of the API server, in the words of the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub reason: Reason,
    pub message: String,
    /// Retrying does not help.
    pub fatal: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    pub name: String,
    pub uid: String,
    pub place: Place,
    pub created_at: Option<Timestamp>,
    /// When a requested deletion takes effect at the latest.
    pub deleting_at: Option<Timestamp>,
    pub ip: Option<String>,
    pub node: Option<String>,
    /// Why the cluster is removing the pod, if it is.
    pub disruption: Option<Loss>,
    /// Its node does not answer.
    pub unready: bool,
    /// Who places the pods of its attempt together.
    pub gang: Option<Gang>,
    pub state: PodState,
}

/// The state of the main container.
#[derive(Clone, Debug, PartialEq)]
pub enum PodState {
    /// Not started yet, and what prevents it, if anything.
    Waiting(Option<Stuck>),
    Running,
    Ended(Ending),
}

/// Why a pod does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub reason: Reason,
    /// The message of the scheduler or the kubelet.
    pub words: String,
    /// It is permanent.
    pub fatal: bool,
}

/// How the main container ended.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Ending {
    pub exit_code: Option<i32>,
    pub at: Option<Timestamp>,
    pub oom: bool,
    /// The termination message, or the last lines of the log.
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
    /// For a pod that is gone or being deleted, if nothing more is known.
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

    /// Whether the pod uses nothing any more: it has ended, or its deletion is overdue on an unresponsive node.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.is_ended() || self.deleting_at.is_some_and(|at| now.duration_since(at).as_secs() > STUCK_DELETION_SECONDS)
    }

    pub fn attempt(&self) -> Option<u32> {
        self.place.attempt()
    }

    /// Why a pod that should be running is not, if that is known.
    pub fn loss(&self) -> Option<Loss> {
        match (&self.state, &self.disruption) {
            (PodState::Ended(ending), _) if ending.oom => {
                Some(Loss { reason: Reason::OutOfMemory, words: "was killed for running out of memory".into() })
            }
            (_, Some(loss)) => Some(loss.clone()),
            // Deleted by someone else: its exit code says nothing.
            (PodState::Ended(_), None) if self.deleting_at.is_some() => Some(Loss::deleted()),
            // Close to its memory limit a worker exits before the kernel kills it.
            (PodState::Ended(ending), None) if ending.exit_code == Some(WORKER_RESTART.into()) => {
                Some(Loss { reason: Reason::OutOfMemory, words: ending.describe() })
            }
            (PodState::Ended(ending), None) => Some(Loss { reason: Reason::WorkerLost, words: ending.describe() }),
            (PodState::Waiting(_) | PodState::Running, None) => self.deleting_at.is_some().then(Loss::deleted),
        }
    }
}

/// How long after its grace period a deleted pod counts as gone if its node does not answer.
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

/// The end of a text, at most `bytes` long, cut at a character boundary.
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

    /// Takes in what Kueue and the operator's own limits say of it: it is a query of no more workers than were granted.
    pub fn enter(&mut self, standing: Standing, share: Share) {
        (self.standing, self.share) = (standing, share);
        if self.granted_workers().is_some() {
            self.query = Arc::new(self.bound(&self.query));
        }
    }

    fn granted_workers(&self) -> Option<u32> {
        match (&self.standing, &self.share) {
            (Standing::Admitted(grant), _) => Some(grant.workers),
            (_, Share::Held { workers }) => Some(*workers),
            _ => None,
        }
    }

    /// The query with no more workers than were granted.
    pub fn bound(&self, query: &DistributedQuery) -> DistributedQuery {
        let mut query = query.clone();
        let compute = &mut query.spec.compute;
        let Some(most) = self.granted_workers().filter(|most| compute.worker_count() > *most) else { return query };
        if compute.max_workers.is_some() {
            compute.max_workers = Some(most);
            compute.min_workers = compute.min_workers.map(|least| least.min(most));
        } else {
            compute.workers = Some(most);
        }
        query
    }

    /// Whether it may have pods, as far as others decide that.
    pub fn is_admitted(&self) -> bool {
        self.standing.is_open() && self.share.is_open()
    }

    /// The current attempt, or the last one.
    pub fn attempt(&self) -> u32 {
        self.status.attempt.unwrap_or(0)
    }

    pub fn pod(&self, place: Place) -> Option<&PodFacts> {
        self.pods.iter().find(|pod| pod.place == place)
    }

    /// Whether a context runs it: the query then has no pods, except for cleaning up.
    pub fn is_borrowed(&self) -> bool {
        self.query.spec.compute.context_ref.is_some()
    }

    /// Memory of the workers that run it.
    pub fn worker_memory(&self) -> &Quantity {
        match &self.loan {
            Loan::Lent(lent) => &lent.compute.memory,
            Loan::Own | Loan::NotYet | Loan::Missing => &self.query.spec.compute.memory,
        }
    }

    pub fn coordinator(&self) -> Option<&PodFacts> {
        if self.is_borrowed() {
            return self.lender.as_ref();
        }
        self.pod(Place::Coordinator { attempt: self.attempt() })
    }

    /// The outcome that the current coordinator reported, in its answer or its termination message.
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
