//! Decides when a status is worth writing, and which Events to send for it. Pure.

use std::time::Duration;

use floe_api::{DistributedQueryStatus, Phase, Reason};
use jiff::Timestamp;

use super::plan::Notice;

/// Write progress at most this often; anything else at once.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    Nothing,
    Now,
    /// Only counts have changed, and they were written a moment ago.
    Later(Duration),
}

pub fn writing(
    old: &DistributedQueryStatus,
    new: &DistributedQueryStatus,
    written_at: Option<Timestamp>,
    now: Timestamp,
) -> Writing {
    if old == new {
        return Writing::Nothing;
    }
    if without_counts(old) != without_counts(new) {
        return Writing::Now;
    }
    let since = written_at.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
    match since {
        Some(since) if since < PROGRESS_EVERY => Writing::Later(PROGRESS_EVERY - since),
        _ => Writing::Now,
    }
}

fn without_counts(status: &DistributedQueryStatus) -> DistributedQueryStatus {
    let mut status = status.clone();
    status.stages.clear();
    status.stages_summary = None;
    status.progress = None;
    if let Some(workers) = &mut status.workers {
        workers.surplus_since = None;
    }
    // The messages of a starting query contain counts of pods.
    if status.phase.is_some_and(|phase| !phase.is_terminal()) {
        status.message = None;
        for condition in &mut status.conditions {
            condition.message.clear();
        }
    }
    status
}

/// The Events for a change of the status.
pub fn notices(old: &DistributedQueryStatus, new: &DistributedQueryStatus) -> Vec<Notice> {
    let reason = new.reason.as_deref().and_then(Reason::parse);
    let note = new.message.clone().unwrap_or_default();
    let Some(phase) = new.phase else { return Vec::new() };
    let told = |warning: bool, reason: Reason, note: String| vec![Notice { warning, reason, note, pod: None }];
    if old.phase != new.phase || (old.attempt != new.attempt && old.attempt.is_some()) {
        return match phase {
            Phase::Starting => {
                let attempt = new.attempt.unwrap_or(1);
                let note = match (&new.context, &new.workers) {
                    (Some(seat), _) => format!("Attempt {attempt}: context {} takes it up", seat.name),
                    (None, None) => format!("Attempt {attempt}: waits for the context"),
                    (None, Some(workers)) => {
                        let several = if workers.desired == 1 { "" } else { "s" };
                        let workers = workers.desired;
                        format!("Attempt {attempt}: a coordinator and {workers} worker{several} are being made")
                    }
                };
                let mut all = told(false, Reason::PodsStarting, note);
                all.extend(held_up(reason, new));
                all
            }
            Phase::Running if old.phase != Some(Phase::Committing) => {
                let stages = new.stages_total.unwrap_or(0);
                told(false, Reason::Planned, format!("Running in {stages} stages"))
            }
            Phase::Succeeded => told(false, reason.unwrap_or(Reason::Completed), note),
            Phase::Failed => told(true, reason.unwrap_or(Reason::Internal), note),
            Phase::Cancelled => told(false, Reason::Cancelled, note),
            Phase::Suspended => told(false, Reason::Suspended, note),
            Phase::Pending | Phase::Planning | Phase::Running | Phase::Committing => Vec::new(),
        };
    }
    if old.reason != new.reason && !phase.is_terminal() {
        return held_up(reason, new);
    }
    Vec::new()
}

/// A warning if something holds the query up.
fn held_up(reason: Option<Reason>, new: &DistributedQueryStatus) -> Vec<Notice> {
    let quiet = [
        Reason::PodsStarting,
        Reason::Waiting,
        Reason::WaitingForAdmission,
        Reason::WaitingForShare,
        // Told when it happens.
        Reason::Preempted,
        Reason::GivenBack,
        Reason::Cancelled,
        Reason::Suspended,
    ];
    match reason {
        Some(reason) if !quiet.contains(&reason) => {
            vec![Notice { warning: true, reason, note: new.message.clone().unwrap_or_default(), pod: None }]
        }
        _ => Vec::new(),
    }
}

/// Redacts values of options of storages and catalogs that look like credentials from a message.
pub fn scrub(spec: &floe_api::DistributedQuerySpec, text: &str) -> String {
    const TELLING: [&str; 6] = ["key", "secret", "token", "password", "credential", "sas"];
    let mut text = text.to_owned();
    let storages = spec.storage.iter().chain(spec.storages.values()).map(|storage| &storage.options);
    let catalogs = spec.catalogs.values().map(|catalog| &catalog.options);
    for (name, value) in storages.chain(catalogs).flatten() {
        let name = name.to_ascii_lowercase();
        if value.reveal().len() >= 4 && TELLING.iter().any(|word| name.contains(word)) {
            text = text.replace(value.reveal(), "***");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_status_is_not_written_and_counts_wait() {
        let now = Timestamp::UNIX_EPOCH;
        let old = DistributedQueryStatus { phase: Some(Phase::Running), ..Default::default() };
        assert_eq!(writing(&old, &old.clone(), Some(now), now), Writing::Nothing);
        let mut new = old.clone();
        new.progress = Some("5%".into());
        assert!(matches!(writing(&old, &new, Some(now), now), Writing::Later(_)));
        let later = now + jiff::SignedDuration::from_secs(2);
        assert_eq!(writing(&old, &new, Some(now), later), Writing::Now);
        new.phase = Some(Phase::Committing);
        assert_eq!(writing(&old, &new, Some(now), now), Writing::Now);
    }

    #[test]
    fn changes_are_told_once_and_in_words() {
        let mut old = DistributedQueryStatus::default();
        let mut new = DistributedQueryStatus { phase: Some(Phase::Starting), attempt: Some(1), ..Default::default() };
        assert_eq!(notices(&old, &new).len(), 1);
        old = new.clone();
        new.reason = Some("Unschedulable".into());
        new.message = Some("0/3 nodes are available".into());
        let told = notices(&old, &new);
        assert!(told[0].warning && told[0].note.contains("0/3"));
        assert!(notices(&new, &new.clone()).is_empty());
        let mut failed = new.clone();
        failed.phase = Some(Phase::Failed);
        failed.reason = Some("BadPlan".into());
        assert_eq!(notices(&new, &failed)[0].reason, Reason::BadPlan);
    }

    #[test]
    fn credentials_never_reach_a_message() {
        let mut spec = floe_api::DistributedQuerySpec::default();
        let mut storage = floe_api::StorageSpec::default();
        storage.options.insert("aws_secret_access_key".into(), "hunter22".into());
        storage.options.insert("aws_region".into(), "eu-1".into());
        spec.storage = Some(storage);
        assert_eq!(scrub(&spec, "bad hunter22 in eu-1"), "bad *** in eu-1");
    }
}
