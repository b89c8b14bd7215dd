//! Names and labels of a context's objects. They cannot collide with those of a query, whose pods are `NAME-NUMBER-…`.

use std::collections::BTreeMap;

use crate::query::names::{LABEL_QUERY, Place};

pub const LABEL_CONTEXT: &str = "floe.dev/context";

/// Name of a pod of a context: `attempt` is the revision, and no two workers ever created share an index.
pub fn pod(context: &str, place: Place) -> String {
    match place {
        Place::Coordinator { attempt } => format!("{context}-g{attempt}-c"),
        Place::Worker { attempt, index, .. } => format!("{context}-g{attempt}-w{index}"),
        Place::Clean => format!("{context}-gclean"),
    }
}

pub fn worker(revision: u32, index: u32) -> Place {
    Place::Worker { attempt: revision, index, replacement: 0 }
}

/// The Secret with the token by which coordinator, workers and operator authenticate each other.
pub fn secret(context: &str, uid: &str) -> String {
    let uid = uid.split('-').next().unwrap_or_default();
    format!("{context}-context-{uid}")
}

pub fn policy(context: &str) -> String {
    format!("{context}-context")
}

/// Relabels an object of a query as one of the context.
pub fn relabel(labels: &mut BTreeMap<String, String>, context: &str) {
    labels.remove(LABEL_QUERY);
    labels.insert(LABEL_CONTEXT.to_owned(), context.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_contexts_and_queries_never_have_the_same_name() {
        let places = [Place::Coordinator { attempt: 1 }, worker(1, 0)];
        for name in ["warm", "warm-1", "warm-g1", "warm-g1-1"] {
            for place in places {
                for other in ["warm", "warm-g1", "warm-g1-w0", "warm-1-w0"] {
                    assert_ne!(pod(name, place), Place::Coordinator { attempt: 1 }.name(other));
                    assert_ne!(pod(name, place), Place::Worker { attempt: 1, index: 0, replacement: 0 }.name(other));
                }
            }
        }
        let long = "c".repeat(50);
        assert!(pod(&long, worker(1000, 100_000)).len() <= 66 && secret(&long, "6f3a-2c").len() <= 253);
    }
}
