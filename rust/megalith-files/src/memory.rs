//! How much memory this process may still take: what the machine has, and what its control groups allow.
//!
//! A container with a limit of 8 GB on a machine of 500 GB is killed at 8 GB, and `MemAvailable` does not know. The
//! limit of a control group binds all groups below it, so every group from ours up to the root of what we can see
//! counts. Both versions of control groups are in use, also side by side.
//!
//! What the system says is available includes pages of files that can be dropped. Linux counts pages that were once
//! given up (`megalith_core::memory`) among them, even when they are in use again. There are more of these "files" than
//! pages of files then; the difference is not to be had, but for what this process keeps.

use std::path::{Component, Path, PathBuf};

use megalith_core::memory::kept;

/// Memory of the machine that can be had without swapping.
pub(crate) fn available() -> Option<u64> {
    in_meminfo(&text("/proc/meminfo"), kept() as u64)
}

/// The least headroom of this process's memory groups and of all groups above them; None without a limit.
pub(crate) fn cgroup_headroom() -> Option<u64> {
    in_groups(&text("/proc/self/mountinfo"), &text("/proc/self/cgroup"), kept() as u64)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// `MemAvailable` of `/proc/meminfo`, in bytes, without pages in use that count as files, of which `kept` are not in use.
fn in_meminfo(meminfo: &str, kept: u64) -> Option<u64> {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    };
    let in_use = || {
        let files = (field("Cached")? + field("Buffers")?).saturating_sub(field("Shmem")?);
        Some((field("Active(file)")? + field("Inactive(file)")?).saturating_sub(files).saturating_sub(kept))
    };
    Some(field("MemAvailable")?.saturating_sub(in_use().unwrap_or(0)))
}

/// The files of one version of control groups: limit and use, and what `memory.stat` calls cached pages that can be
/// dropped, all pages of files, and those of them in shared memory.
struct Version {
    limit: &'static str,
    used: &'static str,
    cached: [&'static str; 2],
    files: &'static str,
    shared: &'static str,
}

const V1: Version = Version {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: ["total_inactive_file", "total_active_file"],
    files: "total_cache",
    shared: "total_shmem",
};
const V2: Version = Version {
    limit: "memory.max",
    used: "memory.current",
    cached: ["inactive_file", "active_file"],
    files: "file",
    shared: "shmem",
};

/// Whether a list of controllers (or of the options of a mount) has the one for memory.
fn has_memory(controllers: &str) -> bool {
    controllers.split(',').any(|controller| controller == "memory")
}

/// [`cgroup_headroom`] from the texts of the system's files.
fn in_groups(mountinfo: &str, cgroup: &str, kept: u64) -> Option<u64> {
    let mut least = None;
    for line in mountinfo.lines() {
        // id, parent, device, root, mount point, options ... - type, source, options
        let Some((mount, system)) = line.split_once(" - ") else { continue };
        let (mut mount, mut system) = (mount.split(' ').skip(3), system.split(' '));
        let (Some(root), Some(point)) = (mount.next(), mount.next()) else { continue };
        let (version, is_ours): (_, fn(&str) -> bool) = match (system.next(), system.nth(1)) {
            (Some("cgroup2"), _) => (V2, str::is_empty),
            (Some("cgroup"), Some(options)) if has_memory(options) => (V1, has_memory),
            _ => continue,
        };
        // hierarchy, controllers, path of our group
        let group = cgroup.lines().find_map(|line| {
            let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
            is_ours(controllers).then_some(group)
        });
        let Some(group) = group else { continue };
        // In a container the mount may begin at our group, or our path may lie above what we can see.
        let inside = Path::new(group).strip_prefix(root).unwrap_or(Path::new(""));
        let is_plain = inside.components().all(|c| matches!(c, Component::Normal(_)));
        let top = PathBuf::from(point);
        let bottom = if is_plain { top.join(inside) } else { top.clone() };
        let groups = bottom.ancestors().take_while(|group| group.starts_with(&top));
        least = groups.filter_map(|group| headroom(group, &version, kept)).chain(least).min();
    }
    least
}

/// What one group has left; None without a limit.
fn headroom(group: &Path, version: &Version, kept: u64) -> Option<u64> {
    let number = |name: &str| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    // "max" is no number; version 1 writes the largest number of pages there is.
    let limit = number(version.limit).filter(|&bytes| bytes < 1 << 62)?;
    let used = number(version.used)?;
    let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let pages =
        |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok());
    let cached: u64 = version.cached.iter().filter_map(|name| pages(name)).sum();
    let files = pages(version.files).map_or(cached, |files| files.saturating_sub(pages(version.shared).unwrap_or(0)));
    let cached = cached.min(files.saturating_add(kept));
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_bytes() {
        assert_eq!(in_meminfo("MemTotal:  9 kB\nMemAvailable:    1234 kB\n", 0), Some(1234 << 10));
        assert_eq!(in_meminfo("", 0), None);
    }

