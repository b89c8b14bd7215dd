//! Checks whether the Secrets and ConfigMaps of files and of queries on the cluster exist, and what holds queries up.

use std::collections::BTreeMap;

use floe_api::{DistributedQuery, Phase};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;

use super::{Check, is_forbidden};
use crate::cluster::Cluster;

/// The kind of an object that queries refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Secret,
    ConfigMap,
}

pub async fn checks(cluster: &Cluster, files: &[DistributedQuery]) -> Vec<Check> {
    let listed = cluster.list(false, None).await.unwrap_or_default();
    let queries: Vec<DistributedQuery> = listed
        .into_iter()
        .filter_map(|object| serde_json::from_value(serde_json::to_value(object).ok()?).ok())
        .collect();
    let alive = |query: &&DistributedQuery| !crate::follow::has_ended(query);
    let mut named: BTreeMap<(Kind, String), String> = BTreeMap::new();
    for query in files.iter().chain(queries.iter().filter(alive)) {
        let user = query.metadata.name.clone().unwrap_or_else(|| "of the file".to_owned());
        for key in names(query) {
            named.entry(key).or_insert_with(|| user.clone());
        }
    }
    let mut checks = Vec::new();
    for ((kind, name), user) in &named {
        checks.push(look(cluster, *kind, name, user).await);
    }
    checks.extend(queries.iter().filter(alive).filter_map(held));
    checks
}

fn names(query: &DistributedQuery) -> Vec<(Kind, String)> {
    let spec = &query.spec;
    let storages = spec.storage.iter().chain(spec.storages.values()).map(|storage| &storage.secret_ref);
    let catalogs = spec.catalogs.values().map(|catalog| &catalog.secret_ref);
    let mut all: Vec<(Kind, String)> =
        storages.chain(catalogs).flatten().map(|secret| (Kind::Secret, secret.name.clone())).collect();
    if let Some(dsl) = &spec.plan.dsl {
        all.extend(dsl.secret_key_ref.iter().map(|key| (Kind::Secret, key.name.clone())));
        all.extend(dsl.config_map_key_ref.iter().map(|key| (Kind::ConfigMap, key.name.clone())));
    }
    all
}

/// Reads no values, only whether the object exists.
async fn look(cluster: &Cluster, kind: Kind, name: &str, user: &str) -> Check {
    let (client, namespace) = (cluster.client.clone(), &cluster.namespace);
    let (word, found) = match kind {
        Kind::Secret => (
            "Secret",
            Api::<Secret>::namespaced(client, namespace).get_metadata_opt(name).await.map(|found| found.is_some()),
        ),
        Kind::ConfigMap => (
            "ConfigMap",
            Api::<ConfigMap>::namespaced(client, namespace).get_metadata_opt(name).await.map(|found| found.is_some()),
        ),
    };
    match found {
        Ok(true) => Check::ok("storage", format!("{word} {name} of query {user} is there")),
        Ok(false) => Check::fail(
            "storage",
            format!("{word} {name} of query {user} is not in namespace {namespace}"),
            format!(
                "create it there: kubectl -n {namespace} create {} {name} …; the query starts by itself then",
                match kind {
                    Kind::Secret => "secret generic",
                    Kind::ConfigMap => "configmap",
                }
            ),
        ),
        Err(error) if is_forbidden(&error) => Check::unknown(
            "storage",
            format!("{word} {name} of query {user}: you may not look at it; the operator may"),
        ),
        Err(error) => Check::unknown(
            "storage",
            cluster.refused.tell(&format!("cannot look for {word} {name}"), &error).to_string(),
        ),
    }
}

/// A query that cannot continue until something is fixed, by the reason in its status.
fn held(query: &DistributedQuery) -> Option<Check> {
    let status = query.status.as_ref()?;
    let waits = matches!(status.phase, None | Some(Phase::Pending | Phase::Starting));
    let reason = status.reason.as_deref().and_then(floe_api::Reason::parse)?;
    if !waits || reason.advice().is_empty() {
        return None;
    }
    let name = query.metadata.name.as_deref().unwrap_or_default();
    let message = status.message.as_deref().unwrap_or_default();
    // The message ends with what to do.
    let (what, to_do) = message.split_once(". To do: ").unwrap_or((message, reason.advice()));
    let phase = status.phase.map_or("Pending", Phase::as_str);
    Some(Check::warn("query", format!("{name} is {phase} ({reason}): {what}"), to_do))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query(status: serde_json::Value) -> DistributedQuery {
        serde_json::from_value(json!({"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "q"},
            "spec": {"plan": {"dsl": {"configMapKeyRef": {"name": "plans", "key": "k"}}}, "storage": {"secretRef": {"name": "a"}},
                "storages": {"other": {"secretRef": {"name": "b"}}},
                "catalogs": {"lake": {"uri": "https://c", "secretRef": {"name": "c"}}}}, "status": status}))
        .unwrap()
    }

    #[test]
    fn what_a_query_names_is_looked_for() {
        let named = names(&query(json!({})));
        let want = [(Kind::Secret, "a"), (Kind::Secret, "b"), (Kind::Secret, "c"), (Kind::ConfigMap, "plans")];
        assert_eq!(named, want.map(|(kind, name)| (kind, name.to_owned())));
    }

    #[test]
    fn a_query_that_is_held_up_says_by_what() {
        let status = json!({"phase": "Starting", "reason": "ImagePull", "message": "no such image. To do: check it"});
        let check = held(&query(status)).unwrap();
        assert_eq!(check.message, "q is Starting (ImagePull): no such image");
        assert_eq!(check.to_do.as_deref(), Some("check it"));
        assert!(held(&query(json!({"phase": "Running", "reason": "Planned"}))).is_none());
        assert!(held(&query(json!({"phase": "Starting", "reason": "PodsStarting", "message": "m"}))).is_none());
    }
}
