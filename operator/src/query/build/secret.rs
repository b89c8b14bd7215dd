//! Builds the Secrets of an attempt: the job with all credentials, the token, and plans too large for the job.

use std::collections::BTreeMap;

use floe_api::job::Job;
use floe_api::{DslSource, PlanSource, Quantity};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::{BuildError, meta};
use crate::query::facts::{Inputs, PlanSecrets};
use crate::query::names::{self, PLAN_SECRETS};

pub const JOB_KEY: &str = "job.json";
pub const TOKEN_KEY: &str = "token";
pub const PLAN_KEY: &str = "plan";
/// Where plans are mounted in the coordinator's pod.
pub const PLAN_DIR: &str = "/etc/floe/plan";
/// Base64 of an inline plan up to this size is part of the job.
const INLINE_LIMIT_BYTES: usize = 512 << 10;
const PART_BYTES: usize = 700_000;
/// Minimum memory limit of a script.
const SCRIPT_LEAST_BYTES: u64 = 256 << 20;

/// Secrets of one attempt.
pub struct JobSecrets {
    pub job: Secret,
    pub plan_parts: Vec<Secret>,
}

/// The Secrets of an attempt. Later attempts reuse the first one's plan, parameters, tables, views and sink, even if
/// the object has changed; storage, compute and execution come from the current object.
pub fn job_secrets(
    inputs: &Inputs,
    attempt: u32,
    token: &str,
    trace: Option<String>,
) -> Result<JobSecrets, BuildError> {
    let query = &inputs.query;
    let name = query.metadata.name.clone().unwrap_or_default();
    let uid = query.metadata.uid.clone().unwrap_or_default();
    let mut spec = query.spec.clone();
    // The coordinator does not need these, and they may be confidential.
    let compute = &mut spec.compute;
    compute.pod_template = None;
    compute.worker_pod_template = None;
    compute.coordinator.pod_template = None;
    compute.volumes.clear();
    compute.affinity = None;
    compute.env.clear();
    compute.env_from.clear();
    compute.tolerations.clear();
    compute.topology_spread_constraints.clear();
    compute.node_selector.clear();
    if let Some(python) = &mut spec.plan.python {
        python.memory.get_or_insert_with(|| script_memory(&spec.compute.coordinator.memory));
    }
    let mut job = Job::new(uid.clone(), name.clone(), spec);
    job.attempt = attempt;
    job.secrets.clone_from(&inputs.secrets);
    job.catalog_secrets.clone_from(&inputs.catalog_secrets);
    job.traceparent = trace;
    let mut parts = Vec::new();
    let plan = match &inputs.first {
        Some((first, plan)) => {
            job.spec.plan = first.spec.plan.clone();
            job.spec.params = first.spec.params.clone();
            job.spec.tables = first.spec.tables.clone();
            job.spec.views = first.spec.views.clone();
            job.spec.sink = first.spec.sink.clone();
            job.traceparent = first.traceparent.clone().or(job.traceparent);
            *plan
        }
        None => {
            parts = take_plan(&mut job.spec.plan);
            PlanSecrets { attempt, parts: parts.len() }
        }
    };
    let text = |text: String| ByteString(text.into_bytes());
    let mut secret = Secret {
        metadata: meta(query, names::job_secret(&name, &uid, attempt), names::labels(&name, "job")),
        type_: Some("Opaque".to_owned()),
        immutable: Some(true),
        data: Some(BTreeMap::from([
            (JOB_KEY.to_owned(), text(serde_json::to_string(&job)?)),
            (TOKEN_KEY.to_owned(), text(token.to_owned())),
        ])),
        string_data: None,
    };
    secret.metadata.annotations =
        Some(BTreeMap::from([(PLAN_SECRETS.to_owned(), format!("{}/{}", plan.attempt, plan.parts))]));
    let plan_parts = parts
        .into_iter()
        .enumerate()
        .map(|(part, bytes)| Secret {
            metadata: meta(query, names::plan_secret(&name, &uid, attempt, part), names::labels(&name, "job")),
            type_: Some("Opaque".to_owned()),
            immutable: Some(true),
            data: Some(BTreeMap::from([(PLAN_KEY.to_owned(), ByteString(bytes))])),
            string_data: None,
        })
        .collect();
    Ok(JobSecrets { job: secret, plan_parts })
}

/// Default memory limit of a script: half of the coordinator's memory, because the coordinator runs it beside itself.
fn script_memory(coordinator: &Quantity) -> Quantity {
    let all = coordinator.bytes().unwrap_or(0);
    Quantity::new((all / 2).max(SCRIPT_LEAST_BYTES.min(all)).to_string())
}

/// Removes a plan from the job if it is in another object or too large; the job then names its path in the pod.
fn take_plan(plan: &mut PlanSource) -> Vec<Vec<u8>> {
    let Some(dsl) = &mut plan.dsl else { return Vec::new() };
    if dsl.config_map_key_ref.is_some() || dsl.secret_key_ref.is_some() {
        let path = format!("{PLAN_DIR}/{}", part_name(0));
        *dsl = DslSource { path: Some(path), ..DslSource::default() };
        return Vec::new();
    }
    let Some(inline) = dsl.inline.as_ref().filter(|inline| inline.len() > INLINE_LIMIT_BYTES) else {
        return Vec::new();
    };
    // Validation has checked that it is base64.
    let Ok(bytes) = floe_api::validate::decode_base64(inline) else { return Vec::new() };
    *dsl = DslSource { path: Some(PLAN_DIR.to_owned()), ..DslSource::default() };
    bytes.chunks(PART_BYTES).map(<[u8]>::to_vec).collect()
}

pub fn part_name(part: usize) -> String {
    format!("part-{part:03}")
}

/// Reads the first attempt's job from its Secret; `None` if the Secret holds none.
pub fn read_first(secret: &Secret) -> Option<(Job, PlanSecrets, String)> {
    let data = secret.data.as_ref()?;
    let job: Job = serde_json::from_slice(&data.get(JOB_KEY)?.0).ok()?;
    let token = String::from_utf8(data.get(TOKEN_KEY)?.0.clone()).ok()?;
    let noted = secret.metadata.annotations.as_ref().and_then(|a| a.get(PLAN_SECRETS));
    let plan = noted.and_then(|noted| {
        let (attempt, parts) = noted.split_once('/')?;
        Some(PlanSecrets { attempt: attempt.parse().ok()?, parts: parts.parse().ok()? })
    });
    Some((job, plan.unwrap_or_default(), token))
}
