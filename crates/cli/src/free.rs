//! How much memory this process may still take: the least of what the machine has, what its control
//! groups allow and what the shell's limits allow. Going over the first two ends it with SIGKILL, which
//! says nothing to its user.

use std::fs;
use std::path::Path;

/// Bytes that could be taken without swapping, `None` where the system does not say.
pub(crate) fn available() -> Option<u64> {
    of(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
}

fn of(proc: &Path, cgroup: &Path) -> Option<u64> {
    [machine(proc), groups(proc, cgroup), limits(proc)].into_iter().flatten().min()
}

fn machine(proc: &Path) -> Option<u64> {
    let info = fs::read_to_string(proc.join("meminfo")).ok()?;
    kib(&info, "MemAvailable:")
}

/// The number of a line such as `VmSize:     5732 kB`, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What `ulimit -v` and `ulimit -d` leave, as in proc_pid_limits(5).
fn limits(proc: &Path) -> Option<u64> {
    let limits = fs::read_to_string(proc.join("self/limits")).ok()?;
    let status = fs::read_to_string(proc.join("self/status")).ok()?;
    let left = |limit: &str, used: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit))?;
        let most: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(most.saturating_sub(kib(&status, used)?))
    };
    let address = left("Max address space", "VmSize:");
    let data = left("Max data size", "VmData:");
    [address, data].into_iter().flatten().min()
}

/// The least that this process's memory group and those around it leave, of either version
/// (<https://docs.kernel.org/admin-guide/cgroup-v1/memory.html>, cgroup-v2.html there).
fn groups(proc: &Path, cgroup: &Path) -> Option<u64> {
    let list = fs::read_to_string(proc.join("self/cgroup")).ok()?;
    let mut least: Option<u64> = None;
    for line in list.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, files) = if controllers.is_empty() {
            (cgroup.to_path_buf(), ["memory.max", "memory.current", "inactive_file", "active_file"])
        } else if controllers.split(',').any(|name| name == "memory") {
            let stat = ["total_inactive_file", "total_active_file"];
            (cgroup.join("memory"), ["memory.limit_in_bytes", "memory.usage_in_bytes", stat[0], stat[1]])
        } else {
            continue;
        };
        // A container often sees its own group as the root and the path from outside: what is not
        // there limits nothing, and the root is looked at in any case.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            least = [least, group_left(&root.join(group), files)].into_iter().flatten().min();
        }
    }
    least
}

/// A group's limit less its use, not counting cached files, which give way.
fn group_left(group: &Path, [limit, usage, inactive, active]: [&str; 4]) -> Option<u64> {
    // `max` and version 1's nearly 2^63 are both no limit; the first does not parse.
    let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let (limit, usage) = (number(limit)?, number(usage)?);
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cached = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|bytes| bytes.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let held = usage.saturating_sub(cached(inactive).saturating_add(cached(active)));
    Some(limit.saturating_sub(held))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::{available, of};

    const MIB: u64 = 1 << 20;

    /// A folder with files in it, gone at the end.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Tree {
            let root = std::env::temp_dir().join(format!("jetson-llm-free-{name}-{}", std::process::id()));
            for (file, text) in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder");
                fs::write(path, text).expect("a file");
            }
            Tree(root)
        }

        fn free(&self) -> Option<u64> {
            of(&self.0.join("proc"), &self.0.join("cgroup"))
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal: 4194304 kB\nMemAvailable:    2097152 kB\n");

    #[test]
    fn this_machine_has_some() {
        assert!(available().is_some_and(|bytes| bytes > MIB));
    }

    #[test]
    fn a_group_of_version_1_below_the_model_is_seen_before_loading() {
        let outer = "cgroup/memory/outer/memory";
        let tree = Tree::new(
            "v1",
            &[
                MACHINE,
                ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/outer/inner\n0::/\n"),
                ("cgroup/memory/outer/inner/memory.limit_in_bytes", "9223372036854771712\n"),
                ("cgroup/memory/outer/inner/memory.usage_in_bytes", "1000\n"),
                (&format!("{outer}.limit_in_bytes"), "314572800\n"),
                (&format!("{outer}.usage_in_bytes"), "104857600\n"),
                (&format!("{outer}.stat"), "total_inactive_file 31457280\ntotal_active_file 20971520\n"),
            ],
        );
        assert_eq!(tree.free(), Some((300 - 100 + 30 + 20) * MIB));
    }

    #[test]
    fn a_group_of_version_2_seen_from_inside_its_container_counts() {
        let tree = Tree::new(
            "v2",
            &[
                MACHINE,
                ("proc/self/cgroup", "0::/docker/0123abcd\n"),
                ("cgroup/memory.max", "536870912\n"),
                ("cgroup/memory.current", "536870912\n"),
                ("cgroup/memory.stat", "anon 5\ninactive_file 1048576\nactive_file 0\ninactive_anon 7\n"),
            ],
        );
        assert_eq!(tree.free(), Some(MIB));
        fs::write(tree.0.join("cgroup/memory.max"), "max\n").expect("a file");
        assert_eq!(tree.free(), Some(2048 * MIB));
    }

    #[test]
    fn a_shells_limits_count() {
        let free = |name, address: &str, data: &str| {
            let limits = format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max data size             {data}            unlimited            bytes     \n\
                 Max address space         {address}            unlimited            bytes     \n"
            );
            let status = ("proc/self/status", "VmSize:\t    1024 kB\nVmData:\t     512 kB\n");
            Tree::new(name, &[MACHINE, status, ("proc/self/limits", &limits)]).free()
        };
        assert_eq!(free("address", "104857600", "unlimited"), Some(99 * MIB));
        assert_eq!(free("data", "unlimited", "1048576"), Some(MIB / 2));
        assert_eq!(free("none", "unlimited", "unlimited"), Some(2048 * MIB));
    }
}
