//! Validates workers, their sizes, and their pods.

use std::collections::BTreeSet;

use super::Faults;
use crate::{ComputeSpec, ScratchMedium};

impl Faults<'_> {
    pub(super) fn compute(&mut self, compute: &ComputeSpec) {
        for (field, count) in
            [("workers", compute.workers), ("minWorkers", compute.min_workers), ("maxWorkers", compute.max_workers)]
        {
            if count == Some(0) {
                self.push(format!("spec.compute.{field}"), "must be at least 1, is 0");
            }
        }
        match (compute.workers, compute.min_workers, compute.max_workers) {
            (Some(_), min, max) if min.is_some() || max.is_some() => self.push(
                "spec.compute.workers",
                "excludes minWorkers and maxWorkers: write either workers or the two bounds",
            ),
            (None, Some(_), None) => self.push("spec.compute.maxWorkers", "is missing: minWorkers needs it beside it"),
            (None, Some(min), Some(max)) if min > max => {
                self.push("spec.compute.minWorkers", format!("must not be above maxWorkers: {min} is above {max}"))
            }
            _ => {}
        }
        self.above_zero("spec.compute.cpus", &compute.cpus);
        self.at_least("spec.compute.memory", &compute.memory, "64Mi");
        self.above_zero("spec.compute.coordinator.cpus", &compute.coordinator.cpus);
        self.at_least("spec.compute.coordinator.memory", &compute.coordinator.memory, "64Mi");
        let coordinator = &compute.coordinator;
        self.at_least("spec.compute.coordinator.scratch", &coordinator.scratch, "256Mi");
        for (path, limit, cpus) in [
            ("spec.compute", &compute.cpu_limit, &compute.cpus),
            ("spec.compute.coordinator", &coordinator.cpu_limit, &coordinator.cpus),
        ] {
            let Some(limit) = limit else { continue };
            if self.readable(&format!("{path}.cpuLimit"), limit).is_some_and(|milli| Some(milli) < cpus.milli()) {
                self.push(
                    format!("{path}.cpuLimit"),
                    format!("must not be below {path}.cpus: {limit} is below {cpus}"),
                );
            }
        }
        let scratch = &compute.scratch;
        if let Some(size) = &scratch.size {
            self.at_least("spec.compute.scratch.size", size, "16Mi");
        } else if scratch.medium == ScratchMedium::Claim {
            self.push("spec.compute.scratch.size", "is missing: medium: claim needs it, such as 50Gi");
        }
        if scratch.storage_class_name.is_some() && scratch.medium != ScratchMedium::Claim {
            self.push("spec.compute.scratch.storageClassName", "goes with medium: claim only");
        }
        for (field, name) in [
            ("serviceAccountName", &compute.service_account_name),
            ("priorityClassName", &compute.priority_class_name),
            ("scratch.storageClassName", &scratch.storage_class_name),
        ] {
            if let Some(name) = name {
                self.object_name(&format!("spec.compute.{field}"), name);
            }
        }
        self.pods(compute);
        self.environment(compute);
        self.requirements(compute);
        self.labels("spec.compute.labels", &compute.labels);
        self.labels("spec.compute.nodeSelector", &compute.node_selector);
        for key in compute.annotations.keys() {
            self.label_key("spec.compute.annotations", key);
        }
        if compute.context_ref.is_some() {
            let own = [
                ("image", compute.image.is_some()),
                ("podTemplate", compute.pod_template.is_some()),
                ("workerPodTemplate", compute.worker_pod_template.is_some()),
                ("coordinator.podTemplate", compute.coordinator.pod_template.is_some()),
                ("affinity", compute.affinity.is_some()),
                ("serviceAccountName", compute.service_account_name.is_some()),
                ("env", !compute.env.is_empty()),
                ("envFrom", !compute.env_from.is_empty()),
                ("requirements", !compute.requirements.is_empty()),
                ("volumes", !compute.volumes.is_empty()),
            ];
            for (field, _) in own.into_iter().filter(|(_, given)| *given) {
                self.push(
                    format!("spec.compute.{field}"),
                    "belongs to the context that contextRef names: leave it out here",
                );
            }
        }
    }

    fn requirements(&mut self, compute: &ComputeSpec) {
        for (i, line) in compute.requirements.iter().enumerate() {
            let path = format!("spec.compute.requirements[{i}]");
            if line.trim().is_empty() {
                self.push(path, "is empty: name a package, such as scikit-learn==1.5.2");
            } else if line.contains(['\n', '\r', '\0']) {
                self.push(path, "has more than one line: write each package as an item of the list");
            } else if line.trim_start().starts_with('-') {
                self.push(path, "is an option and no package: pip's options go into its variables (PIP_INDEX_URL in spec.compute.env)");
            }
        }
    }

    fn environment(&mut self, compute: &ComputeSpec) {
        let mut seen = BTreeSet::new();
        for (i, variable) in compute.env.iter().enumerate() {
            let path = format!("spec.compute.env[{i}].name");
            let name = variable.name.as_str();
            if name.is_empty() || name.contains('=') || name.contains('\0') {
                self.push(path, format!("\"{name}\" cannot name an environment variable"));
            } else if name.starts_with("FLOE_") {
                self.push(path, format!("{name}: names that begin with FLOE_ are Floe's own"));
            } else if !seen.insert(name) {
                self.push(path, format!("{name} is given twice"));
            }
        }
    }
}
