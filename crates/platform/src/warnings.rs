//! What is amiss with a machine that is to run a model, each with a remedy.

use std::fmt;

use crate::Readings;
use crate::board::{L4t, Module};

/// Something that costs speed or stability.
#[derive(Clone, Debug, PartialEq)]
pub enum Warning {
    /// The GPU may not go as fast as the power mode says.
    GpuClock {
        /// The mode.
        mode: String,
        /// Its number.
        id: u32,
        /// What the GPU may do, Hz.
        allowed: u64,
        /// What the mode says, Hz.
        promised: u64,
    },
    /// A faster power mode is there.
    SlowMode {
        /// The mode that is on.
        mode: String,
        /// The fastest.
        fastest: String,
        /// Its number.
        id: u32,
    },
    /// An Orin Nano without the firmware of its Super modes.
    NoSuper {
        /// Highest clock of the GPU, Hz, if it says.
        gpu_hz: Option<u64>,
    },
    /// Current or voltage cut the clocks.
    OverCurrent {
        /// Why.
        cause: &'static str,
        /// How often.
        count: u64,
    },
    /// Programs wait for memory to come back from swap.
    Thrash {
        /// What shows it.
        sign: Thrash,
    },
    /// A release whose NvMap refuses GPU memory that is there.
    RefusesMemory {
        /// The release.
        l4t: L4t,
    },
}

/// What shows that a machine swaps instead of working.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Thrash {
    /// Every task waited for memory, per cent of the last 10 seconds.
    Stalled(f32),
    /// Pages a second came back from swap.
    Pages(f32),
}

/// Every task waiting for memory for more of the time than this, per cent, is thrash.
const STALLED: f32 = 5.0;
/// So is more than this from swap, pages a second: 4 MB/s.
const PAGES: f32 = 1000.0;

/// What is amiss. `before` is an earlier reading and the milliseconds since: with it, only what happened in
/// between counts of counters that never go back.
pub fn warnings(now: &Readings, before: Option<(&Readings, u64)>) -> Vec<Warning> {
    let mut found = Vec::new();
    if let (Some(mode), Some(allowed), Some(promised)) =
        (now.power_mode.current(), now.gpu.max_hz, now.mode_gpu_hz())
        && allowed < promised
    {
        found.push(Warning::GpuClock { mode: mode.name.clone(), id: mode.id, allowed, promised });
    }
    let lacks_super = now.board.module() == Some(Module::OrinNano) && !now.board.is_super();
    if lacks_super {
        found.push(Warning::NoSuper { gpu_hz: now.gpu.hardware_hz.or(now.gpu.max_hz) });
    }
    if let (Some(mode), Some(fastest)) = (now.power_mode.current(), now.power_mode.fastest())
        && mode.id != fastest.id
    {
        let (name, id) = (fastest.name.clone(), fastest.id);
        found.push(Warning::SlowMode { mode: mode.name.clone(), fastest: name, id });
    }
    for counter in &now.over_current {
        let same = |earlier: &&crate::rails::OverCurrent| earlier.cause == counter.cause;
        let earlier = before.and_then(|(before, _)| before.over_current.iter().find(same));
        let count = counter.count.saturating_sub(earlier.map_or(0, |earlier| earlier.count));
        if count > 0 {
            found.push(Warning::OverCurrent { cause: counter.words(), count });
        }
    }
    found.extend(thrash(now, before));
    let l4t = now.board.l4t.clone().filter(L4t::refuses_memory);
    found.extend(l4t.map(|l4t| Warning::RefusesMemory { l4t }));
    found
}

/// Whether the machine swaps instead of working; without `before` only what its kernel says of waiting
/// counts, and Jetson kernels say that only if told to.
pub fn thrash(now: &Readings, before: Option<(&Readings, u64)>) -> Option<Warning> {
    let stalled = now.pressure.memory_full.map(|stall| stall.avg10).filter(|&stalled| stalled > STALLED);
    let swapped = || {
        let (before, ms) = before.filter(|(_, ms)| *ms > 0)?;
        let pages = now.memory.pages_swapped_in?.saturating_sub(before.memory.pages_swapped_in?);
        let rate = pages as f32 * 1000.0 / ms as f32;
        (rate > PAGES).then_some(Thrash::Pages(rate))
    };
    let sign = stalled.map(Thrash::Stalled).or_else(swapped)?;
    Some(Warning::Thrash { sign })
}

