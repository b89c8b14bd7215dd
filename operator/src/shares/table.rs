//! Who may be at work, and who is next. Pure: no clock, no client.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use crate::pods::Key;

/// No limit where none is given.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    max_pods: Option<u32>,
    max_queries: Option<u32>,
    max_pods_per_namespace: Option<u32>,
    max_queries_per_namespace: Option<u32>,
    /// Shares of namespaces; 1 for those that are not named.
    weights: BTreeMap<String, u32>,
}

/// Parses the operator's option, which is JSON. An empty one sets no limits.
pub fn read(text: &str) -> Result<Limits, String> {
    let limits: Limits = match text.trim() {
        "" => return Ok(Limits::default()),
        text => serde_json::from_str(text).map_err(|error| format!("are no limits: {error}"))?,
    };
    let smallest = [limits.max_queries, limits.max_queries_per_namespace].into_iter().flatten().min();
    if smallest == Some(0) || limits.weights.values().any(|weight| *weight == 0) {
        return Err("are no limits: numbers of queries and weights are 1 or more".to_owned());
    }
    // A coordinator and a worker.
    if [limits.max_pods, limits.max_pods_per_namespace].into_iter().flatten().any(|pods| pods < 2) {
        return Err("are no limits: numbers of pods are 2 or more".to_owned());
    }
    Ok(limits)
}

impl Limits {
    pub fn are_none(&self) -> bool {
        let all = [self.max_pods, self.max_queries, self.max_pods_per_namespace, self.max_queries_per_namespace];
        all.iter().all(Option::is_none)
    }

    fn weight(&self, namespace: &str) -> u64 {
        self.weights.get(namespace).copied().unwrap_or(1).max(1).into()
    }
}

/// What a query may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// There are no limits, or none for it.
    #[default]
    Free,
    /// The queries at work are not known yet.
    NotYet,
    /// It may have this many workers.
    Held { workers: u32 },
    Waiting {
        /// Queries of its namespace that come first.
        ahead: u32,
        words: String,
    },
    /// It asks for more than the limits allow in all.
    Never { words: String },
}

impl Share {
    pub fn is_open(&self) -> bool {
        matches!(self, Share::Free | Share::Held { .. })
    }
}

/// A query and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub uid: String,
    pub key: Key,
    pub created: Timestamp,
    pub workers: u32,
}

impl Claim {
    fn pods(&self) -> u32 {
        self.workers.saturating_add(1)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    pods: u32,
    queries: u32,
}

enum Room {
    Here,
    /// The limits of its namespace are reached.
    NotInNamespace,
    NotAtAll,
}

pub struct Table {
    limits: Limits,
    held: BTreeMap<String, Claim>,
    used: BTreeMap<String, Used>,
    /// By namespace, in order of creation.
    waiting: BTreeMap<String, BTreeMap<(Timestamp, String), Claim>>,
}

impl Table {
    /// With those that are at work, whether they fit or not: limits that were lowered stop nothing.
    pub fn new(limits: Limits, at_work: impl Iterator<Item = Claim>) -> Table {
        let mut table = Table { limits, held: BTreeMap::new(), used: BTreeMap::new(), waiting: BTreeMap::new() };
        at_work.for_each(|claim| table.hold(claim));
        table
    }

    /// The share of a query, and others whose turn has come.
    pub fn ask(&mut self, claim: Claim, may_enter: bool) -> (Share, Vec<Key>) {
        if let Some(held) = self.held.get(&claim.uid) {
            return (Share::Held { workers: held.workers }, Vec::new());
        }
        if let Some(words) = self.never(&claim) {
            return (Share::Never { words }, self.leave(&claim.uid));
        }
        if !may_enter {
            let granted = self.leave(&claim.uid);
            return (Share::Waiting { ahead: 0, words: "it is held".to_owned() }, granted);
        }
        let (uid, namespace) = (claim.uid.clone(), claim.key.0.clone());
        let place = (claim.created, uid.clone());
        let workers = claim.workers;
        self.waiting.entry(namespace.clone()).or_default().insert(place.clone(), claim);
        let mut granted = self.grant();
        granted.retain(|(of, _)| *of != uid);
        let others = granted.into_iter().map(|(_, key)| key).collect();
        if self.held.contains_key(&uid) {
            return (Share::Held { workers }, others);
        }
        let ahead = self.waiting.get(&namespace).map_or(0, |line| line.range(..place).count());
        let share = Share::Waiting { ahead: u32::try_from(ahead).unwrap_or(u32::MAX), words: self.words(&namespace) };
        (share, others)
    }

