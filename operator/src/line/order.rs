//! The line in which the queries of a namespace wait for its quota: the order, who may try to create pods, and who has
//! had its turn. Pure: the time and the quotas' contents are arguments.
//!
//! Only the first in line tries to create pods, and only when the quotas have room for all that it needs to start. So
//! no two queries each hold half of what they need, and nothing is refused again and again. What a query may still
//! create after its turn is reserved for it until it has it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::quota::{Need, Quota, has_room, never};
use crate::pods::Key;

/// Retry delay when a pod is refused although the quota shows room (scopes are not visible).
const RETRY: SignedDuration = SignedDuration::from_secs(15);
/// Retry delay when the quotas cannot be read.
const RETRY_BLIND: SignedDuration = SignedDuration::from_secs(2);
/// How long to reserve what was granted: a coordinator that does not come up must not block others.
const RESERVED_FOR: SignedDuration = SignedDuration::from_secs(60);
/// Grace period before a query that is not first must release its pods.
const GRACE_PERIOD: SignedDuration = SignedDuration::from_secs(5);

/// What a query waits for, in the order of priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A pod that cleans up after an ended query.
    Cleaning,
    /// A replacement for a lost worker of a running query.
    AtWork,
    Starting,
    /// Workers beyond those that the query needs to start.
    Extra,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    pub class: Class,
    pub created: Timestamp,
    pub uid: String,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    /// Why it waits, in the API server's words.
    words: String,
    since: Timestamp,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    Waiting,
    /// It has had its turn; this is what it still has to create.
    Admitted(Need, Timestamp),
    /// Even an empty namespace would have no room for it.
    Never,
}

/// What a query in the line may do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Try,
    Wait(Waiting),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many queries are ahead of it.
    pub ahead: u32,
    pub words: String,
    /// It must release its pods, which those ahead of it can use.
    pub give_back: bool,
    /// It cannot run until the quota is raised.
    pub is_never: bool,
    /// It waits for nodes, not for a quota.
    pub for_nodes: bool,
}

#[derive(Debug, Default)]
pub struct Line {
    entries: BTreeMap<Rank, Entry>,
    /// The last refusal, and what the quotas said before it.
    refused: Option<(Timestamp, Option<Vec<Quota>>)>,
}

impl Line {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn holds(&self, uid: &str) -> bool {
        self.rank(uid).is_some()
    }

    fn rank(&self, uid: &str) -> Option<Rank> {
        self.entries.keys().find(|rank| rank.uid == uid).cloned()
    }

    /// Adds a query to the line, or updates what it waits for. It keeps its waiting time.
    pub fn join(&mut self, rank: Rank, key: Key, words: &str, now: Timestamp) {
        let known = self.rank(&rank.uid).and_then(|known| self.entries.remove(&known));
        let mut entry = known.unwrap_or(Entry { key, words: String::new(), since: now, state: State::Waiting });
        if !words.is_empty() {
            words.clone_into(&mut entry.words);
        }
        self.entries.insert(rank, entry);
    }

    /// Records that a request was refused. `before`: what the quotas said before it.
    pub fn refuse(&mut self, rank: Rank, key: Key, words: &str, before: Option<Vec<Quota>>, now: Timestamp) {
        self.join(rank.clone(), key, words, now);
        if let Some(entry) = self.entries.get_mut(&rank) {
            if matches!(entry.state, State::Admitted(..)) {
                entry.since = now;
            }
            entry.state = State::Waiting;
        }
        self.refused = Some((now, before));
    }

    /// Records that a request was granted; the query will create no more than `left`.
    pub fn grant(&mut self, uid: &str, left: Need, now: Timestamp) {
        let Some(rank) = self.rank(uid) else { return };
        if left.is_nothing() {
            self.entries.remove(&rank);
        } else if let Some(entry) = self.entries.get_mut(&rank) {
            let since = if let State::Admitted(_, since) = entry.state { since } else { now };
            entry.state = State::Admitted(left, since);
        }
        self.refused = None;
    }

    pub fn leave(&mut self, uid: &str) -> bool {
        self.rank(uid).is_some_and(|rank| self.entries.remove(&rank).is_some())
    }

    /// How many queries wait ahead of one of this rank.
    pub fn ahead_of(&self, rank: &Rank) -> u32 {
        let before = self.entries.range(..rank).filter(|(_, entry)| entry.state == State::Waiting);
        before.count().try_into().unwrap_or(u32::MAX)
    }

    /// Whether the decision depends on the quotas: it is first in line, or was ruled out before.
    pub fn needs_quotas(&self, uid: &str) -> bool {
        let Some(rank) = self.rank(uid) else { return false };
        let state = self.entries.get(&rank).map(|entry| &entry.state);
        state == Some(&State::Never) || (state == Some(&State::Waiting) && self.ahead_of(&rank) == 0)
    }

    /// Decides for a query in the line. `missing`: what it still has to create; `whole`: all that it needs to start.
    pub fn decide(
        &mut self,
        uid: &str,
        quotas: Option<&[Quota]>,
        missing: &Need,
        whole: &Need,
        now: Timestamp,
    ) -> Option<Answer> {
        let rank = self.rank(uid)?;
        let ahead = self.ahead_of(&rank);
        let promised = self.entries.values().fold(Need::default(), |sum, entry| match &entry.state {
            State::Admitted(left, since) if now.duration_since(*since) < RESERVED_FOR => sum.plus(left),
            State::Admitted(..) | State::Waiting | State::Never => sum,
        });
        let refused = self.refused.clone();
        let entry = self.entries.get_mut(&rank)?;
        if matches!(entry.state, State::Admitted(..)) {
            return Some(Answer::Try);
        }
        if let Some(quotas) = quotas {
            match never(quotas, whole) {
                Some(words) => (entry.state, entry.words) = (State::Never, words),
                None => entry.state = State::Waiting,
            }
        }
        let is_never = entry.state == State::Never;
        let give_back = (ahead > 0 || is_never) && now.duration_since(entry.since) >= GRACE_PERIOD;
        let waiting = Waiting { ahead, words: entry.words.clone(), give_back, is_never, for_nodes: false };
        if ahead > 0 || is_never {
            return Some(Answer::Wait(waiting));
        }
        let since = |at: Timestamp| now.duration_since(at);
        let may_try = match (quotas, &refused) {
            (Some(quotas), _) if !has_room(quotas, &missing.clone().plus(&promised)) => false,
            (Some(quotas), Some((at, Some(before)))) => before != quotas || since(*at) >= RETRY,
            (Some(_), Some((_, None)) | None) => true,
            (None, Some((at, _))) => since(*at) >= RETRY_BLIND,
            (None, None) => true,
        };
        Some(if may_try { Answer::Try } else { Answer::Wait(waiting) })
    }

    /// The waiting queries in order.
    pub fn waiting(&self) -> impl Iterator<Item = &Key> {
        self.entries.values().filter(|entry| entry.state == State::Waiting).map(|entry| &entry.key)
    }
}
