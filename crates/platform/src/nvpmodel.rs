//! Power modes: `/var/lib/nvpmodel/status` says which is on, `/etc/nvpmodel.conf` what each of them allows.

use serde::{Deserialize, Serialize};

use crate::Root;

/// One mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mode {
    /// What `nvpmodel -m` takes.
    pub id: u32,
    /// `25W`, `MAXN_SUPER`.
    pub name: String,
    /// Highest GPU clock, Hz; `None` for the hardware's.
    pub gpu_hz: Option<u64>,
    /// Highest memory clock, Hz; `None` for the hardware's.
    pub emc_hz: Option<u64>,
    /// Highest clock of the first cluster of cores, Hz; `None` for the hardware's.
    pub cpu_hz: Option<u64>,
    /// Cores it switches off.
    pub cores_off: u32,
}

impl Mode {
    /// The power its name promises, W: 15 of `15W` and of `MODE_15W_6CORE`, none of `MAXN`.
    pub fn watts(&self) -> Option<u32> {
        self.name.split('_').find_map(|word| word.strip_suffix('W')?.parse().ok())
    }

    /// Whether it is the one without a power limit.
    pub fn is_maximum(&self) -> bool {
        self.name.starts_with("MAXN")
    }
}

/// The mode a board is in, and those it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PowerMode {
    /// The mode that is on.
    pub id: Option<u32>,
    /// The fan's profile: `quiet`, `cool`.
    pub fan: Option<String>,
    /// The mode after boot, where nothing else was asked for.
    pub default_id: Option<u32>,
    /// All modes, in the file's order.
    pub modes: Vec<Mode>,
}

impl PowerMode {
    /// Reads both files.
    pub fn read(root: &Root) -> PowerMode {
        let status = root.text("/var/lib/nvpmodel/status").unwrap_or_default();
        let value = |name: &str| status.split_whitespace().find_map(|word| word.strip_prefix(name));
        let (modes, default_id) = parse(&root.text("/etc/nvpmodel.conf").unwrap_or_default());
        PowerMode {
            id: value("pmode:").and_then(|id| id.parse().ok()),
            fan: value("fmode:").map(|fan| fan.trim_start_matches("fan_mode_").to_owned()),
            default_id,
            modes,
        }
    }

    /// The mode that is on, if the configuration knows it.
    pub fn current(&self) -> Option<&Mode> {
        self.modes.iter().find(|mode| Some(mode.id) == self.id)
    }

    /// The fastest mode: the one without a limit, else the one of most watts.
    pub fn fastest(&self) -> Option<&Mode> {
        let maximum = |name: &str| self.modes.iter().find(|mode| mode.name == name);
        let most = || self.modes.iter().filter(|mode| mode.watts().is_some()).max_by_key(|mode| mode.watts());
        maximum("MAXN_SUPER").or_else(|| maximum("MAXN")).or_else(most)
    }
}

/// Modes and the default's number, of the text of a configuration. Lines that are not understood, and those
/// before the first mode, say nothing about modes.
fn parse(text: &str) -> (Vec<Mode>, Option<u32>) {
    let (mut modes, mut default): (Vec<Mode>, Option<u32>) = (Vec::new(), None);
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().filter(|word| !matches!(*word, "<" | ">")).collect();
        let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let first = words.first().map(|word| word.trim_start_matches('<'));
        match (first, modes.last_mut()) {
            (Some("POWER_MODEL"), _) => {
                let id = value("ID").and_then(|id| id.trim_end_matches('>').parse().ok());
                let name = value("NAME").map(|name| name.trim_end_matches('>').to_owned());
                let (Some(id), Some(name)) = (id, name) else { continue };
                modes.push(Mode { id, name, ..Mode::default() });
            }
            (Some("PM_CONFIG"), _) => {
                default = value("DEFAULT").and_then(|id| id.trim_end_matches('>').parse().ok());
            }
            (Some(group), Some(mode)) => {
                let &[_, name, value] = words.as_slice() else { continue };
                // -1, the hardware's maximum, does not parse.
                let hz = value.parse::<u64>().ok();
                match (group, name) {
                    ("GPU", "MAX_FREQ") => mode.gpu_hz = hz,
                    ("EMC", "MAX_FREQ") => mode.emc_hz = hz,
                    ("CPU_ONLINE", _) if value == "0" => mode.cores_off += 1,
                    (group, "MAX_FREQ") if group.starts_with("CPU_") && mode.cpu_hz.is_none() => {
                        mode.cpu_hz = hz.and_then(|khz| khz.checked_mul(1000));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    (modes, default)
}

#[cfg(test)]
mod tests {
    use testkit::board::{JetPack, Model, Tree, board};

    use super::{Mode, PowerMode, parse};
    use crate::Root;

    fn read(tree: &Tree) -> PowerMode {
        PowerMode::read(&Root::at(tree.path()).expect("a folder"))
    }

    #[test]
    fn a_nanos_modes_are_those_of_the_reference() {
        let mode = read(&board(Model::OrinNanoSuper, JetPack::Six));
        assert_eq!((mode.id, mode.default_id, mode.fan.as_deref()), (Some(1), Some(1), Some("quiet")));
        let names: Vec<(u32, &str)> = mode.modes.iter().map(|mode| (mode.id, &*mode.name)).collect();
        assert_eq!(names, [(0, "15W"), (1, "25W"), (2, "MAXN_SUPER"), (3, "7W")]);
        let gpu: Vec<_> = mode.modes.iter().map(|mode| mode.gpu_hz).collect();
        assert_eq!(gpu, [Some(612_000_000), Some(918_000_000), None, Some(408_000_000)]);
        let seven = &mode.modes[3];
        assert_eq!((seven.watts(), seven.cores_off, seven.cpu_hz), (Some(7), 2, Some(960_000_000)));
        assert_eq!(seven.emc_hz, Some(2_133_000_000));
        assert_eq!(mode.current().map(|mode| mode.id), Some(1));
        assert_eq!(mode.fastest().map(|mode| mode.id), Some(2));
    }

    #[test]
    fn names_promise_watts() {
        let watts = |name: &str| Mode { name: name.to_owned(), ..Mode::default() }.watts();
        assert_eq!(watts("MODE_15W_6CORE"), Some(15));
        assert_eq!(watts("MODE_50W"), Some(50));
        assert_eq!(watts("MAXN_SUPER"), None);
        assert_eq!(watts("W"), None);
    }

    #[test]
    fn a_status_without_a_fan_and_files_that_are_absent_or_damaged() {
        let tree = board(Model::AgxOrin, JetPack::Five);
        assert_eq!((read(&tree).id, read(&tree).fan), (Some(0), None));
        tree.write("/var/lib/nvpmodel/status", "pmode:zwei\n");
        tree.write(
            "/etc/nvpmodel/nvpmodel.conf",
            "< POWER_MODEL ID=x NAME=A >\nGPU MAX_FREQ\n<POWER_MODEL\n",
        );
        assert_eq!(read(&tree), PowerMode::default());
        assert_eq!(read(&Tree::new()), PowerMode::default());
    }

    #[test]
    fn brackets_may_touch_their_words() {
        let (modes, default) = parse("<POWER_MODEL ID=4 NAME=40W>\nGPU MAX_FREQ 7\n<PM_CONFIG DEFAULT=4>\n");
        assert_eq!((modes[0].id, &*modes[0].name, modes[0].gpu_hz, default), (4, "40W", Some(7), Some(4)));
    }
}
