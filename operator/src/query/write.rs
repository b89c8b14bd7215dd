//! Writes a status if it is worth it: only the changes, and only over the version that it was computed from, so that
//! two operators cannot both write.

use std::sync::PoisonError;
use std::time::Duration;

use floe_api::{DistributedQuery, DistributedQueryStatus};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::error::StatusError;
use super::facts::Observed;
use super::memory::Written;
use super::names::MANAGER;
use super::status::{Writing, scrub, writing};
use super::{Context, observe};

/// What happened.
pub enum Outcome {
    Unchanged,
    Written,
    Later(Duration),
}

pub async fn write(
    context: &Context,
    observed: &Observed,
    new: &mut DistributedQueryStatus,
    version: Option<String>,
    now: Timestamp,
) -> Result<Outcome, StatusError> {
    hide_secrets(observed, new);
    let Ok((namespace, name, uid)) = observe::identity(&observed.query) else { return Ok(Outcome::Unchanged) };
    let memory = context.memories.of(&uid);
    let (written_at, known) = {
        let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        (memory.written_at, memory.written.as_ref().map(|written| written.version.clone()))
    };
    match writing(&observed.status, new, written_at, now) {
        Writing::Nothing => return Ok(Outcome::Unchanged),
        Writing::Later(after) => return Ok(Outcome::Later(after)),
        Writing::Now => {}
    }
    let version = version.or(known).or_else(|| observed.query.metadata.resource_version.clone());
    let api: Api<DistributedQuery> = Api::namespaced(context.client.clone(), &namespace);
    match patch(&api, (&name, &uid), version, &observed.status, &*new).await? {
        Some(version) => {
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.written_at = Some(now);
            memory.written = Some(Written { version, status: new.clone() });
            Ok(Outcome::Written)
        }
        None => Ok(Outcome::Unchanged),
    }
}

/// Changes one status into another, over the version that it was computed from. Returns the new version, or `None` if
/// the object was deleted in between.
pub async fn patch<K, S>(
    api: &Api<K>,
    (name, uid): (&str, &str),
    version: Option<String>,
    old: &S,
    new: &S,
) -> Result<Option<String>, StatusError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
    S: Serialize,
{
    let change = difference(&serde_json::to_value(old)?, &serde_json::to_value(new)?);
    let body = json!({"metadata": {"resourceVersion": version, "uid": uid}, "status": change});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_status(name, &params, &Patch::Merge(body)).await {
        Ok(patched) => Ok(Some(patched.meta().resource_version.clone().unwrap_or_default())),
        Err(kube::Error::Api(answer)) if answer.code == 409 => Err(StatusError::Conflict),
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(None),
        Err(error) => Err(StatusError::Write(error)),
    }
}

fn hide_secrets(observed: &Observed, status: &mut DistributedQueryStatus) {
    let spec = &observed.query.spec;
    if let Some(message) = &mut status.message {
        *message = scrub(spec, message);
    }
    for condition in &mut status.conditions {
        condition.message = scrub(spec, &condition.message);
    }
    for warning in &mut status.warnings {
        *warning = scrub(spec, warning);
    }
}

/// The merge patch from `old` to `new`.
fn difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let mut change = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(known) if known == value => {}
            Some(known @ Value::Object(_)) if value.is_object() => {
                change.insert(key.clone(), difference(known, value));
            }
            _ => {
                change.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        change.insert(key.clone(), Value::Null);
    }
    Value::Object(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_holds_what_changed_and_no_more() {
        let old = json!({"phase": "Running", "rows": 1, "workers": {"ready": 1, "replaced": {"0": 1}}, "list": [1]});
        let new = json!({"phase": "Running", "workers": {"ready": 2}, "list": [1, 2]});
        let want = json!({"rows": null, "workers": {"ready": 2, "replaced": null}, "list": [1, 2]});
        assert_eq!(difference(&old, &new), want);
    }
}
