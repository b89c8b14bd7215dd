//! Whether Floe is installed: the CustomResourceDefinition and its fields, and an operator that serves the namespace.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use super::{Check, is_forbidden};
use crate::cluster::Cluster;

const CRD: &str = "distributedqueries.floe.dev";
const VERSION: &str = "v1alpha1";
const OPERATORS: &str = "app.kubernetes.io/name=floe,app.kubernetes.io/component=operator";
/// List at most this many names.
const NAMED: usize = 5;
/// A working operator takes up a query within this time.
const TAKEN_UP_SECONDS: i64 = 15;

pub async fn crd(cluster: &Cluster) -> Vec<Check> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let install = format!(
        "install Floe (docs/kubernetes.md), or only its kind: `{} crd | kubectl apply --server-side -f -`",
        crate::program::name()
    );
    let check = match api.get_opt(CRD).await {
        Ok(Some(found)) => compare(&serde_json::to_value(&found).unwrap_or_default(), &own()),
        Ok(None) => Check::fail("crd", "the cluster does not know DistributedQuery", install),
        // Who may read no CRDs sees whether it is served.
        Err(error) if is_forbidden(&error) => {
            match cluster.client.list_api_group_resources(&format!("floe.dev/{VERSION}")).await {
                Ok(_) => Check::ok("crd", format!("floe.dev/{VERSION} is served (you may not read its fields)")),
                Err(_) => Check::fail("crd", "the cluster does not know DistributedQuery", install),
            }
        }
        Err(error) => Check::fail("crd", cluster.refused.tell("cannot read the CRD", &error).to_string(), "try again"),
    };
    vec![check]
}

fn own() -> Value {
    serde_json::to_value(floe_api::crd()).unwrap_or_default()
}

/// Holds the fields that the cluster knows against those of this release.
fn compare(theirs: &Value, ours: &Value) -> Check {
    let program = crate::program::name();
    let served = theirs["spec"]["versions"].as_array().into_iter().flatten();
    let Some(version) = served.clone().find(|version| version["name"] == VERSION && version["served"] == true) else {
        let names: Vec<&str> = served.filter_map(|version| version["name"].as_str()).collect();
        let message = format!("the cluster serves {} and not {VERSION}", names.join(", "));
        return Check::fail("crd", message, "use a floe of the release that is installed");
    };
    let known = fields(&version["schema"]["openAPIV3Schema"]);
    let wanted = fields(&ours["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
    let lacking: Vec<&String> = wanted.difference(&known).collect();
    let newer: Vec<&String> = known.difference(&wanted).collect();
    match (lacking.is_empty(), newer.is_empty()) {
        (true, true) => Check::ok("crd", format!("floe.dev/{VERSION} is there, with the fields of this release")),
        (true, false) => Check::warn(
            "crd",
            format!("floe.dev/{VERSION} is of a newer release: this floe does not know {}", some(&newer)),
            "upgrade floe",
        ),
        (false, _) => Check::warn(
            "crd",
            format!("floe.dev/{VERSION} is of another release and lacks {}", some(&lacking)),
            format!(
                "upgrade Floe on the cluster (`{program} crd | kubectl apply --server-side -f -`, then its operator)"
            ),
        ),
    }
}

fn some(names: &[&String]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).map(|name| name.as_str()).collect();
    match names.len().checked_sub(NAMED).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", shown.join(", ")),
        None => shown.join(", "),
    }
}

/// Dotted paths of all properties.
fn fields(schema: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    collect(schema, "", &mut all);
    all
}

fn collect(schema: &Value, path: &str, all: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(property, &at, all);
        all.insert(at);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            collect(&schema[inner], &format!("{path}[]"), all);
        }
    }
}

pub async fn operator(cluster: &Cluster) -> Vec<Check> {
    let api: Api<Deployment> = Api::all(cluster.client.clone());
    match api.list(&ListParams::default().labels(OPERATORS)).await {
        Ok(found) if found.items.is_empty() => {
            // It may have been installed without the chart.
            by_queries(cluster).await.unwrap_or_else(|| {
                let to_do = "install it: helm install floe charts/floe --namespace floe-system --create-namespace";
                vec![Check::fail("operator", format!("there is no Deployment with the labels {OPERATORS}"), to_do)]
            })
        }
        Ok(found) => found.items.iter().flat_map(|deployment| deployed(deployment, &cluster.namespace)).collect(),
        Err(error) if is_forbidden(&error) => by_queries(cluster).await.unwrap_or_else(|| {
            vec![Check::unknown(
                "operator",
                "you may not look for it (list deployments), and no query here shows its work; --run would",
            )]
        }),
        Err(error) => vec![Check::unknown("operator", cluster.refused.tell("cannot look for it", &error).to_string())],
    }
}

