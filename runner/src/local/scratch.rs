//! The scratch directories of one engine on this machine: one on disk, and one in memory where possible. They are named
//! after their process, so that a later engine finds and removes those of a killed one.

use std::path::{Path, PathBuf};

const KIND: &str = "engine";
const MEMORY_ROOT: &str = "/dev/shm";

#[derive(Clone, Debug)]
pub struct Scratch {
    pub dir: PathBuf,
    pub memory_dir: Option<PathBuf>,
}

impl Scratch {
    /// Creates the directories of this process, with a unique name.
    pub fn create(root: &Path) -> std::io::Result<Scratch> {
        floe_scratch::sweep(root, KIND);
        let name = floe_scratch::name(KIND, &uuid::Uuid::new_v4().simple().to_string());
        let dir = root.join(&name);
        create_private(&dir)?;
        let memory_root = Path::new(MEMORY_ROOT);
        let memory_dir = memory_root.is_dir().then(|| {
            floe_scratch::sweep(memory_root, KIND);
            memory_root.join(&name)
        });
        let memory_dir = memory_dir.filter(|dir| create_private(dir).is_ok());
        Ok(Scratch { dir, memory_dir })
    }

    pub fn remove(&self) {
        floe_scratch::remove(&self.dir);
        if let Some(dir) = &self.memory_dir {
            floe_scratch::remove(dir);
        }
    }

    pub fn remove_worker(&self, name: &str) {
        let _ = std::fs::remove_dir_all(self.dir.join(name));
        if let Some(dir) = &self.memory_dir {
            let _ = std::fs::remove_dir_all(dir.join(name));
        }
    }
}

fn create_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
