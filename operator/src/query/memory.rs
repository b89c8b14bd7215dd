//! What the operator remembers of a query between reconciles: pods it created, refusals, the status it wrote. Any of it
//! may be lost at any time; it only speeds up decisions and saves requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use floe_api::DistributedQueryStatus;
use jiff::Timestamp;

use super::facts::{PodFacts, PodState, Trouble};
use super::names::Place;

/// The memory of every query, by UID.
#[derive(Default)]
pub struct Memories {
    by_uid: Mutex<HashMap<String, Arc<Mutex<Memory>>>>,
}

impl Memories {
    pub fn of(&self, uid: &str) -> Arc<Mutex<Memory>> {
        let mut by_uid = self.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(by_uid.entry(uid.to_owned()).or_default())
    }

    pub fn forget(&self, uid: &str) {
        self.by_uid.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    pub fn keep_only(&self, uids: &BTreeSet<String>) {
        self.by_uid.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| uids.contains(uid));
    }
}

#[derive(Debug, Default)]
pub struct Memory {
    made: BTreeMap<String, Made>,
    pub trouble: Option<Trouble>,
    /// How many reconciles in a row were refused or failed.
    pub setbacks: u32,
    /// The latest status, until the watch shows it.
    pub written: Option<Written>,
    pub written_at: Option<Timestamp>,
    /// The token of an attempt, once read or created.
    pub token: Option<(u32, String)>,
    /// Why a volume of a pod is not mounted, by the pod's UID, and when that was read.
    pub volume_words: HashMap<String, (Timestamp, Option<String>)>,
}

#[derive(Clone, Debug)]
pub struct Written {
    pub version: String,
    pub status: DistributedQueryStatus,
}

#[derive(Clone, Debug)]
struct Made {
    uid: String,
    place: Place,
    at: Timestamp,
    is_seen: bool,
}

impl Memory {
    pub fn made(&mut self, name: String, uid: String, place: Place, now: Timestamp) {
        self.made.insert(name, Made { uid, place, at: now, is_seen: false });
    }

    /// Adds the created pods that the watch does not show yet, and returns the names of those that are gone.
    pub fn complete(&mut self, pods: &mut Vec<PodFacts>) -> BTreeSet<String> {
        let mut gone = BTreeSet::new();
        for (name, made) in &mut self.made {
            match pods.iter().find(|pod| pod.name == *name) {
                Some(_) => made.is_seen = true,
                None if made.is_seen => {
                    gone.insert(name.clone());
                }
                None => pods.push(PodFacts {
                    name: name.clone(),
                    uid: made.uid.clone(),
                    place: made.place,
                    created_at: Some(made.at),
                    deleting_at: None,
                    ip: None,
                    node: None,
                    disruption: None,
                    unready: false,
                    gang: None,
                    state: PodState::Waiting(None),
                }),
            }
        }
        gone
    }

    /// Pods created a while ago that the watch never showed.
    pub fn unseen(&self, before: Timestamp) -> Vec<String> {
        self.made.iter().filter(|(_, made)| !made.is_seen && made.at < before).map(|(name, _)| name.clone()).collect()
    }

    pub fn seen(&mut self, name: &str) {
        if let Some(made) = self.made.get_mut(name) {
            made.is_seen = true;
        }
    }

    /// The current status: the last one written, until the watch shows an object at least as new.
    pub fn status(&mut self, version: &str, seen: &DistributedQueryStatus) -> DistributedQueryStatus {
        let Some(written) = &self.written else { return seen.clone() };
        let is_newer = match (written.version.parse::<u64>(), version.parse::<u64>()) {
            (Ok(written), Ok(seen)) => written > seen,
            // Versions that are not numbers can only be compared for equality.
            _ => written.version != version && written.status != *seen,
        };
        if is_newer {
            return written.status.clone();
        }
        self.written = None;
        seen.clone()
    }

    /// Drops what a query without work does not need.
    pub fn settle(&mut self) {
        self.made.clear();
        self.token = None;
        self.trouble = None;
        self.volume_words = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floe_api::Phase;

    #[test]
    fn pods_on_their_way_are_not_gone_and_gone_ones_are() {
        let mut memory = Memory::default();
        let place = Place::Coordinator { attempt: 1 };
        memory.made("q-1-c".into(), "u".into(), place, Timestamp::UNIX_EPOCH);
        let mut pods = Vec::new();
        assert!(memory.complete(&mut pods).is_empty());
        assert_eq!(pods.len(), 1);
        // Once the watch has shown it, its absence means that it is gone.
        assert!(memory.complete(&mut pods.clone()).is_empty());
        assert_eq!(memory.complete(&mut Vec::new()).len(), 1);
    }

    #[test]
    fn an_older_object_does_not_undo_a_written_status() {
        let status = |phase| DistributedQueryStatus { phase: Some(phase), ..Default::default() };
        let written = Some(Written { version: "12".into(), status: status(Phase::Succeeded) });
        let mut memory = Memory { written, ..Memory::default() };
        assert_eq!(memory.status("9", &status(Phase::Running)).phase, Some(Phase::Succeeded));
        assert_eq!(memory.status("13", &status(Phase::Succeeded)).phase, Some(Phase::Succeeded));
        assert!(memory.written.is_none());
    }
}
