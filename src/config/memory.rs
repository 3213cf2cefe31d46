//! How much memory the process may use, as its control group says: what Cloud Run, Kubernetes and Docker set for a container.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Version 1 writes the largest number of whole pages where there is no limit.
const NO_LIMIT: u64 = 1 << 62;

/// The limit of this process's memory, in bytes; `None` where there is none.
pub fn memory_limit() -> Option<u64> {
    limit_under(Path::new("/"))
}

/// The same of the system whose root folder is `root`: the lowest limit of the process's groups and of those above them.
///
/// A container sees its own group as the root of the hierarchy, or the whole of the machine's, or its own group under the
/// name that the machine has for it; so what is not there is passed over on the way up.
fn limit_under(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let hierarchies = root.join("sys/fs/cgroup");
    let named = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        match controllers {
            "" => Some((hierarchies.clone(), "memory.max", group)),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                Some((hierarchies.join("memory"), "memory.limit_in_bytes", group))
            }
            _ => None,
        }
    });
    // Where no file names the groups (gVisor has none), what is mounted is the container's own.
    let own = [
        (hierarchies.clone(), "memory.max", "/"),
        (hierarchies.join("memory"), "memory.limit_in_bytes", "/"),
    ];
    named
        .chain(own)
        .filter_map(|(hierarchy, file, group)| lowest(&hierarchy, file, group))
        .min()
}

/// The lowest limit from the group up to the hierarchy's root.
fn lowest(hierarchy: &Path, file: &str, group: &str) -> Option<u64> {
    // A process outside of what it may see has a group such as `/../other`.
    let below = Path::new(group)
        .components()
        .filter(|part| matches!(part, Component::Normal(_)));
    let below: PathBuf = below.collect();
    below
        .ancestors()
        .filter_map(|group| {
            let text = fs::read_to_string(hierarchy.join(group).join(file)).ok()?;
            // `max` is no number.
            text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// What `/proc/self/cgroup` says where each hierarchy of version 1 has a line.
    const FIRST: &str =
        "12:cpu,cpuacct:/GROUP\n9:memory:/GROUP\n3:hugetlb:/GROUP\n1:name=systemd:/GROUP\n0::/\n";

    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        limit_under(root.path())
    }

    #[test]
    fn limit_of_version_2_is_that_of_the_own_group() {
        let own = ("proc/self/cgroup", "0::/\n");
        assert_eq!(
            limit(&[own, ("sys/fs/cgroup/memory.max", "1073741824\n")]),
            Some(GIB)
        );
        assert_eq!(limit(&[own, ("sys/fs/cgroup/memory.max", "max\n")]), None);
        // A machine's root group has no limit.
        assert_eq!(
            limit(&[own, ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n")]),
            None
        );
    }

    #[test]
    fn limit_is_found_where_no_file_names_the_groups() {
        let first = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
        assert_eq!(limit(&[first]), Some(GIB));
        assert_eq!(limit(&[("sys/fs/cgroup/memory.max", "1073741824\n")]), Some(GIB));
        assert_eq!(limit(&[]), None);
    }

    #[test]
    fn lowest_limit_on_the_way_up_holds() {
        let group = "kubepods.slice/kubepods-pod1.slice/cri-containerd-2.scope";
        let machine = [
            ("proc/self/cgroup", format!("0::/{group}\n")),
            (&format!("sys/fs/cgroup/{group}/memory.max"), "max\n".to_owned()),
            (
                "sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/memory.max",
                "536870912\n".to_owned(),
            ),
            (
                "sys/fs/cgroup/kubepods.slice/memory.max",
                "17179869184\n".to_owned(),
            ),
        ];
        let files: Vec<(&str, &str)> = machine
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        assert_eq!(limit(&files), Some(GIB / 2));
        // The same group where the container sees no other than its own.
        let inside = [
            ("proc/self/cgroup", files[0].1),
            ("sys/fs/cgroup/memory.max", "268435456\n"),
        ];
        assert_eq!(limit(&inside), Some(GIB / 4));
        let outside = [
            ("proc/self/cgroup", "0::/../../other\n"),
            ("sys/fs/cgroup/memory.max", "268435456\n"),
        ];
        assert_eq!(limit(&outside), Some(GIB / 4));
    }

    #[test]
    fn limit_of_version_1_is_the_memory_hierarchys() {
        let groups = FIRST.replace("GROUP", "docker/7f3a");
        let own = ("proc/self/cgroup", groups.as_str());
        let none = "9223372036854771712\n";
        let root = ("sys/fs/cgroup/memory/memory.limit_in_bytes", none);
        let whole = (
            "sys/fs/cgroup/memory/docker/7f3a/memory.limit_in_bytes",
            "2147483648\n",
        );
        assert_eq!(limit(&[own, root, whole]), Some(2 * GIB));
        let inside = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
        assert_eq!(limit(&[own, inside]), Some(2 * GIB));
        assert_eq!(limit(&[own, root]), None);
    }

    #[test]
    fn both_versions_beside_each_other_are_read() {
        let own = ("proc/self/cgroup", "4:memory:/service/1\n1:cpu:/\n0::/\n");
        let first = (
            "sys/fs/cgroup/memory/service/1/memory.limit_in_bytes",
            "1073741824\n",
        );
        let second = ("sys/fs/cgroup/unified/cgroup.procs", "1\n");
        assert_eq!(limit(&[own, first, second]), Some(GIB));
    }

    #[test]
    fn what_cannot_be_read_is_no_limit() {
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[("proc/self/cgroup", "nonsense\n0:\n::\n")]), None);
        assert_eq!(
            limit(&[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "")]),
            None
        );
    }
}
