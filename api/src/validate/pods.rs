//! Validates what goes straight into pods: templates and volumes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::Faults;
use crate::{ComputeSpec, VolumeSpec};

/// The container of coordinators and workers.
const MAIN: &str = "floe";
/// Directories of Floe's own in the pods, and of the system.
const TAKEN: [&str; 7] = ["/tmp", "/scratch", "/memory", "/etc/floe", "/proc", "/sys", "/dev"];

impl Faults<'_> {
    pub(super) fn pods(&mut self, compute: &ComputeSpec) {
        let mut templates = BTreeMap::new();
        for (path, value) in compute.pod_templates() {
            for name in self.template(path, value, path != "spec.compute.podTemplate") {
                templates.entry(name).or_insert(path);
            }
        }
        let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
        for (i, volume) in compute.volumes.iter().enumerate() {
            let at = format!("spec.compute.volumes[{i}]");
            let name = volume.name.as_str();
            self.volume(&at, volume);
            if !names.insert(name) {
                self.push(format!("{at}.name"), format!("{name} is given twice"));
            } else if let Some(template) = templates.get(name) {
                self.push(format!("{at}.name"), format!("{template} has a volume {name}, too: rename one of them"));
            }
            let mount_path = volume.mount_path.trim_end_matches('/');
            if !paths.insert(mount_path) {
                self.push(format!("{at}.mountPath"), format!("another volume is mounted at {mount_path}, too"));
            }
        }
    }

    /// Rejects what a template must not set, because Floe's own pods would not work with it. Returns the names of its volumes.
    fn template(&mut self, path: &'static str, value: &Value, is_of_one_role: bool) -> Vec<String> {
        let template: PodTemplateSpec = match serde_json::from_value(value.clone()) {
            Ok(template) => template,
            Err(e) => {
                self.push(path, format!("is not a pod template: {e}"));
                return Vec::new();
            }
        };
        let mut unknown = Vec::new();
        unknown_fields(path, value, &serde_json::to_value(&template).unwrap_or_default(), &mut unknown);
        for field in unknown {
            self.push(field, "is not a field of a pod template: correct its name, or leave it out");
        }
        let Some(spec) = template.spec else { return Vec::new() };
        for container in spec.containers.iter().filter(|container| container.name == MAIN) {
            if container.command.is_some() || container.args.is_some() {
                self.push(path, format!("command and args of the container {MAIN} are Floe's own: leave them out"));
            }
            if is_of_one_role && container.image.is_some() {
                let message = format!(
                    "coordinator and workers have the same image of the container {MAIN}: write it as spec.compute.image"
                );
                self.push(path, message);
            }
            if let Some(variable) = container.env.iter().flatten().find(|variable| variable.name.starts_with("FLOE_")) {
                let message = format!("{}: names that begin with FLOE_ are Floe's own", variable.name);
                self.push(path, message);
            }
        }
        let volumes: Vec<String> = spec.volumes.into_iter().flatten().map(|volume| volume.name).collect();
        if let Some(name) = volumes.iter().find(|name| name.starts_with("floe-")) {
            self.push(path, format!("the volume {name}: names that begin with floe- are Floe's own"));
        }
        volumes
    }

    fn volume(&mut self, at: &str, volume: &VolumeSpec) {
        let name = volume.name.as_str();
        let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_label = (1..=63).contains(&name.len())
            && name.starts_with(is_end)
            && name.ends_with(is_end)
            && name.chars().all(|c| is_end(c) || c == '-');
        if !is_label {
            let message = format!("\"{name}\" cannot name a volume: write at most 63 lower-case letters, digits and -");
            self.push(format!("{at}.name"), message);
        } else if name.starts_with("floe-") {
            self.push(format!("{at}.name"), format!("{name}: names that begin with floe- are Floe's own"));
        }
        if let Some(message) = mount_fault(&volume.mount_path) {
            self.push(format!("{at}.mountPath"), message);
        }
        if let Some(sub) = &volume.sub_path
            && (sub.is_empty() || sub.starts_with('/') || sub.split('/').any(|part| part == ".."))
        {
            let message = format!("\"{sub}\" is not a path within the volume: leave out .. and the leading slash");
            self.push(format!("{at}.subPath"), message);
        }
        match volume.sources().as_slice() {
            [_] => {}
            [] => {
                self.push(at, "has no source: write persistentVolumeClaim, configMap, secret or emptyDir");
            }
            several => self.push(at, format!("has {}: write only one of them", several.join(" and "))),
        }
        for (field, name) in [
            ("persistentVolumeClaim.claimName", volume.persistent_volume_claim.as_ref().map(|claim| &claim.claim_name)),
            ("configMap.name", volume.config_map.as_ref().map(|map| &map.name)),
            ("secret.secretName", volume.secret.as_ref().map(|secret| &secret.secret_name)),
        ] {
            if let Some(name) = name {
                self.object_name(&format!("{at}.{field}"), name);
            }
        }
        if let Some(limit) = volume.empty_dir.as_ref().and_then(|dir| dir.size_limit.as_ref()) {
            self.at_least(&format!("{at}.emptyDir.sizeLimit"), limit, "1Mi");
        }
    }
}

/// Why nothing can be mounted there.
fn mount_fault(path: &str) -> Option<String> {
    let Some(inner) = path.strip_prefix('/') else {
        return Some(format!("\"{path}\" is not absolute: write /{path}"));
    };
    let mut parts = inner.strip_suffix('/').unwrap_or(inner).split('/');
    if parts.any(|part| part.is_empty() || part == "." || part == ".." || part.contains(':')) {
        return Some(format!("\"{path}\" is not the path of a directory: write one such as /data, without .. and :"));
    }
    let with_end = format!("{}/", path.trim_end_matches('/'));
    let taken = TAKEN.iter().find(|taken| {
        let taken = format!("{taken}/");
        with_end.starts_with(&taken) || taken.starts_with(&with_end)
    })?;
    Some(format!(
        "\"{path}\" would hide or lie in {taken}, which Floe or the system uses: write another, such as /data"
    ))
}

/// Finds the fields that are lost when the template is read as what it should be.
fn unknown_fields(path: &str, given: &Value, read: &Value, unknown: &mut Vec<String>) {
    match (given, read) {
        (Value::Object(given), Value::Object(read)) => {
            for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
                let at = format!("{path}.{key}");
                match read.get(key) {
                    Some(read) => unknown_fields(&at, value, read, unknown),
                    None => unknown.push(at),
                }
            }
        }
        (Value::Array(given), Value::Array(read)) => {
            for (i, (given, read)) in given.iter().zip(read).enumerate() {
                unknown_fields(&format!("{path}[{i}]"), given, read, unknown);
            }
        }
        // Values may be written in several ways, such as a quantity as a number.
        _ => {}
    }
}
