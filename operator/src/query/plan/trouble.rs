//! Describes for the status what holds a query up while its pods exist. Decides nothing else.

use floe_api::Phase;
use floe_api::reason::{Reason, sentence};

use super::draft::{Draft, Truth};
use super::line;
use super::live::RETRY;
use super::scale::target;
use super::{COORDINATOR_READY, WORKERS_READY};
use crate::query::facts::{PodFacts, PodState, Turn};

/// Reports what holds the query up first, or how far its start has got.
pub fn tell_trouble(draft: &mut Draft<'_>, phase: Phase, stuck: &[(&PodFacts, Hold)], coordinator: &PodFacts) {
    if let Some((pod, (reason, words, _))) = stuck.first() {
        let more = match stuck.len() {
            1 => String::new(),
            count => format!(" (and {} more pods)", count - 1),
        };
        let message = sentence(*reason, &format!("Pod {}: {words}{more}", pod.name));
        draft.tell(*reason, &message);
        let kind = if pod.name == coordinator.name { COORDINATOR_READY } else { WORKERS_READY };
        if draft.status.conditions.iter().any(|c| c.type_ == kind && c.status == "False") {
            draft.set(kind, Truth::False, *reason, &message);
        }
    } else if matches!(draft.seen.turn, Turn::Waiting(_)) {
        line::tell(draft, WORKERS_READY);
    } else if let Some(trouble) = &draft.seen.trouble {
        draft.tell(trouble.reason, &sentence(trouble.reason, &trouble.message));
        draft.look_again(RETRY);
    } else if let Some(words) = &draft.seen.silence {
        draft.tell(Reason::Unreachable, &sentence(Reason::Unreachable, &capital(words)));
    } else if phase == Phase::Starting {
        let running = draft.seen.pods.iter().filter(|pod| pod.is_running() && pod.attempt() == draft.status.attempt);
        let (running, all) = (running.count(), target(&draft.status, &draft.spec().compute) + 1);
        draft.tell(Reason::PodsStarting, &format!("{running} of {all} pods are running"));
    } else {
        draft.tell_nothing();
    }
}

/// Reason, message, and whether it is permanent.
pub type Hold = (Reason, String, bool);

pub fn stuck_of(pod: &PodFacts) -> Option<Hold> {
    match &pod.state {
        PodState::Waiting(stuck) => stuck.as_ref().map(|s| (s.reason, s.words.clone(), s.fatal)),
        PodState::Running if pod.unready => {
            let node = pod.node.as_deref().unwrap_or("?");
            Some((Reason::NodeLost, format!("its node {node} does not answer"), false))
        }
        PodState::Running | PodState::Ended(_) => None,
    }
}

pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
