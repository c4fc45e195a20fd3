//! Pressure stall information: how long programs waited for memory, processors and disks
//! (<https://docs.kernel.org/accounting/psi.html>). Jetson kernels have it switched off unless `psi=1` is
//! on their command line.

use serde::{Deserialize, Serialize};

use crate::Root;

/// Waiting for one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    /// Per cent of the last 10 seconds.
    pub avg10: f32,
    /// Per cent of the last minute.
    pub avg60: f32,
    /// Microseconds since the machine started.
    pub total_us: u64,
}

/// Waiting of at least one task (`some`) and of all at once (`full`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pressure {
    /// Some task waited for memory.
    pub memory_some: Option<Stall>,
    /// Every task waited for memory: the machine did nothing else.
    pub memory_full: Option<Stall>,
    /// Some task waited for a processor.
    pub cpu_some: Option<Stall>,
    /// Some task waited for a disk.
    pub io_some: Option<Stall>,
}

impl Pressure {
    /// Reads it.
    pub fn read(root: &Root) -> Pressure {
        let stall = |resource: &str, kind: &str| {
            let text = root.text(&format!("/proc/pressure/{resource}"))?;
            text.lines().find_map(|line| parse(line.strip_prefix(kind)?))
        };
        Pressure {
            memory_some: stall("memory", "some "),
            memory_full: stall("memory", "full "),
            cpu_some: stall("cpu", "some "),
            io_some: stall("io", "some "),
        }
    }
}

fn parse(line: &str) -> Option<Stall> {
    let value = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
    Some(Stall {
        avg10: value("avg10=")?.parse().ok()?,
        avg60: value("avg60=")?.parse().ok()?,
        total_us: value("total=")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use testkit::board::Tree;

    use super::{Pressure, Stall};
    use crate::Root;

    #[test]
    fn both_lines_are_told_apart_and_absence_is_fine() {
        let tree = Tree::new();
        let text = "some avg10=12.50 avg60=3.00 avg300=1.00 total=123456\n\
                    full avg10=2.25 avg60=0.50 avg300=0.00 total=777\n";
        tree.write("/proc/pressure/memory", text);
        tree.write("/proc/pressure/io", "damaged\n");
        let pressure = Pressure::read(&Root::at(tree.path()).expect("a folder"));
        assert_eq!(pressure.memory_some, Some(Stall { avg10: 12.5, avg60: 3.0, total_us: 123_456 }));
        assert_eq!(pressure.memory_full, Some(Stall { avg10: 2.25, avg60: 0.5, total_us: 777 }));
        assert_eq!((pressure.cpu_some, pressure.io_some), (None, None));
    }
}