impl Warning {
    /// What mends it: a command, or what to do.
    pub fn remedy(&self) -> String {
        match self {
            Warning::GpuClock { id, .. } => format!("sudo nvpmodel -m {id} && sudo jetson_clocks"),
            Warning::SlowMode { id, .. } => format!("sudo nvpmodel -m {id}"),
            Warning::NoSuper { .. } => {
                "flash JetPack 6.2 or newer with the configuration jetson-orin-nano-devkit-super".to_owned()
            }
            Warning::OverCurrent { .. } => {
                "use the supply that came with the board, or a lower power mode (sudo nvpmodel -m 0)"
                    .to_owned()
            }
            Warning::Thrash { .. } => "end other programs, or use a smaller model or --ctx-size".to_owned(),
            Warning::RefusesMemory { .. } => {
                "sudo sed -i s/r36.4/r36.5/ /etc/apt/sources.list.d/nvidia-l4t-apt-source.list && sudo apt \
                 update && sudo apt dist-upgrade"
                    .to_owned()
            }
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mhz = |hz: u64| hz / 1_000_000;
        match self {
            Warning::GpuClock { mode, allowed, promised, .. } => {
                write!(f, "the GPU stops at {} MHz; mode {mode} allows {} MHz", mhz(*allowed), mhz(*promised))
            }
            Warning::SlowMode { mode, fastest, .. } => write!(f, "mode {mode} is on; {fastest} is faster"),
            Warning::NoSuper { gpu_hz: Some(hz) } => {
                write!(f, "no Super firmware: the GPU ends at {} MHz of 1020", mhz(*hz))
            }
            Warning::NoSuper { gpu_hz: None } => {
                write!(f, "no Super firmware: the fastest modes are missing")
            }
            Warning::OverCurrent { cause, count } => {
                let times = if *count == 1 { "time" } else { "times" };
                write!(f, "{cause} cut the clocks {count} {times}")
            }
            Warning::Thrash { sign: Thrash::Stalled(percent) } => {
                write!(f, "all programs waited for memory {percent:.0} % of the last 10 seconds")
            }
            Warning::Thrash { sign: Thrash::Pages(rate) } => {
                write!(f, "{rate:.0} pages a second come back from swap")
            }
            Warning::RefusesMemory { l4t } => {
                write!(f, "Jetson Linux {l4t} refuses GPU memory that is there (NvMap error 12)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::board::{JetPack, Model, Tree, board, pc};

    use super::{Thrash, Warning, warnings};
    use crate::{Readings, Root};

    fn read(tree: &Tree) -> Readings {
        Readings::take(&Root::at(tree.path()).expect("a folder"))
    }

    #[test]
    fn a_board_at_its_best_and_a_pc_have_none() {
        let tree = board(Model::OrinNanoSuper, JetPack::Six);
        tree.write("/var/lib/nvpmodel/status", "pmode:0002\n");
        tree.write("/sys/class/devfreq/17000000.gpu/max_freq", "1020000000\n");
        assert_eq!(warnings(&read(&tree), None), []);
        assert_eq!(warnings(&read(&board(Model::AgxOrin, JetPack::Seven)), None), []);
        assert_eq!(warnings(&read(&pc()), None), []);
    }

    #[test]
    fn clocks_modes_and_firmware() {
        let tree = board(Model::OrinNanoSuper, JetPack::Seven);
        let slow = |id, mode: &str| Warning::SlowMode { mode: mode.into(), fastest: "MAXN_SUPER".into(), id };
        assert_eq!(warnings(&read(&tree), None), [slow(2, "25W")]);
        tree.write("/sys/class/devfreq/17000000.gpu/max_freq", "624750000\n");
        let found = warnings(&read(&tree), None);
        assert_eq!(found[0].to_string(), "the GPU stops at 624 MHz; mode 25W allows 918 MHz");
        assert_eq!(found[0].remedy(), "sudo nvpmodel -m 1 && sudo jetson_clocks");
        assert_eq!(found[1..], [slow(2, "25W")]);
        // A mode without limits promises what the hardware has.
        tree.write("/var/lib/nvpmodel/status", "pmode:0002\n");
        let found = warnings(&read(&tree), None);
        assert!(matches!(found[..], [Warning::GpuClock { promised: 1_020_000_000, .. }]), "{found:?}");
        let found = warnings(&read(&board(Model::OrinNano, JetPack::Six)), None);
        assert_eq!(found, [Warning::NoSuper { gpu_hz: Some(624_750_000) }]);
    }

    #[test]
    fn counters_count_from_before() {
        let tree = board(Model::AgxOrin, JetPack::Six);
        tree.write("/sys/class/hwmon/hwmon7/oc1_event_cnt", "3\n");
        let before = read(&tree);
        let all = Warning::OverCurrent { cause: "under-voltage", count: 3 };
        assert_eq!(warnings(&before, None), [all]);
        assert_eq!(warnings(&before, Some((&before, 1000))), []);
        tree.write("/sys/class/hwmon/hwmon7/oc1_event_cnt", "4\n");
        tree.write("/proc/vmstat", "pswpin 5120\n");
        let found = warnings(&read(&tree), Some((&before, 2000)));
        let one = Warning::OverCurrent { cause: "under-voltage", count: 1 };
        assert_eq!(found, [one, Warning::Thrash { sign: Thrash::Pages(2500.0) }]);
    }

    #[test]
    fn waiting_for_memory_and_the_release_that_refuses_it() {
        let tree = board(Model::AgxOrin, JetPack::Six);
        let full = |share: &str| format!("full avg10={share} avg60=0.50 avg300=0.00 total=777\n");
        tree.write("/proc/pressure/memory", &full("4.00"));
        assert_eq!(warnings(&read(&tree), None), []);
        tree.write("/proc/pressure/memory", &full("40.00"));
        tree.write("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.7, GCID: 42132812\n");
        let found = warnings(&read(&tree), None);
        assert_eq!(found[0], Warning::Thrash { sign: Thrash::Stalled(40.0) });
        assert!(found[1].to_string().contains("36.4.7"), "{found:?}");
    }
}