fn deployed(deployment: &Deployment, namespace: &str) -> Vec<Check> {
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let place = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let status = deployment.status.as_ref();
    let ready = status.and_then(|status| status.ready_replicas).unwrap_or(0);
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let container =
        deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).and_then(|pod| pod.containers.first());
    let env = |key: &str| -> Option<String> {
        let all = container?.env.as_ref()?;
        all.iter().find(|variable| variable.name == key)?.value.clone().filter(|value| !value.is_empty())
    };
    let logs = format!("kubectl -n {place} describe deployment {name}; kubectl -n {place} logs deployment/{name}");
    let said = format!("{place}/{name}, {ready} of {wanted} ready");
    let mut checks = vec![match (ready, wanted) {
        (0, 0) => Check::fail(
            "operator",
            format!("{said}: it is scaled to none"),
            format!("kubectl -n {place} scale deployment {name} --replicas=1"),
        ),
        (0, _) => Check::fail("operator", said, logs),
        (ready, wanted) if ready < wanted => Check::warn("operator", said, logs),
        _ => Check::ok("operator", said),
    }];
    if let Some(served) = env("FLOE_NAMESPACES")
        && !served.split(',').any(|one| one.trim() == namespace)
    {
        checks.push(Check::fail(
            "namespace",
            format!("{place}/{name} serves {served} and not {namespace}"),
            "submit to one of those (-n), or add this one to watchNamespaces of the chart",
        ));
    }
    let version = deployment.metadata.labels.as_ref().and_then(|labels| labels.get("app.kubernetes.io/version"));
    let own = env!("CARGO_PKG_VERSION");
    if let Some(version) = version.filter(|version| version.as_str() != own) {
        checks.push(Check::warn(
            "version",
            format!("the operator is of release {version}, this floe of {own}"),
            "use the same release of both",
        ));
    }
    if let Some(image) = env("FLOE_RUNNER_IMAGE") {
        checks.push(Check::ok(
            "image",
            format!("queries run {image} unless they name another; --run proves that nodes get it"),
        ));
    }
    checks
}

/// If the operator cannot be read, judges by the queries whether one takes them up.
async fn by_queries(cluster: &Cluster) -> Option<Vec<Check>> {
    let queries = cluster.list(false, None).await.ok()?;
    let is_told = |query: &&kube::api::DynamicObject| query.data["status"]["phase"].is_string();
    let now = Timestamp::now();
    let is_old = |query: &&kube::api::DynamicObject| {
        let created = query.metadata.creation_timestamp.as_ref();
        created.is_some_and(|at| now.duration_since(at.0).as_secs() > TAKEN_UP_SECONDS)
    };
    let is_others = |query: &&kube::api::DynamicObject| query.data["spec"]["managedBy"].is_string();
    let ignored = queries.iter().filter(is_old).filter(|query| !is_others(query)).find(|query| !is_told(query));
    if let Some(query) = ignored {
        let name = query.metadata.name.as_deref().unwrap_or_default();
        let to_do = "ask an administrator whether Floe's operator runs and serves this namespace";
        return Some(vec![Check::fail(
            "operator",
            format!("nobody takes up query {name} in namespace {}", cluster.namespace),
            to_do,
        )]);
    }
    let told = queries.iter().find(is_told)?;
    let name = told.metadata.name.as_deref().unwrap_or_default();
    Some(vec![Check::ok("operator", format!("it has taken up query {name} (you may not look at it itself)"))])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::State;
    use super::*;

    #[test]
    fn a_crd_of_another_release_is_told_by_its_fields() {
        let ours = own();
        assert_eq!(compare(&ours, &ours).state, State::Ok, "{:?}", compare(&ours, &ours));
        let mut older = ours.clone();
        let spec = older.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap();
        spec.as_object_mut().unwrap().remove("priority");
        let check = compare(&older, &ours);
        assert!(check.state == State::Warn && check.message.ends_with("lacks spec.priority"), "{check:?}");
        let check = compare(&ours, &older);
        assert!(check.state == State::Warn && check.message.contains("newer release"), "{check:?}");
        let mut other = ours.clone();
        other["spec"]["versions"][0]["name"] = json!("v2");
        let check = compare(&other, &ours);
        assert!(check.state == State::Fail && check.message.contains("serves v2"), "{check:?}");
    }

    #[test]
    fn an_operator_that_does_not_serve_this_namespace_is_told() {
        let deployment = |ready: i32, namespaces: &str, version: &str| -> Deployment {
            serde_json::from_value(json!({
                "metadata": {"name": "floe", "namespace": "floe-system", "labels": {"app.kubernetes.io/version": version}},
                "spec": {"replicas": 2, "selector": {}, "template": {"spec": {"containers": [{"name": "operator", "env": [
                    {"name": "FLOE_NAMESPACES", "value": namespaces}, {"name": "FLOE_RUNNER_IMAGE", "value": "r:1"}]}]}}},
                "status": {"readyReplicas": ready},
            }))
            .unwrap()
        };
        let own = env!("CARGO_PKG_VERSION");
        let states = |d: &Deployment| deployed(d, "a").iter().map(|c| (c.name.clone(), c.state)).collect::<Vec<_>>();
        assert_eq!(states(&deployment(2, "", own)), [("operator".into(), State::Ok), ("image".into(), State::Ok)]);
        assert_eq!(states(&deployment(1, "b,a", own))[0].1, State::Warn);
        assert_eq!(
            states(&deployment(0, "b", "0.0.9")),
            [
                ("operator".into(), State::Fail),
                ("namespace".into(), State::Fail),
                ("version".into(), State::Warn),
                ("image".into(), State::Ok)
            ]
        );
    }
}
