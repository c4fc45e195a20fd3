//! Memory control groups of either version, from this process's own up to the root's.
//!
//! Formats: <https://docs.kernel.org/admin-guide/cgroup-v1/memory.html>, cgroup-v2.html there.

use serde::{Deserialize, Serialize};

use crate::Root;
use crate::memory::field;

/// A group's memory, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Its folder, as seen from the machine's root.
    pub folder: String,
    /// 1 or 2.
    pub version: u8,
    /// What it may take; `None` for no limit.
    pub limit: Option<u64>,
    /// What it has taken, cached files included.
    pub used: Option<u64>,
    /// Cached files, which give way.
    pub cached: Option<u64>,
}

impl Group {
    /// What it may still take: the limit less the use, not counting cached files.
    pub fn left(&self) -> Option<u64> {
        left_of(self.limit?, self.used?, self.cached.unwrap_or(0))
    }
}

/// Version 1 writes "no limit" as the largest multiple of a page below 2^63.
const UNLIMITED: u64 = 1 << 62;

pub(crate) fn left_of(limit: u64, used: u64, cached: u64) -> Option<u64> {
    (limit < UNLIMITED).then(|| limit.saturating_sub(used.saturating_sub(cached)))
}

/// Where the numbers of a group lie.
pub(crate) struct Files {
    /// Its folder.
    pub(crate) folder: String,
    version: u8,
}

impl Files {
    /// The files of limit, use and statistics.
    pub(crate) fn paths(&self) -> [String; 3] {
        let names = match self.version {
            1 => ["memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"],
            _ => ["memory.max", "memory.current", "memory.stat"],
        };
        names.map(|name| format!("{}/{name}", self.folder))
    }

    /// Bytes of cached files, of the text of `memory.stat`.
    pub(crate) fn cached(&self, stat: &str) -> u64 {
        let names = match self.version {
            1 => ["total_inactive_file", "total_active_file"],
            _ => ["inactive_file", "active_file"],
        };
        let number = |name: &str| stat.lines().find_map(|line| field(line, name)?.parse().ok());
        names.into_iter().filter_map(number).fold(0, u64::saturating_add)
    }
}

/// The groups this process is in, innermost first. A container often sees its own group as the root and the
/// path from outside: what is not there limits nothing, and the root is looked at in any case.
pub(crate) fn find(root: &Root) -> Vec<Files> {
    let list = root.text("/proc/self/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    for line in list.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (top, version) = if controllers.is_empty() {
            ("/sys/fs/cgroup", 2)
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", 1)
        } else {
            continue;
        };
        let mut path = path.trim_matches('/');
        loop {
            let folder = if path.is_empty() { top.to_owned() } else { format!("{top}/{path}") };
            let files = Files { folder, version };
            if root.has(&files.paths()[0]) {
                found.push(files);
            }
            if path.is_empty() {
                break;
            }
            path = path.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }
    found
}

/// The groups that limit this process, innermost first.
pub fn read(root: &Root) -> Vec<Group> {
    let group = |files: Files| {
        let [limit, used, stat] = files.paths();
        Group {
            // `max` and version 1's nearly 2^63 are both no limit; the first does not parse.
            limit: root.number(&limit).filter(|&limit| limit < UNLIMITED),
            used: root.number(&used),
            cached: root.text(&stat).map(|stat| files.cached(&stat)),
            version: files.version,
            folder: files.folder,
        }
    };
    find(root).into_iter().map(group).collect()
}

/// The least that any of them leaves.
pub fn left(groups: &[Group]) -> Option<u64> {
    groups.iter().filter_map(Group::left).min()
}
