//! What pods need and what a namespace's ResourceQuotas still allow, as numbers. Pure. This is only a forecast: the API
//! server's admission decides.

use std::collections::BTreeMap;

use floe_api::Quantity;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};

/// Amounts in thousandths, by the quota's name of the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need(BTreeMap<String, u128>);

impl Need {
    /// What one pod counts for: its containers' requests and limits, and the pod itself.
    pub fn of(pod: &Pod) -> Need {
        let mut need = Need::default();
        need.add("pods", 1000);
        need.add("count/pods", 1000);
        for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
            let Some(resources) = &container.resources else { continue };
            let limits = resources.limits.clone().unwrap_or_default();
            // A limit without a request is also the request.
            let mut requests = limits.clone();
            requests.extend(resources.requests.clone().unwrap_or_default());
            for (name, amount) in &requests {
                let amount = Quantity::new(amount.0.as_str()).milli().unwrap_or(0);
                need.add(name, amount);
                need.add(&format!("requests.{name}"), amount);
            }
            for (name, amount) in &limits {
                need.add(&format!("limits.{name}"), Quantity::new(amount.0.as_str()).milli().unwrap_or(0));
            }
        }
        need
    }

    fn add(&mut self, name: &str, amount: u128) {
        let sum = self.0.entry(name.to_owned()).or_default();
        *sum = sum.saturating_add(amount);
    }

    pub fn plus(mut self, other: &Need) -> Need {
        for (name, amount) in &other.0 {
            self.add(name, *amount);
        }
        self
    }

    pub fn times(mut self, count: u32) -> Need {
        self.0.values_mut().for_each(|amount| *amount = amount.saturating_mul(count.into()));
        self.0.retain(|_, amount| *amount > 0);
        self
    }

    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

/// The contents of one ResourceQuota.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    name: String,
    hard: BTreeMap<String, u128>,
    used: BTreeMap<String, u128>,
    /// It counts only some pods; which ones is up to the API server.
    is_scoped: bool,
}

impl Quota {
    pub fn of(quota: &ResourceQuota) -> Quota {
        type Amounts = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;
        let read = |amounts: Option<Amounts>| -> BTreeMap<String, u128> {
            let amounts = amounts.unwrap_or_default().into_iter();
            amounts.filter_map(|(name, amount)| Some((name, Quantity::new(amount.0).milli()?))).collect()
        };
        let (spec, status) = (quota.spec.clone().unwrap_or_default(), quota.status.clone().unwrap_or_default());
        Quota {
            name: quota.metadata.name.clone().unwrap_or_default(),
            hard: read(spec.hard),
            used: read(status.used),
            is_scoped: spec.scope_selector.is_some() || spec.scopes.is_some_and(|scopes| !scopes.is_empty()),
        }
    }
}

/// Whether there is room for `need`, as far as the quotas show.
pub fn has_room(quotas: &[Quota], need: &Need) -> bool {
    quotas.iter().filter(|quota| !quota.is_scoped).all(|quota| {
        need.0.iter().all(|(name, amount)| {
            let used = quota.used.get(name).copied().unwrap_or(0);
            quota.hard.get(name).is_none_or(|hard| used.saturating_add(*amount) <= *hard)
        })
    })
}

/// Why there can never be room for `need`, if a quota would refuse it even in an empty namespace.
pub fn never(quotas: &[Quota], need: &Need) -> Option<String> {
    quotas.iter().filter(|quota| !quota.is_scoped).find_map(|quota| {
        let (name, hard, amount) = need.0.iter().find_map(|(name, amount)| {
            let hard = quota.hard.get(name).filter(|hard| *amount > **hard)?;
            Some((name, *hard, *amount))
        })?;
        let (amount, hard) = (shown(name, amount), shown(name, hard));
        let quota = &quota.name;
        Some(format!("exceeded quota: {quota}: the query needs {name}={amount} to start, and it allows {hard} in all"))
    })
}

/// Formats an amount for people.
fn shown(name: &str, milli: u128) -> String {
    if name.ends_with("cpu") && !milli.is_multiple_of(1000) {
        return format!("{milli}m");
    }
    let whole = milli / 1000;
    let is_bytes = name.ends_with("memory") || name.ends_with("storage");
    let units = [(1u128 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    match units.iter().find(|(unit, _)| is_bytes && whole >= *unit && whole.is_multiple_of(*unit)) {
        Some((unit, suffix)) => format!("{}{suffix}", whole / unit),
        None => whole.to_string(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    pub fn pod(cpu: &str, memory: &str) -> Need {
        let pod = json!({"spec": {"containers": [{"name": "floe", "resources": {
            "requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}}]}});
        Need::of(&serde_json::from_value(pod).unwrap())
    }

    pub fn quota(hard: serde_json::Value, used: serde_json::Value) -> Quota {
        let quota = json!({"metadata": {"name": "small"}, "spec": {"hard": hard}, "status": {"used": used}});
        Quota::of(&serde_json::from_value(quota).unwrap())
    }

    #[test]
    fn room_is_what_no_quota_denies() {
        let need = pod("500m", "1Gi").times(2);
        let fits = |hard, used| has_room(&[quota(hard, used)], &need);
        assert!(fits(json!({"pods": "4"}), json!({"pods": "2"})));
        assert!(!fits(json!({"pods": "4"}), json!({"pods": "3"})));
        assert!(fits(json!({"requests.cpu": "2", "limits.memory": "2Gi"}), json!({"requests.cpu": "1"})));
        assert!(!fits(json!({"limits.memory": "2047Mi"}), json!({})));
        assert!(!fits(json!({"cpu": "1500m"}), json!({"cpu": "501m"})));
        assert!(fits(json!({"count/secrets": "0"}), json!({"count/secrets": "0"})), "not what pods count for");
        let scoped: ResourceQuota =
            serde_json::from_value(json!({"spec": {"hard": {"pods": "0"}, "scopes": ["BestEffort"]}})).unwrap();
        assert!(has_room(&[Quota::of(&scoped)], &need));
    }

    #[test]
    fn what_can_never_be_is_told_with_its_numbers() {
        let need = pod("500m", "1536Mi").times(3);
        assert_eq!(never(&[quota(json!({"pods": "3", "memory": "5Gi"}), json!({"pods": "3"}))], &need), None);
        let words = never(&[quota(json!({"pods": "2"}), json!({}))], &need).unwrap();
        assert_eq!(words, "exceeded quota: small: the query needs pods=3 to start, and it allows 2 in all");
        let words = never(&[quota(json!({"requests.memory": "4Gi"}), json!({}))], &need).unwrap();
        assert!(words.contains("requests.memory=4608Mi") && words.contains("4Gi in all"), "{words}");
        assert!(never(&[quota(json!({"cpu": "1"}), json!({}))], &need).unwrap().contains("cpu=1500m"));
    }
}