    /// Gives up a query's share or place; returns those whose turn has come.
    pub fn leave(&mut self, uid: &str) -> Vec<Key> {
        if let Some(claim) = self.held.remove(uid) {
            let used = self.used.entry(claim.key.0.clone()).or_default();
            used.pods = used.pods.saturating_sub(claim.pods());
            used.queries = used.queries.saturating_sub(1);
            if *used == Used::default() {
                self.used.remove(&claim.key.0);
            }
        } else {
            let is_there = |line: &BTreeMap<(Timestamp, String), Claim>| line.keys().any(|(_, of)| of == uid);
            let Some((_, line)) = self.waiting.iter_mut().find(|(_, line)| is_there(line)) else { return Vec::new() };
            line.retain(|(_, of), _| of != uid);
            self.waiting.retain(|_, line| !line.is_empty());
        }
        self.grant().into_iter().map(|(_, key)| key).collect()
    }

    fn hold(&mut self, claim: Claim) {
        let used = self.used.entry(claim.key.0.clone()).or_default();
        used.pods = used.pods.saturating_add(claim.pods());
        used.queries = used.queries.saturating_add(1);
        self.held.insert(claim.uid.clone(), claim);
    }

    /// Gives shares to those whose turn it is, as far as there is room.
    fn grant(&mut self) -> Vec<(String, Key)> {
        let mut granted = Vec::new();
        while let Some(claim) = self.next() {
            let place = (claim.created, claim.uid.clone());
            if let Some(line) = self.waiting.get_mut(&claim.key.0) {
                line.remove(&place);
            }
            self.waiting.retain(|_, line| !line.is_empty());
            granted.push((claim.uid.clone(), claim.key.clone()));
            self.hold(claim);
        }
        granted
    }

    /// The next query: the oldest of the namespace that has the fewest pods for its weight. If there is no room for it, it is
    /// waited for, so that large ones get their turn; a namespace at its own limits keeps nobody else waiting.
    fn next(&self) -> Option<Claim> {
        let mut lines: Vec<(&str, &Claim)> = self
            .waiting
            .iter()
            .filter_map(|(namespace, line)| Some((namespace.as_str(), line.values().next()?)))
            .collect();
        let (used, weight) = (|n: &str| u64::from(self.used(n).pods), |n: &str| self.limits.weight(n));
        lines.sort_by(|(a, first), (b, other)| {
            let order = (used(a) * weight(b)).cmp(&(used(b) * weight(a)));
            order.then_with(|| (first.created, &first.uid).cmp(&(other.created, &other.uid)))
        });
        for (_, claim) in lines {
            match self.room(claim) {
                Room::Here => return Some(claim.clone()),
                Room::NotInNamespace => {}
                Room::NotAtAll => return None,
            }
        }
        None
    }

    fn used(&self, namespace: &str) -> Used {
        self.used.get(namespace).copied().unwrap_or_default()
    }

    fn total(&self) -> Used {
        let add = |a: Used, b: &Used| Used { pods: a.pods.saturating_add(b.pods), queries: a.queries + b.queries };
        self.used.values().fold(Used::default(), add)
    }

    fn room(&self, claim: &Claim) -> Room {
        let fits = |used: Used, pods: Option<u32>, queries: Option<u32>| {
            pods.is_none_or(|most| used.pods.saturating_add(claim.pods()) <= most)
                && queries.is_none_or(|most| used.queries < most)
        };
        let limits = &self.limits;
        if !fits(self.used(&claim.key.0), limits.max_pods_per_namespace, limits.max_queries_per_namespace) {
            return Room::NotInNamespace;
        }
        if fits(self.total(), limits.max_pods, limits.max_queries) { Room::Here } else { Room::NotAtAll }
    }

    fn never(&self, claim: &Claim) -> Option<String> {
        let limits = [self.limits.max_pods, self.limits.max_pods_per_namespace];
        let most = limits.into_iter().flatten().min()?;
        (claim.pods() > most).then(|| {
            let pods = claim.pods();
            format!(
                "the query may have {pods} pods, and no more than {most} are allowed at once: ask for fewer workers"
            )
        })
    }

    /// What is at work, and what is allowed.
    fn words(&self, namespace: &str) -> String {
        let (own, all, limits) = (self.used(namespace), self.total(), &self.limits);
        let told = |used: u32, most: Option<u32>, what: &str| most.map(|most| format!("{used} of {most} {what}"));
        let words: Vec<String> = [
            told(own.queries, limits.max_queries_per_namespace, "queries of the namespace"),
            told(own.pods, limits.max_pods_per_namespace, "pods of the namespace"),
            told(all.queries, limits.max_queries, "queries"),
            told(all.pods, limits.max_pods, "pods"),
        ]
        .into_iter()
        .flatten()
        .collect();
        format!("at work: {}", words.join(", "))
    }
}
