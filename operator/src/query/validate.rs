//! Checks whether a query may start: everything that can be checked before it runs. Pure.

use floe_api::job::Provider;
use floe_api::validate::{validate as faults, validate_name};
use floe_api::{ComputeSpec, DistributedQuery, DistributedQuerySpec, FieldError, Format, Reason, TableSpec};

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
    if !is_borrowed {
        errors.extend(local_paths(&query.spec, &query.spec.compute));
    }
    if !errors.is_empty() {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(Invalid { reason: Reason::BadSpec, message: lines.join("; ") });
    }
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
    let errors = local_paths(&query.spec, lent);
    if errors.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Err(Invalid { reason: Reason::BadSpec, message: lines.join("; ") })
}

/// Paths in the pods: what is written there is lost, and there is nothing to read, unless a volume is mounted there. A
/// template may mount one anywhere.
fn local_paths(spec: &DistributedQuerySpec, pods: &ComputeSpec) -> Vec<FieldError> {
    if pods.pod_templates().next().is_some() {
        return Vec::new();
    }
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
    local.filter_map(|(path, uri)| Some(FieldError::new(path.clone(), local_fault(&path, uri, pods)?))).collect()
}

/// Why a path in the pods does not do.
fn local_fault(field: &str, uri: &str, pods: &ComputeSpec) -> Option<String> {
    let path = uri.strip_prefix("file://").unwrap_or(uri);
    // With volumes in one another, the innermost one.
    let volume = pods.volumes.iter().filter(|volume| volume.holds(path)).max_by_key(|volume| volume.mount_path.len());
    let writes = ["spec.sink.uri", "spec.execution.shuffle.uri"].contains(&field);
    match volume {
        _ if path.split('/').any(|part| part == "..") => {
            Some(format!("\"{uri}\" has .. in it: write the path without"))
        }
        None => Some(format!(
            "\"{uri}\" is a path of each pod's own on a cluster: write s3://, gs://, az:// or abfss://, or a path in a volume \
             that all pods share (spec.compute.volumes)"
        )),
        Some(volume) if !volume.is_shared() => Some(format!(
            "\"{uri}\" lies in the volume {}, which each pod has for itself: write a path in a persistentVolumeClaim",
            volume.name
        )),
        Some(volume) if writes && !volume.is_writable() => {
            Some(format!("\"{uri}\" lies in the volume {}, which can only be read", volume.name))
        }
        Some(_) => None,
    }
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
        let cases: [(Break, Reason, &str); 13] = [
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
                |q| q.spec.compute.worker_pod_template = Some(serde_json::json!({"spec": {"nodeSelectors": {}}})),
                Reason::BadSpec,
                "spec.compute.workerPodTemplate.spec.nodeSelectors",
            ),
            (
                |q| {
                    q.spec.compute.coordinator.pod_template =
                        Some(serde_json::json!({"spec": {"containers": [{"name": "floe", "image": "other"}]}}))
                },
                Reason::BadSpec,
                "spec.compute.coordinator.podTemplate: coordinator and workers have the same image",
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
        let mut lent = ComputeSpec { volumes: vec![claim("/data")], ..ComputeSpec::default() };
        assert_eq!(validate_borrowed(&borrowing, &lent, &policy), Ok(()), "the context mounts it");
        lent.volumes = vec![claim("/dat")];
        assert!(validate_borrowed(&borrowing, &lent, &policy).is_err());
    }

    fn claim(mount_path: &str) -> floe_api::VolumeSpec {
        floe_api::VolumeSpec {
            name: "lake".into(),
            mount_path: mount_path.into(),
            persistent_volume_claim: Some(floe_api::ClaimVolume { claim_name: "lake".into() }),
            ..Default::default()
        }
    }

    #[test]
    fn a_path_of_the_pods_lies_in_a_volume_that_they_share() {
        let mut query = floe_api::from_yaml(SOUND).unwrap();
        query.spec.tables.values_mut().for_each(|table| table.uri = "/data/t.parquet".into());
        query.spec.sink = Some(floe_api::SinkSpec {
            uri: "file:///data/out/".into(),
            format: Some(floe_api::SinkFormat::Parquet),
            ..Default::default()
        });
        let mut told = |volume: floe_api::VolumeSpec| {
            query.spec.compute.volumes = vec![volume];
            validate(&query, &Policy::default()).map_err(|error| error.message)
        };
        assert_eq!(told(claim("/data/")), Ok(()));
        let read_only = floe_api::VolumeSpec { read_only: true, ..claim("/data") };
        let fault = told(read_only).unwrap_err();
        assert!(fault.starts_with("spec.sink.uri: ") && fault.contains("can only be read"), "{fault}");
        let own = floe_api::VolumeSpec {
            persistent_volume_claim: None,
            empty_dir: Some(floe_api::EmptyDirVolume::default()),
            ..claim("/data")
        };
        assert!(told(own).unwrap_err().contains("spec.tables.t.uri: \"/data/t.parquet\" lies in the volume lake"));
        assert!(told(claim("/other")).unwrap_err().contains("(spec.compute.volumes)"));
    }
}
