//! What the system allows a process: the machine's memory, limits of the process, limits of its control groups.

use std::path::{Path, PathBuf};

/// The least limit that the system tells.
pub(super) fn limit() -> Option<usize> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|t| machine(&t));
    let process = read("/proc/self/limits").and_then(|t| process(&t));
    let groups = read("/proc/self/cgroup").and_then(|t| groups(Path::new("/sys/fs/cgroup"), &t));
    machine.into_iter().chain(process).chain(groups).min()
}

/// The memory of the machine, by `/proc/meminfo`.
fn machine(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// The lesser of the limits on address space and on data, by `/proc/self/limits`; `unlimited` is no number.
fn process(limits: &str) -> Option<usize> {
    let of = |name: &str| {
        let line = limits.lines().find_map(|l| l.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<usize>().ok()
    };
    ["Max address space", "Max data size"].into_iter().filter_map(of).min()
}

/// The least limit of the process's control groups and those around them, by `/proc/self/cgroup` and the hierarchies mounted
/// below `root`. Version 2 has one hierarchy with `memory.max`, version 1 one for memory with `memory.limit_in_bytes`
/// (the kernel's `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`). In a container the group may be named
/// as the host sees it; then the root of the mount is the container's own.
fn groups(root: &Path, membership: &str) -> Option<usize> {
    let mut limits = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (mounts, file) = match controllers {
            "" => (vec![root.to_owned(), root.join("unified")], "memory.max"),
            c if c.split(',').any(|c| c == "memory") => {
                (vec![root.join("memory"), root.join(c)], "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for mount in mounts {
            limits.extend(around(&mount, group).filter_map(|folder| {
                std::fs::read_to_string(folder.join(file)).ok()?.trim().parse::<usize>().ok()
            }));
        }
    }
    limits.into_iter().min()
}

/// The folder of a group and those of the groups around it, up to the mount.
fn around(mount: &Path, group: &str) -> impl Iterator<Item = PathBuf> {
    let parts: Vec<&str> = group.split('/').filter(|p| !p.is_empty() && *p != "..").collect();
    let mount = mount.to_owned();
    (0..=parts.len()).map(move |n| mount.join(parts[..n].join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_and_the_process() {
        assert_eq!(machine("MemTotal:       24689760 kB\nMemFree: 1 kB\n"), Some(24_689_760 * 1024));
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max data size             unlimited            unlimited            bytes\n\
                      Max address space         2560000000           unlimited            bytes\n";
        assert_eq!(process(limits), Some(2_560_000_000));
        assert_eq!(process("Max data size  7 8 bytes\nMax address space  9 9 bytes\n"), Some(7));
        assert_eq!(machine("").or(process("")), None);
    }

    #[test]
    fn control_groups_of_both_versions() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("memory.max", "max\n");
        put("user/memory.max", "3000\n");
        put("user/job/memory.max", "5000\n");
        put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        put("memory/docker/abc/memory.limit_in_bytes", "2000\n");
        let limit = |membership| groups(root.path(), membership);
        assert_eq!(limit("0::/user/job\n"), Some(3000), "a group around it has less");
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit("4:memory:/docker/abc\n3:cpuset:/\n"), Some(2000));
        assert_eq!(limit("4:cpu,memory:/not/here\n0::/user\n"), Some(3000));
        assert_eq!(limit("nonsense\n"), None);
    }
}
