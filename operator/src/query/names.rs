//! Names and labels of a query's objects. They are deterministic, so that every step can be repeated.

use std::collections::BTreeMap;

pub const LABEL_QUERY: &str = "floe.dev/query";
pub const LABEL_ATTEMPT: &str = "floe.dev/attempt";
pub const LABEL_ROLE: &str = "floe.dev/role";
pub const LABEL_INDEX: &str = "floe.dev/worker";
pub const LABEL_REPLACEMENT: &str = "floe.dev/replacement";
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const MANAGER: &str = "floe-operator";
/// W3C trace context of the client that submitted the query.
pub const TRACEPARENT: &str = "floe.dev/traceparent";
/// Annotation of a job's Secret: attempt and number of the Secrets with an inline plan too large for it.
pub const PLAN_SECRETS: &str = "floe.dev/plan-secrets";
/// Set as long as an attempt may have left something outside the cluster.
pub const FINALIZER: &str = "floe.dev/cleanup";

/// What a pod does for its query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Coordinator,
    Worker,
    Clean,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Coordinator => "coordinator",
            Role::Worker => "worker",
            Role::Clean => "clean",
        }
    }

    pub fn parse(text: &str) -> Option<Role> {
        [Role::Coordinator, Role::Worker, Role::Clean].into_iter().find(|role| role.as_str() == text)
    }
}

/// Identifies a pod of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    Coordinator { attempt: u32 },
    Worker { attempt: u32, index: u32, replacement: u32 },
    Clean,
}

impl Place {
    pub fn name(self, query: &str) -> String {
        match self {
            Place::Coordinator { attempt } => format!("{query}-{attempt}-c"),
            Place::Worker { attempt, index, replacement } => format!("{query}-{attempt}-w{index}-{replacement}"),
            Place::Clean => format!("{query}-clean"),
        }
    }

    pub fn role(self) -> Role {
        match self {
            Place::Coordinator { .. } => Role::Coordinator,
            Place::Worker { .. } => Role::Worker,
            Place::Clean => Role::Clean,
        }
    }

    pub fn attempt(self) -> Option<u32> {
        match self {
            Place::Coordinator { attempt } | Place::Worker { attempt, .. } => Some(attempt),
            Place::Clean => None,
        }
    }

    pub fn labels(self, query: &str) -> BTreeMap<String, String> {
        let mut labels = labels(query, self.role().as_str());
        labels.insert(LABEL_ROLE.into(), self.role().as_str().into());
        match self {
            Place::Coordinator { attempt } => {
                labels.insert(LABEL_ATTEMPT.into(), attempt.to_string());
            }
            Place::Worker { attempt, index, replacement } => {
                labels.insert(LABEL_ATTEMPT.into(), attempt.to_string());
                labels.insert(LABEL_INDEX.into(), index.to_string());
                labels.insert(LABEL_REPLACEMENT.into(), replacement.to_string());
            }
            Place::Clean => {}
        }
        labels
    }

    /// Reads the place from a pod's labels.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Option<Place> {
        let number = |key: &str| labels.get(key).and_then(|text| text.parse::<u32>().ok());
        match Role::parse(labels.get(LABEL_ROLE)?)? {
            Role::Coordinator => Some(Place::Coordinator { attempt: number(LABEL_ATTEMPT)? }),
            Role::Worker => Some(Place::Worker {
                attempt: number(LABEL_ATTEMPT)?,
                index: number(LABEL_INDEX)?,
                replacement: number(LABEL_REPLACEMENT)?,
            }),
            Role::Clean => Some(Place::Clean),
        }
    }
}

/// Labels of all of a query's objects.
pub fn labels(query: &str, component: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "floe"),
        ("app.kubernetes.io/component", component),
        (MANAGED_BY, MANAGER),
        (LABEL_QUERY, query),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// The NetworkPolicy, which all attempts share.
pub fn shared(query: &str) -> String {
    format!("{query}-floe")
}

/// The group in which the pods of an attempt are placed together.
pub fn gang(query: &str, attempt: u32) -> String {
    format!("{query}-{attempt}-gang")
}

/// Contains the query's UID: a kubelet may still cache the Secrets of an earlier query of the same name.
pub fn job_secret(query: &str, uid: &str, attempt: u32) -> String {
    let uid = uid.split('-').next().unwrap_or_default();
    format!("{query}-floe-{attempt}-{uid}")
}

pub fn plan_secret(query: &str, uid: &str, attempt: u32, part: usize) -> String {
    format!("{}-plan-{part}", job_secret(query, uid, attempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_their_labels_and_names_fit() {
        let query = "q".repeat(50);
        for place in [
            Place::Coordinator { attempt: 101 },
            Place::Worker { attempt: 101, index: 9999, replacement: 100 },
            Place::Clean,
        ] {
            assert_eq!(Place::of_labels(&place.labels(&query)), Some(place));
            assert!(place.name(&query).len() <= 63 + 5, "{}", place.name(&query));
        }
        assert_eq!(Place::Worker { attempt: 2, index: 0, replacement: 1 }.name("q"), "q-2-w0-1");
        assert!(shared(&query).len() <= 63);
        assert_eq!(plan_secret("q", "6f3a-2c", 2, 1), "q-floe-2-6f3a-plan-1");
    }
}
