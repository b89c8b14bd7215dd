//! Volumes that the pods of a query mount, typed: what is used most, with a few fields of each. Everything else goes through
//! a pod template.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NameRef, Quantity, quantity};

/// A volume and where it is mounted. It has exactly one source.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.persistentVolumeClaim), has(self.configMap), has(self.secret), has(self.emptyDir)].exists_one(given, given)").message("a volume of compute.volumes has one source: persistentVolumeClaim, configMap, secret or emptyDir"),
    validation = Rule::new("self.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && !self.name.startsWith('floe-')").message("compute.volumes.name: write at most 63 lower-case letters, digits and -; names that begin with floe- are Floe's own"),
    validation = Rule::new("self.mountPath.matches('^(/[^/:]+)+/?$') && !(self.mountPath + '/').matches('^/(proc|sys|dev|tmp|scratch|memory|etc/floe)/') && !(self.mountPath + '/').matches('/[.][.]?/') && !(self.mountPath in ['/etc', '/etc/'])").message("compute.volumes.mountPath: write an absolute path such as /data, outside of Floe's own (/tmp, /scratch, /memory, /etc/floe) and the system's (/proc, /sys, /dev)"),
    validation = Rule::new("!has(self.subPath) || !('/' + self.subPath + '/').matches('^//|/[.][.]/')").message("compute.volumes.subPath: write a path within the volume, without .. and without a leading slash"),
)]
pub struct VolumeSpec {
    /// Name of the volume, of which there is one in `volumes` and none in the templates.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Absolute path of the directory where it is mounted, such as `/data`.
    #[schemars(length(min = 1, max = 512))]
    pub mount_path: String,
    /// Mount only this path of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub sub_path: Option<String>,
    /// Whether nothing can be written there. ConfigMaps and Secrets cannot be written anyway.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// A claim in the namespace. All pods mount it, so its access mode is `ReadWriteMany` or `ReadOnlyMany` unless they run on one
    /// node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimVolume>,
    /// A ConfigMap in the namespace: each key is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<NameRef>,
    /// A Secret in the namespace: each key is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolume>,
    /// An empty directory of each pod's own, which goes with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirVolume>,
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimVolume {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
}

/// A Secret, as pods name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretVolume {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// A directory on the node's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDirVolume {
    /// A pod that writes more is evicted. If unset, there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity::schema")]
    pub size_limit: Option<Quantity>,
}

impl VolumeSpec {
    /// The sources that are given, as pods name them.
    pub fn sources(&self) -> Vec<&'static str> {
        [
            ("persistentVolumeClaim", self.persistent_volume_claim.is_some()),
            ("configMap", self.config_map.is_some()),
            ("secret", self.secret.is_some()),
            ("emptyDir", self.empty_dir.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }

    /// Whether what one pod writes there is seen by the others.
    pub fn is_shared(&self) -> bool {
        self.empty_dir.is_none()
    }

    /// Whether pods can write there.
    pub fn is_writable(&self) -> bool {
        !self.read_only && self.config_map.is_none() && self.secret.is_none()
    }

    /// Whether a path of the pods lies in the volume.
    pub fn holds(&self, path: &str) -> bool {
        let root = self.mount_path.trim_end_matches('/');
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}
