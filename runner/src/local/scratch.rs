//! The directories of one engine on this machine: one on disk, one in memory where there is such a place. Named after
//! the process that owns them, so that what a killed one left is found and removed by the next.

use std::path::{Path, PathBuf};

const MEMORY_ROOT: &str = "/dev/shm";

#[derive(Clone, Debug)]
pub struct Scratch {
    pub dir: PathBuf,
    pub memory_dir: Option<PathBuf>,
}

impl Scratch {
    /// Makes the directories of this process, with a name that no other engine has.
    pub fn create(root: &Path) -> std::io::Result<Scratch> {
        sweep(root);
        let name = format!("{}{}-{}", prefix(), std::process::id(), uuid::Uuid::new_v4().simple());
        let dir = root.join(&name);
        create_private(&dir)?;
        let memory_root = Path::new(MEMORY_ROOT);
        let memory_dir = memory_root.is_dir().then(|| {
            sweep(memory_root);
            memory_root.join(&name)
        });
        let memory_dir = memory_dir.filter(|dir| create_private(dir).is_ok());
        Ok(Scratch { dir, memory_dir })
    }

    pub fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.dir);
        if let Some(dir) = &self.memory_dir {
            let _ = std::fs::remove_dir_all(dir);
        }
    }

    pub fn remove_worker(&self, name: &str) {
        let _ = std::fs::remove_dir_all(self.dir.join(name));
        if let Some(dir) = &self.memory_dir {
            let _ = std::fs::remove_dir_all(dir.join(name));
        }
    }
}

/// Process ids mean something only within their namespace, and containers may share a directory.
fn prefix() -> String {
    use std::os::unix::fs::MetadataExt;
    let namespace = std::fs::metadata("/proc/self/ns/pid").map(|meta| meta.ino()).unwrap_or_default();
    format!("floe-engine-{namespace}-")
}

fn create_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Removes what engines left that are no more (killed together with all their workers).
fn sweep(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    let prefix = prefix();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(&prefix)).and_then(|rest| rest.split('-').next());
        if let Some(pid) = owner.and_then(|pid| pid.parse::<u32>().ok())
            && !Path::new("/proc").join(pid.to_string()).exists()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
