//! Memory: what the machine has, what its control groups allow, and what the shell's limits allow.

use serde::{Deserialize, Serialize};

use crate::Root;
use crate::groups;

/// `/proc/meminfo`, swap traffic and zram. Bytes unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// All of it.
    pub total: Option<u64>,
    /// Held by nothing, not even cached files. This is what CUDA reports as free on a Jetson.
    pub free: Option<u64>,
    /// What could be taken without swapping: the kernel's own estimate.
    pub available: Option<u64>,
    /// Cached files.
    pub cached: Option<u64>,
    /// All swap, zram included.
    pub swap_total: Option<u64>,
    /// Unused swap.
    pub swap_free: Option<u64>,
    /// The region for contiguous allocations (`cma=` on the kernel's command line).
    pub cma_total: Option<u64>,
    /// Its free part.
    pub cma_free: Option<u64>,
    /// Taken by NvMap, on kernels that say so here.
    pub nvmap_used: Option<u64>,
    /// Capacity of the zram devices, uncompressed.
    pub zram_capacity: Option<u64>,
    /// Memory that zram's compressed pages take.
    pub zram_used: Option<u64>,
    /// Pages swapped in since the machine started.
    pub pages_swapped_in: Option<u64>,
    /// Pages swapped out since the machine started.
    pub pages_swapped_out: Option<u64>,
}

impl Memory {
    /// Reads it.
    pub fn read(root: &Root) -> Memory {
        let info = root.text("/proc/meminfo").unwrap_or_default();
        let vmstat = root.text("/proc/vmstat").unwrap_or_default();
        let pages = |name: &str| vmstat.lines().find_map(|line| field(line, name)?.parse().ok());
        let zram = root.numbered("/sys/block", "zram");
        let sum = |values: Vec<u64>| (!values.is_empty()).then(|| values.iter().sum());
        // mm_stat: original bytes, compressed bytes, bytes of memory used, and more.
        let used = |name: &str| -> Option<u64> {
            root.text(&format!("/sys/block/{name}/mm_stat"))?.split_whitespace().nth(2)?.parse().ok()
        };
        let capacity = |name: &str| root.number::<u64>(&format!("/sys/block/{name}/disksize"));
        Memory {
            total: kib(&info, "MemTotal:"),
            free: kib(&info, "MemFree:"),
            available: kib(&info, "MemAvailable:"),
            cached: kib(&info, "Cached:"),
            swap_total: kib(&info, "SwapTotal:"),
            swap_free: kib(&info, "SwapFree:"),
            cma_total: kib(&info, "CmaTotal:"),
            cma_free: kib(&info, "CmaFree:"),
            nvmap_used: kib(&info, "NvMapMemUsed:"),
            zram_capacity: sum(zram.iter().filter_map(|(_, name)| capacity(name)).collect()),
            zram_used: sum(zram.iter().filter_map(|(_, name)| used(name)).collect()),
            pages_swapped_in: pages("pswpin"),
            pages_swapped_out: pages("pswpout"),
        }
    }
}

/// Bytes this process could take without swapping and without going over a limit; `None` where the system
/// does not say. Going over the first two of the three ends a process with SIGKILL, which says nothing to
/// its user.
pub fn available(root: &Root) -> Option<u64> {
    let machine = root.text("/proc/meminfo").and_then(|info| kib(&info, "MemAvailable:"));
    [machine, groups::left(&groups::read(root)), limits(root)].into_iter().flatten().min()
}

/// The number of a line such as `VmSize:     5732 kB`, in bytes.
pub(crate) fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The rest of a line that is a name, a blank and a value.
pub(crate) fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    Some(line.strip_prefix(name)?.strip_prefix(' ')?.trim())
}

/// What `ulimit -v` and `ulimit -d` leave, as in proc_pid_limits(5).
fn limits(root: &Root) -> Option<u64> {
    let (address, data) = most(&root.text("/proc/self/limits")?);
    limits_left(address, data, &root.text("/proc/self/status")?)
}