    #[test]
    fn pages_that_are_in_use_again_do_not_count_as_files() {
        let text = "MemAvailable: 1000 kB\nBuffers: 10 kB\nCached: 300 kB\nActive(file): 100 kB\nInactive(file): 500 kB\n\
                    Shmem: 60 kB\n";
        assert_eq!(in_meminfo(text, 0), Some(650 << 10));
        assert_eq!(in_meminfo(text, 200 << 10), Some(850 << 10));
        assert_eq!(in_meminfo(text, 1 << 40), Some(1000 << 10));
        for version in [V1, V2] {
            let dir = groups(&version, &[("a", "1000", 900, 300)]);
            let stat = std::fs::read_to_string(dir.path().join("a/memory.stat")).unwrap();
            let more = format!("{stat}{} 120\n{} 20\n", version.files, version.shared);
            std::fs::write(dir.path().join("a/memory.stat"), more).unwrap();
            assert_eq!(headroom(&dir.path().join("a"), &version, 0), Some(200));
            assert_eq!(headroom(&dir.path().join("a"), &version, 50), Some(250));
            assert_eq!(headroom(&dir.path().join("a"), &version, 500), Some(400));
        }
    }

    /// A tree of groups: `(path, limit, used, cached)`.
    fn groups(version: &Version, groups: &[(&str, &str, u64, u64)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, limit, used, cached) in groups {
            let group = dir.path().join(path);
            std::fs::create_dir_all(&group).unwrap();
            std::fs::write(group.join(version.limit), format!("{limit}\n")).unwrap();
            std::fs::write(group.join(version.used), format!("{used}\n")).unwrap();
            std::fs::write(group.join("memory.stat"), format!("anon 5\n{} {cached}\n", version.cached[0])).unwrap();
        }
        dir
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let dir = groups(&V2, &[("a", "1000", 900, 300), ("a/b", "max", 100, 0), ("a/b/c", "700", 50, 0)]);
        let point = dir.path().display();
        let mounts = format!("25 30 0:23 / /proc rw - proc proc rw\n31 23 0:28 / {point} rw shared:4 - cgroup2 c rw");
        assert_eq!(in_groups(&mounts, "0::/a/b/c\n", 0), Some(400));
        assert_eq!(in_groups(&mounts, "0::/a\n", 0), Some(400));
        assert_eq!(in_groups(&mounts, "0::/\n", 0), None);
        assert_eq!(in_groups(&mounts, "0::/../other\n", 0), None);
        assert_eq!(in_groups("", "", 0), None);
    }

    #[test]
    fn version_1_groups_and_mounts_of_containers_are_understood() {
        let dir = groups(&V1, &[("", "1000", 600, 0), ("job", "9223372036854771712", 7, 0)]);
        let mounts = |root| format!("35 31 0:32 {root} {} rw - cgroup cgroup rw,memory", dir.path().display());
        assert_eq!(in_groups(&mounts("/"), "4:cpu:/x\n3:memory:/job\n0::/\n", 0), Some(400));
        assert_eq!(in_groups(&mounts("/docker/12"), "3:memory:/docker/12\n", 0), Some(400));
        assert_eq!(in_groups(&mounts("/docker/12"), "3:memory:/elsewhere\n", 0), Some(400));
        assert_eq!(in_groups(&mounts("/"), "4:cpu:/job\n", 0), None);
    }
}
