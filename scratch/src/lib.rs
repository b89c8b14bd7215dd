//! Scratch directories, named after the process that owns them, so that later processes find and remove those of a
//! killed one.
//!
//! Belongs here: names and removal. Does not belong here: anything about queries or engines.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A name unique to this process. `kind` is the directory's purpose, `id` distinguishes several of one process.
pub fn name(kind: &str, id: &str) -> String {
    format!("{}{}-{id}", prefix(kind), std::process::id())
}

/// Removes the directories of this kind whose processes no longer exist.
pub fn sweep(root: &Path, kind: &str) {
    for (dir, _) in owned(root, kind).into_iter().filter(|(_, pid)| !Path::new("/proc").join(pid.to_string()).exists())
    {
        // Another process may be sweeping at the same time.
        let _ = std::fs::remove_dir_all(dir);
    }
}

/// Removes the directories of this kind of one process that has ended.
pub fn remove_of(root: &Path, kind: &str, ended: u32) {
    for (dir, _) in owned(root, kind).into_iter().filter(|(_, pid)| *pid == ended) {
        remove(&dir);
    }
}

/// Removes a directory and retries until it is gone: ending processes may still write into it, or remove it at the same
/// time. So check whether it exists, and ignore the result of the removal.
pub fn remove(dir: &Path) {
    for _ in 0..20 {
        let _ = std::fs::remove_dir_all(dir);
        if std::fs::symlink_metadata(dir).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Directories of this kind, with their owners' process ids.
fn owned(root: &Path, kind: &str) -> Vec<(PathBuf, u32)> {
    let prefix = prefix(kind);
    let owner = |name: &str| name.strip_prefix(&prefix)?.split('-').next()?.parse().ok();
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), owner(entry.file_name().to_str()?)?))).collect()
}

/// Process ids are only valid within their PID namespace, and containers may share a directory.
fn prefix(kind: &str) -> String {
    let namespace = std::fs::metadata("/proc/self/ns/pid").map(|meta| meta.ino()).unwrap_or_default();
    format!("floe-{kind}-{namespace}-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_ended_processes_go() {
        // No process has an id above the kernel's limit of 2^22.
        let dead = 1 << 30;
        let root = std::env::temp_dir().join(name("scratch-test", "root"));
        let others = ["run", "engine"].map(|kind| root.join(format!("{}{dead}-x", prefix(kind))));
        let mine = root.join(name("run", "x"));
        for dir in others.iter().chain([&mine]) {
            std::fs::create_dir_all(dir.join("within")).unwrap();
        }
        sweep(&root, "run");
        assert_eq!([others[0].exists(), others[1].exists(), mine.exists()], [false, true, true]);
        remove_of(&root, "engine", dead);
        assert_eq!([others[1].exists(), mine.exists()], [false, true]);
        remove(&root);
        assert!(!root.exists());
    }

    #[test]
    fn a_directory_goes_that_is_still_written_to() {
        let root = std::env::temp_dir().join(name("scratch-test", "written"));
        std::fs::create_dir_all(&root).unwrap();
        let within = root.clone();
        let writer = std::thread::spawn(move || {
            let begin = std::time::Instant::now();
            let mut parts = 0..;
            while begin.elapsed() < Duration::from_millis(300) {
                let _ = std::fs::create_dir(within.join(parts.next().unwrap().to_string()));
            }
        });
        std::thread::scope(|scope| {
            scope.spawn(|| remove(&root));
            remove(&root);
        });
        writer.join().unwrap();
        assert!(!root.exists());
    }
}
