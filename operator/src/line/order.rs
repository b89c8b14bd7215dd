//! The line in which the queries of a namespace wait for its quota: who is before whom, who may try, and who has had its
//! turn. Pure: it is told the time and what the quotas say.
//!
//! Only the first of the line tries to make pods, and only when the quotas have room for all that it needs to start, so that
//! no two hold half of what each needs and nothing is refused again and again. What one may take that has had its turn is set
//! aside for it until it has it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::quota::{Need, Quota, has_room, never};
use crate::pods::Key;

/// A refusal against what the quotas' numbers say is tried again after so long; it may hang on what they do not tell.
const AGAIN: SignedDuration = SignedDuration::from_secs(15);
/// The same where the quotas cannot be read.
const AGAIN_BLIND: SignedDuration = SignedDuration::from_secs(2);
/// What was granted is kept free for so long: a coordinator that does not come up must not hold others up.
const SET_ASIDE: SignedDuration = SignedDuration::from_secs(60);
/// Who is not the first keeps the pods that it has for so long.
const GIVE_BACK: SignedDuration = SignedDuration::from_secs(5);

/// What a query waits for, in the order in which it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A pod that removes what an ended query has left.
    Cleaning,
    /// A worker of a query that is at work, in place of a lost one.
    AtWork,
    Starting,
    /// Workers beyond those that the query needs.
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
    /// Why it waits, in the server's words.
    words: String,
    since: Timestamp,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    Waiting,
    /// It has had its turn; this is what it still has to make.
    Admitted(Need, Timestamp),
    /// Even an empty namespace has no room for it.
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
    /// How many come before it.
    pub ahead: u32,
    pub words: String,
    /// What it holds is of use to those before it.
    pub give_back: bool,
    /// Not before the quota is raised.
    pub is_never: bool,
    /// It waits for nodes, and not for a quota.
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

    /// Takes a query in, or tells it apart by what it waits for now. It keeps how long it has waited.
    pub fn join(&mut self, rank: Rank, key: Key, words: &str, now: Timestamp) {
        let known = self.rank(&rank.uid).and_then(|known| self.entries.remove(&known));
        let mut entry = known.unwrap_or(Entry { key, words: String::new(), since: now, state: State::Waiting });
        if !words.is_empty() {
            words.clone_into(&mut entry.words);
        }
        self.entries.insert(rank, entry);
    }

    /// What it asked for was refused. `before` is what the quotas said then.
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

    /// It was granted what it asked for, and will ask for no more than this.
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

    /// How many wait before one of this rank.
    pub fn ahead_of(&self, rank: &Rank) -> u32 {
        let before = self.entries.range(..rank).filter(|(_, entry)| entry.state == State::Waiting);
        before.count().try_into().unwrap_or(u32::MAX)
    }

    /// Whether the quotas decide of it: it is the first, or may become possible.
    pub fn needs_quotas(&self, uid: &str) -> bool {
        let Some(rank) = self.rank(uid) else { return false };
        let state = self.entries.get(&rank).map(|entry| &entry.state);
        state == Some(&State::Never) || (state == Some(&State::Waiting) && self.ahead_of(&rank) == 0)
    }

    /// Decides for a query of the line. `missing` is what it would make now and soon, `whole` all that it needs to start.
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
            State::Admitted(left, since) if now.duration_since(*since) < SET_ASIDE => sum.plus(left),
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
        let give_back = (ahead > 0 || is_never) && now.duration_since(entry.since) >= GIVE_BACK;
        let waiting = Waiting { ahead, words: entry.words.clone(), give_back, is_never, for_nodes: false };
        if ahead > 0 || is_never {
            return Some(Answer::Wait(waiting));
        }
        let since = |at: Timestamp| now.duration_since(at);
        let may_try = match (quotas, &refused) {
            (Some(quotas), _) if !has_room(quotas, &missing.clone().plus(&promised)) => false,
            (Some(quotas), Some((at, Some(before)))) => before != quotas || since(*at) >= AGAIN,
            (Some(_), Some((_, None)) | None) => true,
            (None, Some((at, _))) => since(*at) >= AGAIN_BLIND,
            (None, None) => true,
        };
        Some(if may_try { Answer::Try } else { Answer::Wait(waiting) })
    }

    /// The queries that wait, the first one first.
    pub fn waiting(&self) -> impl Iterator<Item = &Key> {
        self.entries.values().filter(|entry| entry.state == State::Waiting).map(|entry| &entry.key)
    }
}
