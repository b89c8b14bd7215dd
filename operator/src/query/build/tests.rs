//! The objects as YAML, compared with files, and the few properties that every pod must have.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::*;
use crate::query::facts::Inputs;
use crate::query::names::Place;

const PLAIN: &str = r#"
apiVersion: floe.dev/v1alpha1
kind: DistributedQuery
metadata: {name: q, namespace: n}
spec:
  plan: {python: {script: "result = scan('t')"}}
  tables: {t: {uri: s3://b/t.parquet}}
  sink: {uri: s3://b/out/, format: parquet}
"#;

const RICH: &str = r#"
apiVersion: floe.dev/v1alpha1
kind: DistributedQuery
metadata: {name: q, namespace: n}
spec:
  plan: {dsl: {configMapKeyRef: {name: plans, key: q.bin}}}
  compute:
    workers: 3
    cpus: 1500m
    memory: 4Gi
    scratch: {medium: claim, size: 50Gi, storageClassName: fast}
    image: localhost/mine:1
    imagePullPolicy: IfNotPresent
    imagePullSecrets: [{name: registry}]
    nodeSelector: {disk: ssd}
    tolerations: [{key: spot, operator: Exists}]
    topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {floe.dev/query: q}}}
    affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
    serviceAccountName: reader
    priorityClassName: high
    labels: {team: data}
    annotations: {note: hello}
    env: [{name: AWS_REGION, value: eu-1}, {name: POLARS_MAX_THREADS, value: "7"}]
    envFrom: [{secretRef: {name: creds}}]
    podTemplate:
      metadata: {name: ignored, labels: {tier: batch, floe.dev/query: other}}
      spec:
        restartPolicy: Always
        automountServiceAccountToken: true
        dnsPolicy: Default
        containers:
          - {name: floe, env: [{name: RUST_LOG, value: debug}], volumeMounts: [{name: ca, mountPath: /ca}]}
          - {name: side, image: side}
        volumes: [{name: ca, configMap: {name: ca}}]
"#;

fn query(text: &str) -> DistributedQuery {
    let mut query = floe_api::from_yaml(text).unwrap();
    query.metadata.uid = Some("uid".into());
    query
}

fn defaults() -> Defaults {
    Defaults {
        runner_image: "floe-runner:test".into(),
        pull_policy: Some("IfNotPresent".into()),
        pull_secrets: vec!["pull".into()],
        runner_env: vec![("OTEL_EXPORTER_OTLP_ENDPOINT".into(), "http://otel:4317".into())],
        operator_namespace: Some("floe-system".into()),
        operator_labels: [("app".to_owned(), "floe-operator".to_owned())].into(),
        clients: Clients::default(),
        gang: None,
    }
}

fn made(text: &str, place: Place) -> Pod {
    let (query, defaults) = (query(text), defaults());
    let plan = PlanSecrets { attempt: 1, parts: 0 };
    let inputs =
        PodInputs { query: &query, defaults: &defaults, plan, attempt: 1, image: None, grant: None, gang: None };
    pod(place, &inputs).unwrap()
}

const COORDINATOR: Place = Place::Coordinator { attempt: 1 };
const WORKER: Place = Place::Worker { attempt: 1, index: 0, replacement: 0 };

/// FLOE_WRITE_GENERATED=1 writes the files.
fn hold(file: &str, object: &impl serde::Serialize) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/query/build/golden").join(file);
    // Convert to JSON first: its maps are sorted whatever features the workspace enables.
    let value: serde_yaml_ng::Value = serde_yaml_ng::to_value(sorted(serde_json::to_value(object).unwrap())).unwrap();
    let text = serde_yaml_ng::to_string(&value).unwrap();
    if std::env::var_os("FLOE_WRITE_GENERATED").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "{file} has changed");
}

