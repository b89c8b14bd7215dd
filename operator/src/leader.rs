//! Leader election among replicas with a Lease. The holder renews it well before it expires and stops working when it
//! cannot; another replica takes it once it has seen no renewal for the lease's duration, by its own clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

const LEASE: Duration = Duration::from_secs(15);
/// A holder that has failed to renew for this long stops working.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

pub struct Leader {
    leases: Api<Lease>,
    pods: Api<Pod>,
    /// Replicas are pods of this namespace, and identified by their names.
    in_pod: bool,
    name: String,
    identity: String,
    /// The lease as last seen, and since when it has looked so.
    seen: Option<(Sighting, Instant)>,
}

/// The fields that change when a holder renews.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sighting {
    holder: Option<String>,
    renewed: Option<Timestamp>,
    transitions: i32,
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Renew,
    Take,
    Wait,
}

/// `silent_for`: how long the lease has not changed. `is_gone`: the holder's pod no longer exists.
fn decide(seen: &Sighting, identity: &str, lease: Duration, silent_for: Duration, is_gone: bool) -> Move {
    match seen.holder.as_deref() {
        Some(holder) if holder == identity => Move::Renew,
        None | Some("") => Move::Take,
        Some(_) if is_gone => Move::Take,
        Some(_) if silent_for >= lease => Move::Take,
        Some(_) => Move::Wait,
    }
}

impl Leader {
    pub fn new(client: Client, namespace: &str, name: String, identity: String, in_pod: bool) -> Self {
        let pods = Api::namespaced(client.clone(), namespace);
        Self { leases: Api::namespaced(client, namespace), pods, in_pod, name, identity, seen: None }
    }

    /// Waits for the lease; returns `false` if stopped before.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match self.attempt().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the lease cannot be asked for"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// Renews the lease until `stop`, or until renewing has failed for too long.
    pub async fn hold(&mut self, stop: &CancellationToken) {
        let mut renewed = Instant::now();
        loop {
            let asked = Instant::now();
            let renewal = async {
                tokio::time::sleep(RETRY).await;
                self.attempt().await
            };
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = tokio::time::timeout_at((renewed + RENEW_DEADLINE).into(), renewal) => outcome,
            };
            match outcome {
                // Count from before the request: other replicas count from when they saw the change.
                Ok(Ok(true)) => renewed = asked + RETRY,
                Ok(Ok(false)) => {
                    tracing::error!("another replica took the lease");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the lease was not renewed"),
                Err(_) => {
                    tracing::error!("the lease could not be renewed in time");
                    return;
                }
            }
        }
    }

    /// Gives up the lease, so that the next holder need not wait.
    pub async fn release(&mut self) {
        let released = async {
            let Some(mut lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            self.leases.replace(&self.name, &PostParams::default(), &lease).await.map(|_| ())
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, released).await {
            Ok(Ok(())) => tracing::info!("the lease is given back"),
            Ok(Err(error)) => tracing::warn!(%error, "the lease was not given back"),
            Err(_) => tracing::warn!("the lease was not given back in time"),
        }
    }

    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        match tokio::time::timeout(REQUEST_TIMEOUT, self.take_or_renew()).await {
            Ok(Err(kube::Error::Api(answer))) if answer.code == 409 => Ok(false),
            Ok(result) => result,
            Err(_) => Err(kube::Error::Service("the API server did not answer in time".into())),
        }
    }

    async fn take_or_renew(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(0, true, None)),
            };
            self.leases.create(&PostParams::default(), &lease).await?;
            return Ok(true);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let sighting = Sighting {
            holder: spec.holder_identity.clone(),
            renewed: spec.renew_time.as_ref().map(|t| t.0),
            transitions: spec.lease_transitions.unwrap_or(0),
        };
        let silent_for = match &self.seen {
            Some((known, since)) if *known == sighting => since.elapsed(),
            _ => {
                self.seen = Some((sighting.clone(), Instant::now()));
                Duration::ZERO
            }
        };
        let lease_time = Duration::from_secs(spec.lease_duration_seconds.unwrap_or(15).max(1).unsigned_abs().into());
        let is_gone = match &sighting.holder {
            Some(holder) if !holder.is_empty() && *holder != self.identity => self.is_gone(holder).await,
            Some(_) | None => false,
        };
        let taken = match decide(&sighting, &self.identity, lease_time, silent_for, is_gone) {
            Move::Wait => return Ok(false),
            Move::Renew => false,
            Move::Take => true,
        };
        lease.spec = Some(self.spec(sighting.transitions + i32::from(taken), taken, spec.acquire_time));
        // The resource version that was read is sent along: only one of two replicas succeeds.
        self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        Ok(true)
    }

    /// Whether the holder was a pod of this namespace, as replicas are, and no longer exists. A holder that lost its
    /// rights as it ended, as when a release is uninstalled, could not give up the lease.
    async fn is_gone(&self, holder: &str) -> bool {
        // Without the right to look, or with another kind of identity, wait for the lease to expire.
        self.in_pod && matches!(self.pods.get_metadata_opt(holder).await, Ok(None))
    }

    fn spec(&self, transitions: i32, taken: bool, acquired: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: if taken { Some(now.clone()) } else { acquired },
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_when_free_or_silent_and_renewed_by_its_holder() {
        let seen = |holder: Option<&str>| Sighting { holder: holder.map(str::to_owned), renewed: None, transitions: 0 };
        let at = |holder, silent| decide(&seen(holder), "me", LEASE, Duration::from_secs(silent), false);
        assert_eq!(at(None, 0), Move::Take);
        assert_eq!(at(Some(""), 0), Move::Take);
        assert_eq!(at(Some("me"), 100), Move::Renew);
        assert_eq!(at(Some("other"), 14), Move::Wait);
        assert_eq!(at(Some("other"), 15), Move::Take);
        assert_eq!(decide(&seen(Some("other")), "me", LEASE, Duration::ZERO, true), Move::Take);
        assert_eq!(decide(&seen(Some("me")), "me", LEASE, Duration::ZERO, true), Move::Renew);
        const { assert!(RENEW_DEADLINE.as_secs() < LEASE.as_secs(), "a holder must stop before others may take over") };
    }
}
