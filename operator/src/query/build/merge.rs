//! Merges a pod template into Floe's own pod like Kubernetes' strategic merge patch: objects field by field, lists
//! whose items have keys by those keys, other lists as a whole.

use serde_json::{Map, Value};

/// Lists that are merged item by item, and the key of their items.
const KEYED: [(&str, &str); 9] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("volumeMounts", "mountPath"),
    ("imagePullSecrets", "name"),
    ("ports", "containerPort"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
];
/// Lists to which items are appended.
const APPENDED: [&str; 2] = ["tolerations", "envFrom"];

/// Merges `over` into `base`.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => merge_objects(base, over),
        (base, over) => base.clone_from(over),
    }
}

fn merge_objects(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        if value.is_null() {
            continue;
        }
        let Some(slot) = base.get_mut(key) else {
            base.insert(key.clone(), value.clone());
            continue;
        };
        match (slot, value) {
            (Value::Array(items), Value::Array(more)) => merge_lists(key, items, more),
            // `valueFrom` excludes `value`.
            (slot, value) => merge(slot, value),
        }
    }
}

fn merge_lists(field: &str, items: &mut Vec<Value>, more: &[Value]) {
    if APPENDED.contains(&field) {
        items.extend(more.iter().cloned());
        return;
    }
    let Some((_, key)) = KEYED.iter().find(|(list, _)| *list == field) else {
        *items = more.to_vec();
        return;
    };
    for item in more {
        let same = items.iter_mut().find(|known| known.get(key).is_some() && known.get(key) == item.get(key));
        match same {
            Some(known) if matches!(field, "containers" | "initContainers") => merge(known, item),
            // A volume, variable or mount has exactly one source: replace it instead of merging.
            Some(known) => known.clone_from(item),
            None => items.push(item.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn named_things_meet_and_others_are_replaced() {
        let mut base = json!({"spec": {
            "containers": [{"name": "floe", "image": "a", "args": ["x"], "env": [{"name": "A", "value": "1"}],
                "resources": {"limits": {"memory": "1Gi"}}}],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            "tolerations": [{"key": "a"}]}});
        let over = json!({"spec": {
            "containers": [{"name": "floe", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "3"}],
                "resources": {"limits": {"nvidia.com/gpu": "1"}}}, {"name": "side", "image": "s"}],
            "volumes": [{"name": "tmp", "hostPath": {"path": "/x"}}, {"name": "more"}],
            "tolerations": [{"key": "b"}], "dnsPolicy": "None"}});
        merge(&mut base, &over);
        let spec = &base["spec"];
        assert_eq!(spec["containers"][0]["image"], "a");
        assert_eq!(spec["containers"][0]["env"], json!([{"name": "A", "value": "3"}, {"name": "B", "value": "2"}]));
        assert_eq!(spec["containers"][0]["resources"]["limits"], json!({"memory": "1Gi", "nvidia.com/gpu": "1"}));
        assert_eq!(spec["containers"][1]["name"], "side");
        assert_eq!(spec["volumes"], json!([{"name": "tmp", "hostPath": {"path": "/x"}}, {"name": "more"}]));
        assert_eq!(spec["tolerations"], json!([{"key": "a"}, {"key": "b"}]));
        assert_eq!(spec["dnsPolicy"], "None");
    }
}