fn sorted(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => {
            let ordered: BTreeMap<String, serde_json::Value> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            ordered.into_iter().collect()
        }
        serde_json::Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[test]
fn objects_are_as_the_files_say() {
    hold("coordinator.yaml", &made(PLAIN, COORDINATOR));
    hold("worker.yaml", &made(PLAIN, WORKER));
    hold("clean.yaml", &made(PLAIN, Place::Clean));
    hold("rich-coordinator.yaml", &made(RICH, COORDINATOR));
    hold("rich-worker.yaml", &made(RICH, WORKER));
    hold("network-policy.yaml", &network_policy(&query(PLAIN), &defaults()));
}

#[test]
fn every_pod_keeps_to_the_restricted_level_and_has_no_token() {
    for text in [PLAIN, RICH] {
        for place in [COORDINATOR, WORKER, Place::Clean] {
            let pod = made(text, place);
            let spec = pod.spec.unwrap();
            assert_eq!(spec.automount_service_account_token, Some(false));
            assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
            assert_eq!(spec.enable_service_links, Some(false));
            let security = spec.security_context.unwrap();
            assert_eq!((security.run_as_non_root, security.run_as_user), (Some(true), Some(65532)));
            let main = spec.containers.iter().find(|c| c.name == "floe").unwrap();
            let own = main.security_context.as_ref().unwrap();
            assert_eq!((own.read_only_root_filesystem, own.allow_privilege_escalation), (Some(true), Some(false)));
            assert_eq!(own.capabilities.as_ref().unwrap().drop.as_deref(), Some(&["ALL".to_owned()][..]));
            let labels = pod.metadata.labels.unwrap();
            assert_eq!(labels["floe.dev/query"], "q", "not the user's to change");
            assert_eq!(pod.metadata.owner_references.unwrap()[0].uid, "uid");
        }
    }
}

#[test]
fn the_users_wishes_come_over_floes_own() {
    let pod = made(RICH, WORKER);
    let spec = pod.spec.unwrap();
    let main = spec.containers.iter().find(|c| c.name == "floe").unwrap();
    let value = |name: &str| main.env.iter().flatten().find(|e| e.name == name).and_then(|e| e.value.clone());
    assert_eq!(value("POLARS_MAX_THREADS").as_deref(), Some("7"));
    assert_eq!(value("RUST_LOG").as_deref(), Some("debug"));
    assert_eq!(value("FLOE_SHUFFLE_MEMORY"), Some((1u64 << 30).to_string()));
    assert_eq!((spec.containers.len(), spec.dns_policy.as_deref()), (2, Some("Default")));
    assert_eq!((pod.metadata.name.as_deref(), main.image.as_deref()), (Some("q-1-w0-0"), Some("localhost/mine:1")));
    assert!(spec.volumes.unwrap().iter().any(|v| v.name == "ca"));
}

#[test]
fn packages_are_named_to_every_pod_and_have_room() {
    let text = PLAIN.replace("  plan:", "  compute: {requirements: [six==1.17.0, attrs]}\n  plan:");
    for place in [WORKER, Place::Coordinator { attempt: 1 }] {
        let (plain, with) = (made(PLAIN, place).spec.unwrap(), made(&text, place).spec.unwrap());
        let named = with.containers[0].env.iter().flatten().find(|variable| variable.name == "FLOE_REQUIREMENTS");
        assert_eq!(named.and_then(|variable| variable.value.as_deref()), Some("six==1.17.0\nattrs"));
        let tmp = |spec: &k8s_openapi::api::core::v1::PodSpec| {
            let volume = spec.volumes.iter().flatten().find(|volume| volume.name == "floe-tmp").unwrap();
            volume.empty_dir.as_ref().unwrap().size_limit.as_ref().unwrap().0.parse::<u64>().unwrap()
        };
        let more = tmp(&with) - tmp(&plain);
        assert_eq!(more, if place == WORKER { 4 << 30 } else { 0 });
    }
}

#[test]
fn a_namespace_with_quotas_of_limits_gets_limits_on_every_pod() {
    let text = format!("{PLAIN}  compute: {{cpus: 500m, cpuLimit: '2', scratch: {{size: 1Gi}}}}\n");
    let mib = |pod: &Pod,
               of: fn(
        &k8s_openapi::api::core::v1::ResourceRequirements,
    ) -> Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
               name: &str| {
        let resources = pod.spec.as_ref().unwrap().containers[0].resources.as_ref().unwrap();
        of(resources).and_then(|amounts| amounts.get(name)).map(|amount| amount.0.clone())
    };
    for (place, cpu, disk_mib) in
        [(COORDINATOR, "1", 4096u64 + 64), (WORKER, "2", 1024 + 256 + 64), (Place::Clean, "1", 256 + 64)]
    {
        let pod = made(&text, place);
        assert_eq!(mib(&pod, |r| r.limits.as_ref(), "cpu").as_deref(), Some(cpu), "{place:?}");
        let disk = Some((disk_mib << 20u64).to_string());
        assert_eq!(mib(&pod, |r| r.limits.as_ref(), "ephemeral-storage"), disk, "{place:?}");
        assert_eq!(mib(&pod, |r| r.requests.as_ref(), "ephemeral-storage"), disk, "{place:?}");
        let plain = made(PLAIN, place);
        assert_eq!(mib(&plain, |r| r.limits.as_ref(), "cpu"), None, "idle CPUs may be used");
        assert_eq!(mib(&plain, |r| r.limits.as_ref(), "ephemeral-storage"), None);
    }
}

#[test]
fn an_attempt_keeps_its_image_and_its_sizes() {
    let (before, mut defaults) = (query(PLAIN), defaults());
    let first = pins(&before, &defaults).unwrap();
    assert_eq!((first.image.as_str(), first.memory.as_str()), ("floe-runner:test", "2Gi"));
    // The operator is upgraded, and the spec changes.
    defaults.runner_image = "floe-runner:next".into();
    let mut after = before.clone();
    after.spec.compute.memory = "4Gi".into();
    after.spec.compute.workers = Some(7);
    let second = pins(&after, &defaults).unwrap();
    assert_eq!((second.image.as_str(), second.memory.as_str()), ("floe-runner:next", "4Gi"));
    assert_ne!(first.compute, second.compute);
    let query = pinned(&after, Some(&first));
    let plan = PlanSecrets::default();
    let inputs = PodInputs {
        query: &query,
        defaults: &defaults,
        plan,
        attempt: 1,
        image: Some(&first.image),
        grant: None,
        gang: None,
    };
    let old = PodInputs {
        query: &before,
        defaults: &self::defaults(),
        plan,
        attempt: 1,
        image: None,
        grant: None,
        gang: None,
    };
    assert_eq!(
        pod(WORKER, &inputs).unwrap(),
        pod(WORKER, &old).unwrap(),
        "a worker that is made later is like the first"
    );
    // Only the number of workers changes: nothing must be created again.
    let mut more = before.clone();
    more.spec.compute.workers = Some(7);
    assert_eq!(pins(&more, &self::defaults()).unwrap(), first);
    // A template's image is pinned as well.
    let text =
        format!("{PLAIN}  compute: {{podTemplate: {{spec: {{containers: [{{name: floe, image: 'mine:2'}}]}}}}}}\n");
    assert_eq!(pins(&self::query(&text), &self::defaults()).unwrap().image, "mine:2");
}

#[test]
fn a_script_fits_beside_its_coordinator() {
    for (coordinator, script) in [("1Gi", 512), ("8Gi", 4096), ("384Mi", 256), ("128Mi", 128)] {
        let mut query = query(PLAIN);
        query.spec.compute.coordinator.memory = coordinator.into();
        let inputs = Inputs { query: Arc::new(query), ..Inputs::default() };
        let (job, _, _) = read_first(&job_secrets(&inputs, 1, "t", None).unwrap().job).unwrap();
        let memory = job.spec.plan.python.unwrap().memory.unwrap();
        assert_eq!(memory.bytes(), Some(script << 20), "{coordinator}");
    }
}

#[test]
fn a_job_carries_secrets_and_later_attempts_repeat_the_first() {
    let mut first = query(PLAIN);
    first.spec.params.insert("day".into(), "monday".into());
    let mut inputs = Inputs { query: Arc::new(first.clone()), ..Inputs::default() };
    inputs.secrets.insert(String::new(), [("aws_access_key_id".into(), "k".into())].into());
    let one = job_secrets(&inputs, 1, "t1", Some("00-a-b-01".into())).unwrap();
    let (job, plan, token) = read_first(&one.job).unwrap();
    assert_eq!((job.id.as_str(), job.attempt, token.as_str()), ("uid", 1, "t1"));
    assert_eq!(job.secrets[""]["aws_access_key_id"].reveal(), "k");
    // The object changes; the second attempt does not.
    let mut later = first;
    later.spec.params.insert("day".into(), "tuesday".into());
    later.spec.compute.memory = "8Gi".into();
    let inputs = Inputs { query: Arc::new(later), first: Some((job, plan)), ..Inputs::default() };
    let (job, _, _) = read_first(&job_secrets(&inputs, 2, "t2", None).unwrap().job).unwrap();
    assert_eq!((job.attempt, job.spec.params["day"].as_str()), (2, Some("monday")));
    assert_eq!(job.spec.compute.memory.as_str(), "8Gi");
    assert_eq!(job.traceparent.as_deref(), Some("00-a-b-01"));
}

#[test]
fn large_plans_lie_in_secrets_of_their_own() {
    use base64::Engine;
    let mut large = query(PLAIN);
    large.spec.tables.clear();
    let bytes: Vec<u8> = (0..900_000u32).map(|i| (i % 251) as u8).collect();
    let inline = base64::engine::general_purpose::STANDARD.encode(&bytes);
    large.spec.plan = floe_api::PlanSource {
        dsl: Some(floe_api::DslSource { inline: Some(inline), ..Default::default() }),
        ..Default::default()
    };
    let inputs = Inputs { query: Arc::new(large.clone()), ..Inputs::default() };
    let secrets = job_secrets(&inputs, 1, "t", None).unwrap();
    let joined: Vec<u8> =
        secrets.plan_parts.iter().flat_map(|part| part.data.as_ref().unwrap()["plan"].0.clone()).collect();
    assert_eq!(joined, bytes);
    let (job, plan, _) = read_first(&secrets.job).unwrap();
    assert_eq!(plan, PlanSecrets { attempt: 1, parts: 2 });
    assert_eq!(job.spec.plan.dsl.unwrap().path.as_deref(), Some("/etc/floe/plan"));
    let defaults = defaults();
    let inputs =
        PodInputs { query: &large, defaults: &defaults, plan, attempt: 1, image: None, grant: None, gang: None };
    let text = serde_json::to_string(&pod(COORDINATOR, &inputs).unwrap()).unwrap();
    assert!(text.contains("q-floe-1-uid-plan-1") && text.contains("plan/part-001"), "{text}");
}

const APART: &str = r#"
  compute:
    nodeSelector: {disk: ssd}
    labels: {team: data}
    podTemplate: {metadata: {labels: {tier: batch, team: other}}, spec: {dnsPolicy: Default}}
    workerPodTemplate:
      metadata: {labels: {tier: heavy}}
      spec:
        nodeSelector: {disk: nvme}
        containers: [{name: floe, resources: {limits: {nvidia.com/gpu: '1'}}}]
    coordinator: {podTemplate: {metadata: {annotations: {scrape: 'true'}}, spec: {priorityClassName: calm}}}
    volumes:
      - {name: lake, mountPath: /data/, readOnly: true, subPath: sales, persistentVolumeClaim: {claimName: lake}}
      - {name: ca, mountPath: /etc/ssl/own, secret: {secretName: ca}}
      - {name: rates, mountPath: /rates, configMap: {name: rates}}
      - {name: spill, mountPath: /spill, emptyDir: {sizeLimit: 2Gi}}
"#;

#[test]
fn templates_of_one_role_reach_only_its_pods_and_win() {
    let text = format!("{PLAIN}{APART}");
    let labels = |pod: &Pod, key: &str| pod.metadata.labels.as_ref().unwrap().get(key).cloned();
    let worker = made(&text, WORKER);
    assert_eq!(labels(&worker, "tier").as_deref(), Some("heavy"));
    // The fields of compute override the template of all pods, as before.
    assert_eq!(labels(&worker, "team").as_deref(), Some("data"));
    let spec = worker.spec.unwrap();
    assert_eq!(spec.node_selector.unwrap()["disk"], "nvme");
    let limits = spec.containers[0].resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert_eq!((limits["nvidia.com/gpu"].0.as_str(), limits["memory"].0.as_str()), ("1", "2Gi"));
    assert_eq!((spec.priority_class_name, spec.dns_policy.as_deref()), (None, Some("Default")));
    for place in [COORDINATOR, Place::Clean] {
        let coordinator = made(&text, place);
        assert_eq!(labels(&coordinator, "tier").as_deref(), Some("batch"), "{place:?}");
        assert_eq!(coordinator.metadata.annotations.as_ref().unwrap()["scrape"], "true");
        let spec = coordinator.spec.unwrap();
        assert_eq!(spec.node_selector.unwrap()["disk"], "ssd");
        assert_eq!((spec.priority_class_name.as_deref(), spec.dns_policy.as_deref()), (Some("calm"), Some("Default")));
        assert!(
            !spec.containers[0].resources.as_ref().unwrap().limits.as_ref().unwrap().contains_key("nvidia.com/gpu")
        );
    }
}

#[test]
fn volumes_are_mounted_by_every_pod_beside_floes_own() {
    let text = format!("{PLAIN}{APART}");
    for place in [COORDINATOR, WORKER, Place::Clean] {
        let (plain, with) = (made(PLAIN, place).spec.unwrap(), made(&text, place).spec.unwrap());
        let own = plain.volumes.unwrap();
        let volumes = with.volumes.unwrap();
        assert_eq!(volumes[..own.len()], own, "{place:?}");
        let told = serde_json::to_value(&volumes[own.len()..]).unwrap();
        let wanted = serde_json::json!([
            {"name": "lake", "persistentVolumeClaim": {"claimName": "lake"}},
            {"name": "ca", "secret": {"secretName": "ca"}},
            {"name": "rates", "configMap": {"name": "rates"}},
            {"name": "spill", "emptyDir": {"sizeLimit": "2Gi"}},
        ]);
        assert_eq!(told, wanted, "{place:?}");
        let mounts = with.containers[0].volume_mounts.clone().unwrap();
        let told = serde_json::to_value(&mounts[mounts.len() - 4..]).unwrap();
        let wanted = serde_json::json!([
            {"name": "lake", "mountPath": "/data", "subPath": "sales", "readOnly": true},
            {"name": "ca", "mountPath": "/etc/ssl/own", "readOnly": true},
            {"name": "rates", "mountPath": "/rates", "readOnly": true},
            {"name": "spill", "mountPath": "/spill"},
        ]);
        assert_eq!(told, wanted, "{place:?}");
    }
    let inputs = Inputs { query: Arc::new(query(&text)), ..Inputs::default() };
    let (job, _, _) = read_first(&job_secrets(&inputs, 1, "t", None).unwrap().job).unwrap();
    let compute = job.spec.compute;
    assert!(compute.pod_templates().next().is_none() && compute.volumes.is_empty(), "the coordinator needs none of it");
}
