//! Checks whether a query may start: everything that can be said of a spec before it runs. Pure.

use floe_api::validate::{validate as faults, validate_name};
use floe_api::{DistributedQuery, Reason};

use super::build;

/// Why a query cannot start, in the words of the status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    pub reason: Reason,
    pub message: String,
}

/// Checks the whole object, without relying on the API server to have done so.
pub fn validate(query: &DistributedQuery) -> Result<(), Invalid> {
    if query.spec.compute.context_ref.is_some() {
        let message = "spec.compute.contextRef: contexts are not supported yet, every query has pods of its own";
        return Err(Invalid { reason: Reason::Unsupported, message: message.into() });
    }
    let mut errors = validate_name(query.metadata.name.as_deref());
    errors.extend(faults(&query.spec));
    if !errors.is_empty() {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(Invalid { reason: Reason::BadSpec, message: lines.join("; ") });
    }
    build::check_template(&query.spec.compute)
        .map_err(|fault| Invalid { reason: Reason::BadSpec, message: format!("spec.compute.podTemplate: {fault}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"
apiVersion: floe.dev/v1alpha1
kind: DistributedQuery
metadata: {name: q, namespace: n}
spec:
  plan: {python: {script: "result = scan('t')"}}
  tables: {t: {uri: s3://b/t.parquet}}
  compute: {workers: 2}
"#;

    #[test]
    fn one_fault_in_a_sound_query_is_found_and_named() {
        type Break = fn(&mut DistributedQuery);
        let cases: [(Break, Reason, &str); 8] = [
            (|q| q.spec.plan.sql = Some("select 1".into()), Reason::BadSpec, "spec.plan"),
            (|q| q.spec.compute.workers = Some(0), Reason::BadSpec, "spec.compute.workers"),
            (|q| q.spec.compute.memory = "1Mi".into(), Reason::BadSpec, "spec.compute.memory"),
            (|q| q.metadata.name = Some("Q_".into()), Reason::BadSpec, "metadata.name"),
            (
                |q| q.spec.compute.context_ref = Some(floe_api::NameRef { name: "c".into() }),
                Reason::Unsupported,
                "contextRef",
            ),
            (
                |q| q.spec.compute.pod_template = Some(serde_json::json!({"spec": {"containers": 3}})),
                Reason::BadSpec,
                "podTemplate",
            ),
            (
                |q| {
                    q.spec.compute.pod_template = Some(serde_json::json!({"spec": {"containers": [
                        {"name": "floe", "env": [{"name": "FLOE_TOKEN", "value": "x"}]}]}}))
                },
                Reason::BadSpec,
                "FLOE_TOKEN",
            ),
            (
                |q| {
                    q.spec
                        .tables
                        .insert("u".into(), floe_api::TableSpec { uri: "s3://b/x".into(), ..Default::default() });
                },
                Reason::BadSpec,
                "spec.tables.u.format",
            ),
        ];
        let sound = floe_api::from_yaml(SOUND).unwrap();
        assert_eq!(validate(&sound), Ok(()));
        for (break_it, reason, words) in cases {
            let mut query = sound.clone();
            break_it(&mut query);
            let error = validate(&query).unwrap_err();
            assert_eq!(error.reason, reason, "{error}");
            assert!(error.message.contains(words), "{error} must name {words}");
        }
    }
}