/// The limits of address space and data, bytes; `unlimited` is none.
pub(crate) fn most(limits: &str) -> (Option<u64>, Option<u64>) {
    let of = |name: &str| -> Option<u64> {
        limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    (of("Max address space"), of("Max data size"))
}

/// What of them a process with this `/proc/self/status` has not used.
pub(crate) fn limits_left(address: Option<u64>, data: Option<u64>, status: &str) -> Option<u64> {
    let left = |most: Option<u64>, used: &str| Some(most?.saturating_sub(kib(status, used)?));
    [left(address, "VmSize:"), left(data, "VmData:")].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use testkit::board::{JetPack, Model, Tree, board};

    use super::{Memory, available};
    use crate::Root;

    const MIB: u64 = 1 << 20;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let tree = Tree::new();
        for (file, text) in files {
            tree.write(file, text);
        }
        tree
    }

    fn free(tree: &Tree) -> Option<u64> {
        available(&Root::at(tree.path()).expect("a folder"))
    }

    const MACHINE: (&str, &str) = ("/proc/meminfo", "MemTotal: 4194304 kB\nMemAvailable:    2097152 kB\n");

    #[test]
    fn this_machine_has_some() {
        assert!(available(&Root::real()).is_some_and(|bytes| bytes > MIB));
    }

    #[test]
    fn a_group_of_version_1_below_the_model_is_seen_before_loading() {
        let outer = "/sys/fs/cgroup/memory/outer";
        let tree = tree(&[
            MACHINE,
            ("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/outer/inner\n0::/\n"),
            (&format!("{outer}/inner/memory.limit_in_bytes"), "9223372036854771712\n"),
            (&format!("{outer}/inner/memory.usage_in_bytes"), "1000\n"),
            (&format!("{outer}/memory.limit_in_bytes"), "314572800\n"),
            (&format!("{outer}/memory.usage_in_bytes"), "104857600\n"),
            (&format!("{outer}/memory.stat"), "total_inactive_file 31457280\ntotal_active_file 20971520\n"),
        ]);
        assert_eq!(free(&tree), Some((300 - 100 + 30 + 20) * MIB));
    }

    #[test]
    fn a_group_of_version_2_seen_from_inside_its_container_counts() {
        let tree = tree(&[
            MACHINE,
            ("/proc/self/cgroup", "0::/docker/0123abcd\n"),
            ("/sys/fs/cgroup/memory.max", "536870912\n"),
            ("/sys/fs/cgroup/memory.current", "536870912\n"),
            ("/sys/fs/cgroup/memory.stat", "anon 5\ninactive_file 1048576\nactive_file 0\ninactive_anon 7\n"),
        ]);
        assert_eq!(free(&tree), Some(MIB));
        tree.write("/sys/fs/cgroup/memory.max", "max\n");
        assert_eq!(free(&tree), Some(2048 * MIB));
    }

    #[test]
    fn a_shells_limits_count() {
        let free = |address: &str, data: &str| {
            let limits = format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max data size             {data}            unlimited            bytes     \n\
                 Max address space         {address}            unlimited            bytes     \n"
            );
            let status = ("/proc/self/status", "VmSize:\t    1024 kB\nVmData:\t     512 kB\n");
            free(&tree(&[MACHINE, status, ("/proc/self/limits", &limits)]))
        };
        assert_eq!(free("104857600", "unlimited"), Some(99 * MIB));
        assert_eq!(free("unlimited", "1048576"), Some(MIB / 2));
        assert_eq!(free("unlimited", "unlimited"), Some(2048 * MIB));
    }

    #[test]
    fn a_boards_memory_is_read_with_its_swap() {
        let tree = board(Model::OrinNanoSuper, JetPack::Six);
        let memory = Memory::read(&Root::at(tree.path()).expect("a folder"));
        assert_eq!(memory.total, Some(7_803_904 * 1024));
        assert_eq!(memory.cma_total, Some(983_040 * 1024));
        assert_eq!(memory.swap_total, Some(3_901_944 * 1024));
        // Six devices of 665,919,488 bytes.
        assert_eq!(memory.zram_capacity, Some(6 * 665_919_488));
        assert_eq!(memory.zram_used, Some(6 * 20_480));
        assert_eq!((memory.pages_swapped_in, memory.pages_swapped_out), (Some(120), Some(340)));
    }
}
