//! The Service through which workers reach the coordinator of the current attempt, by its cluster address: a query
//! waits for no DNS.

use floe_api::DistributedQuery;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::meta;
use crate::query::names::{self, LABEL_ATTEMPT, LABEL_QUERY, LABEL_ROLE, Role};

pub const CONTROL_PORT: i32 = 7070;
pub const HTTP_PORT: i32 = 7071;
pub const WORKER_PORT: i32 = 7072;

pub fn service(query: &DistributedQuery, attempt: u32) -> Service {
    let name = query.metadata.name.as_deref().unwrap_or_default();
    let port = |name: &str, port: i32| ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(IntOrString::Int(port)),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    let selector = [
        (LABEL_QUERY, name.to_owned()),
        (LABEL_ROLE, Role::Coordinator.as_str().to_owned()),
        (LABEL_ATTEMPT, attempt.to_string()),
    ];
    Service {
        metadata: meta(query, names::shared(name), names::labels(name, "coordinator")),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            ports: Some(vec![port("control", CONTROL_PORT), port("http", HTTP_PORT)]),
            // Workers may try before the coordinator is ready; it refuses nobody for that.
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
