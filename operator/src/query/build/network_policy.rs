//! Builds the NetworkPolicy: a query's pods are reachable by each other and by the operator.

use floe_api::DistributedQuery;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Defaults, meta};
use crate::query::names::{self, LABEL_QUERY};

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
    NetworkPolicy {
        metadata: meta(query, names::shared(name), names::labels(name, "network")),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(own),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule { from: Some(peers), ports: None }]),
            egress: None,
        }),
    }
}
