//! A memory control group made for a test, of whichever version the machine has.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// A group; its processes end and it goes away with it.
pub(crate) struct Group {
    folder: PathBuf,
    version: u8,
}

impl Group {
    /// A group that may take `limit` bytes, or why there can be none: they take root, and a controller.
    pub(crate) fn new(limit: u64) -> Result<Group, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("torture-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let of = |wanted: &dyn Fn(&str) -> bool| {
            own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                wanted(controllers).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let (folder, version) = if let Some(path) = of(&|list| list.split(',').any(|name| name == "memory")) {
            (Path::new("/sys/fs/cgroup/memory").join(path).join(name), 1)
        } else {
            // Of version 2 only groups without processes have groups below them: the root's are its own.
            (Path::new("/sys/fs/cgroup").join(name), 2)
        };
        fs::create_dir(&folder).map_err(|error| format!("no control group {}: {error}", folder.display()))?;
        let group = Group { folder, version };
        group.limit(limit).map_err(|error| format!("a control group without a limit of memory: {error}"))?;
        Ok(group)
    }

    fn file(&self, first: &str, second: &str) -> PathBuf {
        self.folder.join(if self.version == 1 { first } else { second })
    }

    fn number(&self, first: &str, second: &str) -> u64 {
        let text = fs::read_to_string(self.file(first, second)).unwrap_or_default();
        text.trim().parse().unwrap_or(u64::MAX)
    }

    /// A number of a file of `name number` lines.
    fn listed(&self, first: &str, second: &str, names: &[&str]) -> u64 {
        let text = fs::read_to_string(self.file(first, second)).unwrap_or_default();
        let of = |line: &str| {
            let (name, number) = line.split_once(' ')?;
            names.contains(&name).then(|| number.trim().parse::<u64>().ok())?
        };
        text.lines().filter_map(of).sum()
    }

    /// Allows `bytes` from now on.
    ///
    /// # Errors
    /// The system's; version 1 refuses less than what is in use.
    pub(crate) fn limit(&self, bytes: u64) -> io::Result<()> {
        fs::write(self.file("memory.limit_in_bytes", "memory.max"), bytes.to_string())
    }

    /// What its processes may still take, cached files not counted.
    pub(crate) fn left(&self) -> u64 {
        self.number("memory.limit_in_bytes", "memory.max").saturating_sub(self.held())
    }

    /// What its processes hold, cached files not counted.
    pub(crate) fn held(&self) -> u64 {
        let used = self.number("memory.usage_in_bytes", "memory.current");
        let cached = ["total_inactive_file", "total_active_file", "inactive_file", "active_file"];
        let cached = if self.version == 1 { &cached[..2] } else { &cached[2..] };
        used.saturating_sub(self.listed("memory.stat", "memory.stat", cached))
    }

    /// Processes of it that the kernel has killed for want of memory.
    pub(crate) fn kills(&self) -> u64 {
        self.listed("memory.oom_control", "memory.events", &["oom_kill"])
    }

    /// Times that a limit was hit.
    pub(crate) fn hits(&self) -> u64 {
        match self.version {
            1 => self.number("memory.failcnt", ""),
            _ => self.listed("", "memory.events", &["max"]),
        }
    }

    /// The same program, begun as a member.
    pub(crate) fn member(&self, command: &Command) -> Command {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg("echo $$ > \"$0/cgroup.procs\" && exec \"$@\"").arg(&self.folder);
        shell.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            let members = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
            for member in members.lines() {
                // Only what this test began is in its group.
                let _ = Command::new("kill").args(["-9", member]).status();
            }
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
