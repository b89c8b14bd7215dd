//! Builds the NetworkPolicy: who may reach a query's pods. Its own pods and the operator may, and at the coordinator's HTTP port also the
//! clients that the operator's options name.

use floe_api::DistributedQuery;
use k8s_openapi::api::networking::v1::NetworkPolicyPort;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value};

use super::{Defaults, HTTP_PORT, meta};
use crate::query::names::{self, LABEL_QUERY};

/// Clients of coordinators in the cluster, as the `from` of a NetworkPolicy has them.
#[derive(Clone, Debug, Default)]
pub struct Clients(Vec<NetworkPolicyPeer>);

impl Clients {
    /// Reads a JSON array. A field that is not known would leave a peer without its limits.
    pub fn read(text: &str) -> Result<Clients, String> {
        const FIELDS: [&str; 3] = ["podSelector", "namespaceSelector", "ipBlock"];
        if text.is_empty() {
            return Ok(Clients::default());
        }
        let peers: Vec<Map<String, Value>> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for peer in &peers {
            if let Some(field) = peer.keys().find(|field| !FIELDS.contains(&field.as_str())) {
                return Err(format!("{field} is none of {}", FIELDS.join(", ")));
            }
            if peer.is_empty() {
                return Err(format!("a peer needs one of {}", FIELDS.join(", ")));
            }
        }
        serde_json::from_str(text).map(Clients).map_err(|error| error.to_string())
    }
}

pub fn network_policy(query: &DistributedQuery, defaults: &Defaults) -> NetworkPolicy {
    let name = query.metadata.name.as_deref().unwrap_or_default();
    let labelled = |key: &str, value: &str| LabelSelector {
        match_labels: Some([(key.to_owned(), value.to_owned())].into()),
        ..LabelSelector::default()
    };
    let own = labelled(LABEL_QUERY, name);
    let mut peers = vec![NetworkPolicyPeer { pod_selector: Some(own.clone()), ..NetworkPolicyPeer::default() }];
    if let Some(namespace) = &defaults.operator_namespace {
        peers.push(NetworkPolicyPeer {
            namespace_selector: Some(labelled("kubernetes.io/metadata.name", namespace)),
            pod_selector: Some(LabelSelector {
                match_labels: Some(defaults.operator_labels.clone()),
                ..LabelSelector::default()
            }),
            ip_block: None,
        });
    }
    let mut rules = vec![NetworkPolicyIngressRule { from: Some(peers), ports: None }];
    let Clients(clients) = &defaults.clients;
    if !clients.is_empty() {
        // Only coordinators listen there, and want a token.
        let port = NetworkPolicyPort { port: Some(IntOrString::Int(HTTP_PORT.into())), ..NetworkPolicyPort::default() };
        rules.push(NetworkPolicyIngressRule { from: Some(clients.clone()), ports: Some(vec![port]) });
    }
    NetworkPolicy {
        metadata: meta(query, names::shared(name), names::labels(name, "network")),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(own),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(rules),
            egress: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_reach_the_http_port_and_nothing_else() {
        let clients =
            Clients::read(r#"[{"namespaceSelector": {}, "podSelector": {"matchLabels": {"floe-client": "yes"}}}]"#);
        let defaults = Defaults { clients: clients.unwrap(), ..Defaults::default() };
        let query: DistributedQuery = serde_json::from_value(serde_json::json!({
            "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "q"}, "spec": {"plan": {"sql": "x"}},
        }))
        .unwrap();
        let rules = network_policy(&query, &defaults).spec.unwrap().ingress.unwrap();
        let [own, clients] = rules.as_slice() else { panic!("{rules:?}") };
        assert!(own.ports.is_none() && own.from.as_ref().unwrap().len() == 1);
        let rule = serde_json::to_value(clients).unwrap();
        assert_eq!(rule["ports"], serde_json::json!([{"port": 7071}]));
        assert_eq!(rule["from"][0]["podSelector"]["matchLabels"]["floe-client"], "yes");
        assert_eq!(network_policy(&query, &Defaults::default()).spec.unwrap().ingress.unwrap().len(), 1);
    }

    #[test]
    fn a_peer_that_would_let_in_more_than_was_meant_is_refused() {
        for (text, part) in [
            (r#"[{"podSelectr": {}}]"#, "podSelectr is none of"),
            ("[{}]", "a peer needs one of"),
            (r#"{"podSelector": {}}"#, "expected a sequence"),
        ] {
            let told = Clients::read(text).unwrap_err();
            assert!(told.contains(part), "{told}");
        }
    }
}
