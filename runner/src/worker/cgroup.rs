//! What the kernel counts against this process: the limit of its memory cgroup, and its anonymous memory.

use std::fs;
use std::path::Path;

use crate::shuffle::page_bytes;

/// The memory limit of the cgroup that this process is in; none if there is no limit, or it cannot be read.
pub fn limit_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    files(&groups)
        .iter()
        .find_map(|file| fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok()?.trim().parse().ok())
}

/// Files that may have the limit, by version 1 or 2. In a container the group's own path is not always there.
fn files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let path = path.trim_matches('/');
        if controllers.split(',').any(|controller| controller == "memory") {
            files.push(format!("memory/{path}/memory.limit_in_bytes"));
            files.push("memory/memory.limit_in_bytes".to_owned());
        } else if controllers.is_empty() {
            files.push(format!("{path}/memory.max"));
            files.push("memory.max".to_owned());
        }
    }
    files
}

/// Memory of the process that is not backed by a file.
pub fn anonymous_bytes() -> u64 {
    fs::read_to_string("/proc/self/statm").map_or(0, |statm| anonymous_pages(&statm).unwrap_or(0) * page_bytes())
}

/// `size resident shared …`, in pages.
fn anonymous_pages(statm: &str) -> Option<u64> {
    let mut fields = statm.split(' ').map(str::parse::<u64>);
    let (_, resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
    Some(resident.saturating_sub(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_looked_up_by_the_version_of_the_cgroup() {
        let v1 = "5:freezer:/a\n4:cpu,memory:/kubepods/pod1/c\n";
        assert_eq!(files(v1), ["memory/kubepods/pod1/c/memory.limit_in_bytes", "memory/memory.limit_in_bytes"]);
        assert_eq!(files("0::/user.slice\n"), ["user.slice/memory.max", "memory.max"]);
        assert_eq!(files("damaged\n"), [""; 0]);
    }

    #[test]
    fn anonymous_memory_is_what_is_resident_and_not_shared() {
        assert_eq!(anonymous_pages("1000 300 100 1 0 2 0"), Some(200));
        assert_eq!(anonymous_pages("x"), None);
        assert!(anonymous_bytes() > 0);
    }
}
