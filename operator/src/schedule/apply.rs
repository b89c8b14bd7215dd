//! Carries out a plan's actions in order. Decides nothing: an action that was already carried out is no error.

use floe_api::DistributedQuery;
use floe_api::reason::{Reason, sentence};
use floe_api::schedule::render::render;
use jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use super::Context;
use super::facts::Seen;
use super::plan::Action;
use crate::events::Regarding;
use crate::query::apply::ensure;
use crate::query::build::owner;
use crate::query::error::ApplyError;
use crate::query::facts::Trouble;
use crate::query::plan::Notice;

/// The outcome of applying a plan.
#[derive(Default)]
pub struct Applied {
    /// Queries that were made.
    pub made: usize,
    /// The first refusal, and the time that it was for. Later times are not tried: queries are created in their order.
    pub trouble: Option<(Timestamp, Trouble)>,
}

pub async fn apply(context: &Context, seen: &Seen, actions: &[Action]) -> Applied {
    let namespace = seen.schedule.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<DistributedQuery> = Api::namespaced(context.shared.client.clone(), namespace);
    let regarding = Regarding::of(&*seen.schedule);
    let tell =
        |warning, reason, note| context.shared.events.publish(&regarding, Notice { warning, reason, note, pod: None });
    let mut applied = Applied::default();
    // Deleting a replaced query makes room for the first.
    let mut due = actions.iter().find_map(|action| match action {
        Action::Create { at } => Some(*at),
        Action::Delete { .. } => None,
    });
    for action in actions {
        if let Action::Create { at } = action {
            due = Some(*at);
        }
        let done = match action {
            Action::Create { at } => create(context, seen, &api, *at).await,
            Action::Delete { name, uid, .. } => delete(&api, name, uid).await,
        };
        match (done, action) {
            (Ok(name), Action::Create { .. }) => {
                applied.made += 1;
                tell(false, Reason::SuccessfulCreate, format!("Created query {name}"));
            }
            (Ok(name), Action::Delete { is_replaced: true, .. }) => {
                tell(false, Reason::SuccessfulDelete, format!("Deleted query {name}: the next one takes its place"));
            }
            (Ok(_), Action::Delete { is_replaced: false, .. }) => {}
            // Failing to delete an expired query blocks nothing; the next reconcile tries again.
            (Err(trouble), Action::Delete { is_replaced: false, .. }) => {
                tell(true, trouble.reason, sentence(trouble.reason, &trouble.message));
            }
            (Err(trouble), Action::Create { .. } | Action::Delete { is_replaced: true, .. }) => {
                tell(true, Reason::FailedCreate, sentence(trouble.reason, &trouble.message));
                applied.trouble = due.map(|at| (at, trouble));
                break;
            }
        }
    }
    applied
}

async fn create(context: &Context, seen: &Seen, api: &Api<DistributedQuery>, at: Timestamp) -> Result<String, Trouble> {
    // Without a calendar nothing is created.
    let calendar = seen.calendar.as_ref().map_err(Clone::clone)?;
    let mut query = render(&seen.schedule, at, calendar.zone()).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Trouble { reason: Reason::BadSpec, message: lines.join("; "), fatal: true }
    })?;
    let owner = owner(&*seen.schedule);
    query.metadata.owner_references = Some(vec![owner.clone()]);
    let made = ensure(api, &owner, "DistributedQuery", query, false).await.map_err(|error| {
        context.shared.metrics.failed(error.category());
        refused(&error)
    })?;
    context.shared.children.made(&made);
    Ok(made.metadata.name.unwrap_or_default())
}

/// Distinguishes a policy's refusal from an invalid spec.
fn refused(error: &ApplyError) -> Trouble {
    let mut trouble = error.trouble();
    if trouble.message.contains("denied request") || trouble.message.contains("denied the request") {
        trouble.reason = Reason::NotAllowed;
    }
    trouble
}

async fn delete(api: &Api<DistributedQuery>, name: &str, uid: &str) -> Result<String, Trouble> {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    match api.delete(name, &DeleteParams::background().preconditions(preconditions)).await {
        Ok(_) => Ok(name.to_owned()),
        // The query is gone, or another has taken its name.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(name.to_owned()),
        Err(source) => Err(ApplyError::Api { kind: "DistributedQuery", name: name.to_owned(), source }.trouble()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policys_refusal_is_told_as_such() {
        let refusal = |code, message: &str| {
            let answer = kube::core::Status { message: message.to_owned(), code, ..Default::default() };
            let source = kube::Error::Api(Box::new(answer));
            refused(&ApplyError::Api { kind: "DistributedQuery", name: "q".into(), source }).reason
        };
        let policy = "distributedqueries \"q\" is forbidden: ValidatingAdmissionPolicy 'floe-queries' with binding 'floe-queries' \
                      denied request: spec.plan: this kind of plan is not allowed";
        assert_eq!(refusal(422, policy), Reason::NotAllowed);
        assert_eq!(refusal(403, "admission webhook \"x\" denied the request: no"), Reason::NotAllowed);
        assert_eq!(refusal(422, "DistributedQuery \"q\" is invalid: spec.plan"), Reason::BadSpec);
        assert_eq!(refusal(403, "exceeded quota: few, requested: count/distributedqueries.floe.dev=1"), Reason::Quota);
    }
}
