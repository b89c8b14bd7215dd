//! Whether Floe is installed: the CustomResourceDefinitions and their fields, and an operator that serves the namespace.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use super::{Check, is_forbidden};
use crate::cluster::Cluster;

/// The kind without which nothing works.
const QUERY: &str = "DistributedQuery";
const VERSION: &str = "v1alpha1";
const OPERATORS: &str = "app.kubernetes.io/name=floe,app.kubernetes.io/component=operator";
/// List at most this many names.
const NAMED: usize = 5;
/// A working operator takes up a query within this time.
const TAKEN_UP_SECONDS: i64 = 15;

pub async fn crd(cluster: &Cluster) -> Vec<Check> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let mut found = Vec::new();
    for own in own() {
        let name = own["metadata"]["name"].as_str().unwrap_or_default();
        match api.get_opt(name).await {
            Ok(theirs) => {
                let theirs = theirs.map(|theirs| serde_json::to_value(theirs).unwrap_or_default());
                found.push((kind(&own), state(theirs.as_ref(), &own)));
            }
            // Who may read no CRDs sees which kinds are served.
            Err(error) if is_forbidden(&error) => return served(cluster).await,
            Err(error) => {
                let message = cluster.refused.tell("cannot read the CRDs", &error).to_string();
                return vec![Check::fail("crd", message, "try again")];
            }
        }
    }
    judge(&found)
}

/// Those of this release.
fn own() -> [Value; 3] {
    [floe_api::crd(), floe_api::context_crd(), floe_api::schedule_crd()]
        .map(|crd| serde_json::to_value(crd).unwrap_or_default())
}

fn kind(crd: &Value) -> String {
    crd["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned()
}

/// What is known of the kinds without their fields.
async fn served(cluster: &Cluster) -> Vec<Check> {
    let listed = cluster.client.list_api_group_resources(&format!("floe.dev/{VERSION}")).await;
    let kinds: Vec<String> = listed.into_iter().flat_map(|list| list.resources).map(|one| one.kind).collect();
    let missing =
        own().map(|crd| kind(&crd)).into_iter().filter(|kind| !kinds.contains(kind)).map(|kind| (kind, Kind::Missing));
    let missing: Vec<(String, Kind)> = missing.collect();
    match missing.is_empty() {
        true => vec![Check::ok("crd", format!("floe.dev/{VERSION} is served (you may not read its fields)"))],
        false => judge(&missing),
    }
}

/// How a kind on the cluster is beside that of this release.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Same,
    Missing,
    /// It is served in these versions only.
    Other(String),
    /// It lacks these fields.
    Lacks(String),
    /// It has these fields, which this release does not know.
    Newer(String),
}

/// Holds the fields that the cluster knows against those of this release.
fn state(theirs: Option<&Value>, ours: &Value) -> Kind {
    let Some(theirs) = theirs else { return Kind::Missing };
    let served = theirs["spec"]["versions"].as_array().into_iter().flatten();
    let Some(version) = served.clone().find(|version| version["name"] == VERSION && version["served"] == true) else {
        let names: Vec<&str> = served.filter_map(|version| version["name"].as_str()).collect();
        return Kind::Other(names.join(", "));
    };
    let known = fields(&version["schema"]["openAPIV3Schema"]);
    let wanted = fields(&ours["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
    let lacking: Vec<&String> = wanted.difference(&known).collect();
    let newer: Vec<&String> = known.difference(&wanted).collect();
    match (lacking.is_empty(), newer.is_empty()) {
        (true, true) => Kind::Same,
        (true, false) => Kind::Newer(some(&newer)),
        (false, _) => Kind::Lacks(some(&lacking)),
    }
}

/// A line for each kind that is not as it should be, or one for all.
fn judge(found: &[(String, Kind)]) -> Vec<Check> {
    let program = crate::program::name();
    let apply = "kubectl apply --server-side -f -";
    let one = |(name, kind): &(String, Kind)| {
        let check = match kind {
            Kind::Same => return None,
            Kind::Missing if name == QUERY => Check::fail(
                "crd",
                format!("the cluster does not know {name}"),
                format!("install Floe (docs/kubernetes.md), or only its kinds: `{program} crd | {apply}`"),
            ),
            // A Floe that was upgraded without its CRDs lacks the kinds that came later.
            Kind::Missing => Check::warn(
                "crd",
                format!("the cluster does not know {name}: it was installed by another release"),
                format!("upgrade Floe on the cluster (`{program} crd | {apply}`, then its operator)"),
            ),
            Kind::Other(versions) => Check::fail(
                "crd",
                format!("the cluster serves {name} as {versions} and not {VERSION}"),
                "use a floe of the release that is installed",
            ),
            Kind::Newer(fields) => Check::warn(
                "crd",
                format!("{name} of floe.dev/{VERSION} is of a newer release: this floe does not know {fields}"),
                "upgrade floe",
            ),
            Kind::Lacks(fields) => Check::warn(
                "crd",
                format!("{name} of floe.dev/{VERSION} is of another release and lacks {fields}"),
                format!("upgrade Floe on the cluster (`{program} crd | {apply}`, then its operator)"),
            ),
        };
        Some(check)
    };
    let checks: Vec<Check> = found.iter().filter_map(one).collect();
    match checks.is_empty() {
        true => vec![Check::ok("crd", format!("floe.dev/{VERSION} is there, with the fields of this release"))],
        false => checks,
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
        let kinds: Vec<String> = ours.iter().map(kind).collect();
        assert_eq!(kinds, [QUERY, "ComputeContext", "ScheduledQuery"]);
        for own in &ours {
            assert_eq!(state(Some(own), own), Kind::Same);
        }
        let ours = &ours[0];
        let mut older = ours.clone();
        let spec = older.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap();
        spec.as_object_mut().unwrap().remove("priority");
        assert_eq!(state(Some(&older), ours), Kind::Lacks("spec.priority".into()));
        assert_eq!(state(Some(ours), &older), Kind::Newer("spec.priority".into()));
        let mut other = ours.clone();
        other["spec"]["versions"][0]["name"] = json!("v2");
        assert_eq!(state(Some(&other), ours), Kind::Other("v2".into()));
        assert_eq!(state(None, ours), Kind::Missing);
    }

    #[test]
    fn every_kind_that_is_not_as_it_should_be_has_a_line() {
        let of = |kinds: Vec<(&str, Kind)>| {
            judge(&kinds.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect::<Vec<_>>())
        };
        let well = of(vec![(QUERY, Kind::Same), ("ComputeContext", Kind::Same)]);
        assert!(well.len() == 1 && well[0].state == State::Ok, "{well:?}");
        let told = of(vec![
            (QUERY, Kind::Lacks("spec.priority".into())),
            ("ComputeContext", Kind::Missing),
            ("ScheduledQuery", Kind::Newer("spec.x".into())),
        ]);
        let states: Vec<State> = told.iter().map(|check| check.state).collect();
        assert_eq!(states, [State::Warn; 3], "{told:?}");
        assert!(
            told[0].message.ends_with("lacks spec.priority") && told[1].message.contains("ComputeContext"),
            "{told:?}"
        );
        assert!(told[2].message.contains("newer release"), "{told:?}");
        for kind in [Kind::Missing, Kind::Other("v2".into())] {
            assert_eq!(of(vec![(QUERY, kind)])[0].state, State::Fail, "nothing works without it");
        }
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
