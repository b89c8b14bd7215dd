//! What is pinned for an attempt: image and sizes, which are the same for all of its pods whatever changes. Pure.

use std::hash::Hasher;

use floe_api::{ComputeSpec, DistributedQuery, PinnedStatus, Quantity};

use super::{BuildError, Defaults, PodInputs, pod};
use crate::query::facts::PlanSecrets;
use crate::query::kubelet::MAIN;
use crate::query::names::Place;

/// What an attempt that begins now is pinned to.
pub fn pins(query: &DistributedQuery, defaults: &Defaults) -> Result<PinnedStatus, BuildError> {
    let inputs =
        PodInputs { query, defaults, plan: PlanSecrets::default(), attempt: 1, image: None, grant: None, gang: None };
    // The template may name another image.
    let made = pod(Place::Worker { attempt: 1, index: 0, replacement: 0 }, &inputs)?;
    let main = made.spec.into_iter().flat_map(|spec| spec.containers).find(|container| container.name == MAIN);
    let compute = &query.spec.compute;
    Ok(PinnedStatus {
        image: main.and_then(|container| container.image).unwrap_or_default(),
        cpus: compute.cpus.as_str().to_owned(),
        cpu_limit: compute.cpu_limit.as_ref().map(|limit| limit.as_str().to_owned()),
        memory: compute.memory.as_str().to_owned(),
        compute: digest(compute),
    })
}

/// The query with the attempt's pinned values.
pub fn pinned(query: &DistributedQuery, pins: Option<&PinnedStatus>) -> DistributedQuery {
    let mut query = query.clone();
    let Some(pins) = pins else { return query };
    let compute = &mut query.spec.compute;
    compute.cpus = Quantity::new(pins.cpus.as_str());
    compute.cpu_limit = pins.cpu_limit.as_deref().map(Quantity::new);
    compute.memory = Quantity::new(pins.memory.as_str());
    query
}

/// A digest that is equal for equal specs. It leaves out the number of workers, which may change at any time.
fn digest(compute: &ComputeSpec) -> String {
    let fixed = ComputeSpec { workers: None, min_workers: None, max_workers: None, ..compute.clone() };
    // Convert to a value first: its maps are sorted.
    let text = serde_json::to_value(&fixed).map(|value| sorted(&value)).unwrap_or_default();
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(text.as_bytes());
    format!("{:016x}", hasher.finish())
}

fn sorted(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(map) => {
            let ordered: std::collections::BTreeMap<&String, String> =
                map.iter().map(|(k, v)| (k, sorted(v))).collect();
            format!("{ordered:?}")
        }
        serde_json::Value::Array(items) => format!("{:?}", items.iter().map(sorted).collect::<Vec<_>>()),
        other => other.to_string(),
    }
}

/// FNV-1a: stable across builds, unlike the standard library's hasher.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
