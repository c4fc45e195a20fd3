//! How much memory this process may still take, and how much of it is left to others.

use platform::board::Board;
use platform::memory::{self, Memory};
use platform::{Root, groups};

use crate::screen;

const MIB: u64 = 1 << 20;

/// Bytes that could be taken without swapping, `None` where the system does not say: the least of what the
/// machine has, what its control groups allow and what the shell's limits allow.
pub(crate) fn available() -> Option<u64> {
    memory::available(&Root::real())
}

/// Bytes of the machine's memory that this process holds, files it runs from included.
pub(crate) fn held() -> Option<u64> {
    screen::status("VmRSS:")
}

/// What is free, and where that figure comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Free {
    /// Bytes that could be taken without swapping; `None` where the system does not say.
    pub(crate) bytes: Option<u64>,
    /// Which of the readings that is, for people.
    pub(crate) source: String,
    /// Bytes left to other programs out of them.
    pub(crate) reserve: u64,
}

impl Free {
    /// Reads it. `shared` says that a GPU takes it too, out of the same memory: then the region for contiguous
    /// allocations does not count, for the kernel gives its pages only to what can be moved away again, and
    /// what a GPU works on cannot.
    pub(crate) fn read(root: &Root, shared: bool, asked: Option<u64>) -> Free {
        let memory = Memory::read(root);
        let board = Board::read(root).is_jetson();
        let groups = groups::read(root);
        let contiguous = memory.cma_free.filter(|_| shared).unwrap_or(0);
        let machine = memory.available.map(|bytes| bytes.saturating_sub(contiguous));
        let limited = groups::left(&groups);
        let common = [machine, limited].into_iter().flatten().min();
        let usual = usual_reserve(memory.total, limited, board || shared);
        let reserve = asked.unwrap_or(usual);
        // A shell's limits are this process's own: nothing of them is left to others.
        let shell = memory::available(root).filter(|&least| {
            [memory.available, limited].iter().all(|&other| other.is_none_or(|other| least < other))
        });
        if let Some(shell) =
            shell.filter(|&shell| common.is_none_or(|all| shell < all.saturating_sub(reserve)))
        {
            return Free { bytes: Some(shell), source: "the shell's limits (ulimit)".to_owned(), reserve: 0 };
        }
        let source = match (machine, limited) {
            (None, None) => "the system does not say".to_owned(),
            (Some(machine), limited) if limited.is_none_or(|limited| machine <= limited) => {
                let less = if contiguous > 0 { ", less CmaFree, which a GPU cannot use" } else { "" };
                format!("MemAvailable of /proc/meminfo{less}")
            }
            _ => {
                let tightest =
                    groups.iter().filter(|group| group.left() == limited).map(|group| &group.folder);
                format!("the control group {}", tightest.into_iter().next().map_or("/", String::as_str))
            }
        };
        Free { bytes: common, source, reserve }
    }

    /// Bytes that may be taken and still leave the reserve.
    pub(crate) fn usable(&self) -> Option<u64> {
        self.bytes.map(|bytes| bytes.saturating_sub(self.reserve))
    }
}

/// What is left to other programs unless told otherwise, bytes: on boards whose cores and GPU share their
/// memory 5 % of it, at most 512 MiB, because there running out takes the whole board down; elsewhere 64 MiB.
/// Never more than a sixteenth of what a control group leaves: little containers are made for one program.
fn usual_reserve(total: Option<u64>, limited: Option<u64>, shared: bool) -> u64 {
    let usual = match total {
        Some(total) if shared => (total / 20).min(512 * MIB),
        _ => 64 * MIB,
    };
    usual.min(limited.map_or(u64::MAX, |left| left / 16))
}

#[cfg(test)]
mod tests {
    use platform::Root;
    use testkit::board::{JetPack, Model, Tree, board};

    use super::{Free, MIB, available};

    fn free(tree: &Tree, shared: bool, asked: Option<u64>) -> Free {
        Free::read(&Root::at(tree.path()).expect("a folder"), shared, asked)
    }

    #[test]
    fn this_machine_has_some() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
        let free = Free::read(&Root::real(), false, Some(0));
        assert!(free.bytes.is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_board_keeps_a_twentieth_and_its_gpu_does_not_get_the_contiguous_region() {
        let tree = board(Model::OrinNanoSuper, JetPack::Six);
        let memory = platform::memory::Memory::read(&Root::at(tree.path()).expect("a folder"));
        let (all, cma) = (memory.available.expect("written"), memory.cma_free.expect("written"));
        let cores = free(&tree, false, None);
        assert_eq!(cores.bytes, Some(all));
        assert_eq!(cores.reserve, 7_803_904 * 1024 / 20);
        assert_eq!(cores.usable(), Some(all - cores.reserve));
        let gpu = free(&tree, true, Some(MIB));
        assert_eq!((gpu.bytes, gpu.reserve), (Some(all - cma), MIB));
        assert!(gpu.source.contains("MemAvailable") && gpu.source.contains("CmaFree"), "{}", gpu.source);
        let large = free(&board(Model::AgxOrin, JetPack::Six), false, None);
        assert_eq!(large.reserve, 512 * MIB);
    }

    #[test]
    fn the_tightest_limit_is_named() {
        let tree = Tree::new();
        tree.write("/proc/meminfo", "MemTotal: 4194304 kB\nMemAvailable:    2097152 kB\n");
        assert_eq!(free(&tree, false, None).reserve, 64 * MIB);
        tree.write("/proc/self/cgroup", "0::/robot\n");
        tree.write("/sys/fs/cgroup/robot/memory.max", "536870912\n");
        tree.write("/sys/fs/cgroup/robot/memory.current", "0\n");
        let group = free(&tree, false, None);
        assert_eq!((group.bytes, group.reserve), (Some(512 * MIB), 32 * MIB));
        assert_eq!(group.source, "the control group /sys/fs/cgroup/robot");
        tree.write("/proc/self/limits", "Max data size   104857600   unlimited   bytes\n");
        tree.write("/proc/self/status", "VmData:\t 1024 kB\n");
        let shell = free(&tree, false, None);
        assert_eq!((shell.bytes, shell.reserve), (Some(99 * MIB), 0));
        assert!(shell.source.contains("ulimit"), "{}", shell.source);
        assert_eq!(free(&Tree::new(), false, None).bytes, None);
    }
}
