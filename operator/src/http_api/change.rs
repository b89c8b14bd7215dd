//! Cancelling, suspending and resuming: which changes a query's state allows. Pure.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::problem::{Kind, Problem};
use super::view;

/// What a caller changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Cancel,
    Suspend,
    Resume,
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
pub enum Then {
    /// It is so already.
    Nothing,
    /// Set these fields of the spec.
    Set(Value),
}

impl Change {
    fn done(self) -> &'static str {
        match self {
            Change::Cancel => "cancelled",
            Change::Suspend => "suspended",
            Change::Resume => "resumed",
        }
    }

    pub fn decide(self, name: &str, query: &DynamicObject) -> Result<Then, Problem> {
        let spec = &query.data["spec"];
        let is = |field: &str| spec[field].as_bool() == Some(true);
        let done = self.done();
        match (self, view::phase(query)) {
            (Change::Cancel, "Cancelled") => Ok(Then::Nothing),
            (_, phase) if view::has_ended(query) => {
                let detail = format!("query {name} cannot be {done}: it has ended ({phase})");
                Err(Problem::new(Kind::AlreadyEnded, detail))
            }
            // The two are mutually exclusive in an object.
            (Change::Cancel, _) => Ok(Then::Set(json!({"cancel": true, "suspend": false}))),
            (Change::Suspend | Change::Resume, _) if is("cancel") => {
                let detail = format!("query {name} cannot be {done}: it is being cancelled, which is final");
                Err(Problem::new(Kind::BeingCancelled, detail))
            }
            (Change::Suspend, _) if is("suspend") => Ok(Then::Nothing),
            (Change::Suspend, _) => Ok(Then::Set(json!({"suspend": true}))),
            (Change::Resume, _) if is("suspend") => Ok(Then::Set(json!({"suspend": false}))),
            (Change::Resume, _) => Ok(Then::Nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_effect_is_done_and_what_has_none_is_told() {
        let nothing = || Ok(Then::Nothing);
        let set = |spec: Value| Ok(Then::Set(spec));
        for (change, spec, phase, then) in [
            (Change::Cancel, json!({}), "Running", set(json!({"cancel": true, "suspend": false}))),
            (Change::Cancel, json!({"suspend": true}), "Suspended", set(json!({"cancel": true, "suspend": false}))),
            (Change::Cancel, json!({"cancel": true}), "Cancelled", nothing()),
            (Change::Cancel, json!({}), "Succeeded", Err(Kind::AlreadyEnded)),
            (Change::Suspend, json!({}), "Running", set(json!({"suspend": true}))),
            (Change::Suspend, json!({"suspend": true}), "Suspended", nothing()),
            (Change::Suspend, json!({"cancel": true}), "Running", Err(Kind::BeingCancelled)),
            (Change::Suspend, json!({"cancel": true}), "Cancelled", Err(Kind::AlreadyEnded)),
            (Change::Resume, json!({"suspend": true}), "Suspended", set(json!({"suspend": false}))),
            (Change::Resume, json!({"suspend": false}), "Running", nothing()),
            (Change::Resume, json!({}), "Failed", Err(Kind::AlreadyEnded)),
            (Change::Resume, json!({"cancel": true}), "Running", Err(Kind::BeingCancelled)),
        ] {
            let query: DynamicObject = serde_json::from_value(json!({"apiVersion": "floe.dev/v1alpha1",
                "kind": "DistributedQuery", "metadata": {"name": "q"}, "spec": spec, "status": {"phase": phase}}))
            .unwrap();
            let decided = change.decide("q", &query).map_err(|problem| problem.kind);
            assert_eq!(decided, then, "{change:?} {spec} {phase}");
        }
    }
}
