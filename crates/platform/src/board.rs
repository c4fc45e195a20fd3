//! What board this is and what runs on it: the device tree and `/etc/nv_tegra_release`.

use serde::{Deserialize, Serialize};

use crate::Root;

/// A machine's identity. All of it is `None` or empty on a PC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Board {
    /// The device tree's name for it.
    pub model: Option<String>,
    /// The device tree's list of what it is compatible with.
    pub compatible: Vec<String>,
    /// Release of Jetson Linux: 36 and `4.7` of R36.4.7.
    pub l4t: Option<L4t>,
    /// Whether it starts a desktop, which holds 200 to 900 MB.
    pub desktop: Option<bool>,
}

/// A release of Jetson Linux.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct L4t {
    /// 36.
    pub release: u32,
    /// 4 and 7.
    pub revision: (u32, u32),
}

/// A Jetson module, as far as it is told apart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// Orin Nano, 4 or 8 GB.
    OrinNano,
    /// Orin NX, 8 or 16 GB.
    OrinNx,
    /// AGX Orin, any.
    AgxOrin,
    /// AGX Thor.
    Thor,
    /// Any other.
    Other,
}

impl Board {
    /// Reads it.
    pub fn read(root: &Root) -> Board {
        let trees = ["/proc/device-tree", "/sys/firmware/devicetree/base"];
        let find = |name: &str| trees.iter().find_map(|tree| root.text(&format!("{tree}/{name}")));
        let compatible = find("compatible").unwrap_or_default();
        let targets =
            ["/etc", "/lib", "/usr/lib"].map(|folder| format!("{folder}/systemd/system/default.target"));
        let target = targets.iter().find_map(|target| root.link(target));
        Board {
            model: find("model").filter(|model| !model.is_empty()),
            compatible: compatible.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            l4t: root.text("/etc/nv_tegra_release").and_then(|text| release(&text)),
            desktop: target.map(|target| target.ends_with("graphical.target")),
        }
    }

    /// Whether this is a Jetson.
    pub fn is_jetson(&self) -> bool {
        let model = self.model.as_ref().is_some_and(|model| model.contains("Jetson"));
        model || self.l4t.is_some() || self.compatible.iter().any(|name| name.starts_with("nvidia,tegra"))
    }

    /// Which one; `None` for what is no Jetson.
    pub fn module(&self) -> Option<Module> {
        let has = |part: &str| self.compatible.iter().any(|name| name.contains(part));
        if !self.is_jetson() {
            return None;
        }
        // Part numbers of the modules: P3767 is the small one, by SKU.
        Some(if ["p3767-0003", "p3767-0004", "p3767-0005"].into_iter().any(has) {
            Module::OrinNano
        } else if has("p3767-0000") || has("p3767-0001") {
            Module::OrinNx
        } else if has("p3701-") {
            Module::AgxOrin
        } else if has("tegra264") {
            Module::Thor
        } else {
            Module::Other
        })
    }

    /// Whether its firmware has the Super modes.
    pub fn is_super(&self) -> bool {
        let model = self.model.as_ref().is_some_and(|model| model.ends_with("Super"));
        model || self.compatible.iter().any(|name| name.ends_with("-super"))
    }
}

impl L4t {
    /// The JetPack that ships it: `6.2.2`.
    pub fn jetpack(&self) -> Option<&'static str> {
        Some(match (self.release, self.revision) {
            (39, (2, _)) => "7.2",
            (38, (4, _)) => "7.1",
            (38, (2, _)) => "7.0",
            (36, (5, _)) => "6.2.2",
            (36, (4, 4..)) => "6.2.1",
            (36, (4, 3)) => "6.2",
            (36, (4, _)) => "6.1",
            (36, (3, _)) => "6.0",
            (35, _) => "5",
            (32, _) => "4",
            _ => return None,
        })
    }

    /// Whether its NvMap refuses GPU memory that is there (`NvMapMemAllocInternalTagged: 1075072515 error
    /// 12`): the fix of CVE-2025-33177, relaxed in 36.5.
    pub fn refuses_memory(&self) -> bool {
        self.release == 36 && self.revision == (4, 7)
    }
}

impl std::fmt::Display for L4t {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.release, self.revision.0, self.revision.1)
    }
}

/// `# R36 (release), REVISION: 4.7, GCID: …`.
fn release(text: &str) -> Option<L4t> {
    let line = text.lines().next()?;
    let release = line.trim_start_matches('#').trim().strip_prefix('R')?.split_whitespace().next()?;
    let (_, revision) = line.split_once("REVISION:")?;
    let mut parts = revision.split(',').next()?.trim().split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|minor| minor.parse().ok()).unwrap_or(0);
    Some(L4t { release: release.parse().ok()?, revision: (major, minor) })
}

#[cfg(test)]
mod tests {
    use testkit::board::{JetPack, Model, board, pc};

    use super::{Board, L4t, Module, release};
    use crate::Root;

    #[test]
    fn boards_are_told_apart() {
        let of = |model, jetpack| Board::read(&Root::at(board(model, jetpack).path()).expect("a folder"));
        let nano = of(Model::OrinNanoSuper, JetPack::Seven);
        assert_eq!((nano.module(), nano.is_super()), (Some(Module::OrinNano), true));
        assert_eq!(nano.l4t.as_ref().and_then(L4t::jetpack), Some("7.2"));
        assert!(nano.model.is_some_and(|model| model.ends_with("Kit Super")));
        let plain = of(Model::OrinNano, JetPack::Six);
        assert_eq!((plain.module(), plain.is_super()), (Some(Module::OrinNano), false));
        assert_eq!(
            plain.l4t.map(|l4t| (l4t.to_string(), l4t.jetpack())),
            Some(("36.5.0".into(), Some("6.2.2")))
        );
        assert_eq!(of(Model::OrinNx16, JetPack::Six).module(), Some(Module::OrinNx));
        let agx = of(Model::AgxOrin, JetPack::Five);
        assert_eq!((agx.module(), agx.is_super()), (Some(Module::AgxOrin), false));
        assert_eq!(agx.desktop, Some(false));
        assert_eq!(agx.l4t.as_ref().and_then(L4t::jetpack), Some("5"));
    }

    #[test]
    fn a_pc_is_none_of_them() {
        let pc = Board::read(&Root::at(pc().path()).expect("a folder"));
        assert_eq!(pc, Board::default());
        assert_eq!((pc.is_jetson(), pc.module()), (false, None));
    }

    #[test]
    fn the_releases_of_the_map() {
        let jetpack = |text: &str| release(text).and_then(|l4t| l4t.jetpack());
        let line =
            |revision: &str| format!("# R36 (release), REVISION: {revision}, GCID: 42132812, BOARD: generic");
        for (revision, name) in
            [("3.0", "6.0"), ("4.0", "6.1"), ("4.3", "6.2"), ("4.4", "6.2.1"), ("5", "6.2.2")]
        {
            assert_eq!(jetpack(&line(revision)), Some(name));
        }
        assert!(release(&line("4.7")).is_some_and(|l4t| l4t.refuses_memory()));
        assert!(release(&line("4.4")).is_some_and(|l4t| !l4t.refuses_memory()));
        assert_eq!(jetpack("# R99 (release), REVISION: 1.0"), None);
        assert_eq!(release("nonsense"), None);
    }
}
