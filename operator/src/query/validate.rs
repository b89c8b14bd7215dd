//! Checks whether a query may start: everything that can be checked before it runs. Pure.

use floe_api::job::Provider;
use floe_api::validate::{validate as faults, validate_name};
use floe_api::{ComputeSpec, DistributedQuery, DistributedQuerySpec, FieldError, Format, Reason, TableSpec};

use super::build;
use super::policy::Policy;

/// Why a query cannot start, in the status' terms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    pub reason: Reason,
    pub message: String,
}

/// Checks the whole object, without relying on the API server to have done so.
pub fn validate(query: &DistributedQuery, policy: &Policy) -> Result<(), Invalid> {
    let mut errors = validate_name(query.metadata.name.as_deref());
    errors.extend(faults(&query.spec));
    let is_borrowed = query.spec.compute.context_ref.is_some();
    if !is_borrowed && query.spec.compute.pod_template.is_none() {
        errors.extend(local_paths(&query.spec));
    }
    if !errors.is_empty() {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(Invalid { reason: Reason::BadSpec, message: lines.join("; ") });
    }
    build::check_template(&query.spec.compute)
        .map_err(|fault| Invalid { reason: Reason::BadSpec, message: format!("spec.compute.podTemplate: {fault}") })?;
    let mut refused = policy.faults(&query.spec);
    // The pods are the context's, which must comply with the policy as well.
    refused.retain(|fault| !(is_borrowed && fault.path.starts_with("spec.compute")));
    if !refused.is_empty() {
        let lines: Vec<String> = refused.iter().map(ToString::to_string).collect();
        return Err(Invalid { reason: Reason::NotAllowed, message: lines.join("; ") });
    }
    Ok(())
}

/// The same for a query that borrows a context with such pods.
pub fn validate_borrowed(query: &DistributedQuery, lent: &ComputeSpec, policy: &Policy) -> Result<(), Invalid> {
    validate(query, policy)?;
    let errors = if lent.pod_template.is_some() { Vec::new() } else { local_paths(&query.spec) };
    if errors.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Err(Invalid { reason: Reason::BadSpec, message: lines.join("; ") })
}

/// Paths in the pods: what is written there is lost, and there is nothing to read, unless a template mounts something.
fn local_paths(spec: &DistributedQuerySpec) -> Vec<FieldError> {
    let sink =
        spec.sink.iter().filter(|sink| sink.catalog.is_none()).map(|sink| ("spec.sink.uri".to_owned(), &sink.uri));
    // Neither in a catalog nor in a database.
    let is_files = |table: &TableSpec| table.catalog.is_none() && table.format != Some(Format::Postgres);
    let tables = spec.tables.iter().filter(|(_, table)| is_files(table));
    let tables = tables.map(|(name, table)| (format!("spec.tables.{name}.uri"), &table.uri));
    let plan = spec.plan.dsl.iter().flat_map(|dsl| {
        let uri = dsl.uri.iter().map(|uri| ("spec.plan.dsl.uri".to_owned(), uri));
        uri.chain(dsl.path.iter().map(|path| ("spec.plan.dsl.path".to_owned(), path)))
    });
    let shuffle = spec.execution.shuffle.uri.iter().map(|uri| ("spec.execution.shuffle.uri".to_owned(), uri));
    let all = sink.chain(tables).chain(plan).chain(shuffle);
    let local = all.filter(|(_, uri)| Provider::of(uri) == Provider::Local);
    let message = |uri: &str| {
        format!(
            "\"{uri}\" is a path of each pod's own on a cluster: write s3://, gs://, az:// or abfss://, or mount a volume that \
             all pods share by spec.compute.podTemplate"
        )
    };
    local.map(|(path, uri)| FieldError::new(path, message(uri))).collect()
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
        let cases: [(Break, Reason, &str); 11] = [
            (|q| q.spec.plan.sql = Some("select 1".into()), Reason::BadSpec, "spec.plan"),
            (
                |q| {
                    q.spec.sink = Some(floe_api::SinkSpec {
                        uri: "/out/".into(),
                        format: Some(floe_api::SinkFormat::Parquet),
                        ..Default::default()
                    })
                },
                Reason::BadSpec,
                "spec.sink.uri",
            ),
            (
                |q| q.spec.tables.values_mut().for_each(|table| table.uri = "t.parquet".into()),
                Reason::BadSpec,
                "spec.tables.t.uri",
            ),
            (
                |q| {
                    q.spec.storage = Some(floe_api::StorageSpec {
                        secret_ref: Some(floe_api::NameRef { name: "lake?x=1".into() }),
                        ..Default::default()
                    })
                },
                Reason::BadSpec,
                "spec.storage.secretRef.name",
            ),
            (|q| q.spec.compute.workers = Some(0), Reason::BadSpec, "spec.compute.workers"),
            (|q| q.spec.compute.memory = "1Mi".into(), Reason::BadSpec, "spec.compute.memory"),
            (|q| q.metadata.name = Some("Q_".into()), Reason::BadSpec, "metadata.name"),
            (
                |q| {
                    q.spec.compute.context_ref = Some(floe_api::NameRef { name: "c".into() });
                    q.spec.compute.image = Some("own:1".into());
                },
                Reason::BadSpec,
                "spec.compute.image",
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
        let policy = Policy::default();
        assert_eq!(validate(&sound, &policy), Ok(()));
        for (break_it, reason, words) in cases {
            let mut query = sound.clone();
            break_it(&mut query);
            let error = validate(&query, &policy).unwrap_err();
            assert_eq!(error.reason, reason, "{error}");
            assert!(error.message.contains(words), "{error} must name {words}");
        }
        let strict = crate::query::policy::read(r#"{"maxWorkers": 1}"#).unwrap();
        let error = validate(&sound, &strict).unwrap_err();
        assert_eq!(error.reason, Reason::NotAllowed);
        assert!(error.message.contains("2 workers"), "{error}");
        let mut borrowing = sound.clone();
        borrowing.spec.compute.workers = None;
        borrowing.spec.compute.context_ref = Some(floe_api::NameRef { name: "c".into() });
        assert_eq!(validate(&borrowing, &strict), Ok(()), "workers are the context's");
        borrowing.spec.tables.values_mut().for_each(|table| table.uri = "/data/t.parquet".into());
        let mut lent = ComputeSpec::default();
        assert_eq!(validate_borrowed(&borrowing, &lent, &policy).unwrap_err().reason, Reason::BadSpec);
        lent.pod_template = Some(serde_json::json!({}));
        assert_eq!(validate_borrowed(&borrowing, &lent, &policy), Ok(()), "the context may mount it");
    }
}
