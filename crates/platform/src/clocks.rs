//! Clocks of the GPU (devfreq), the memory (debugfs, root only) and the processors.

use serde::{Deserialize, Serialize};

use crate::Root;

/// The GPU of a board.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// Its device: `17000000.gpu`.
    pub name: Option<String>,
    /// Clock now, Hz.
    pub hz: Option<u64>,
    /// Lowest clock allowed, Hz. Equal to the highest after `jetson_clocks`.
    pub min_hz: Option<u64>,
    /// Highest clock allowed, Hz.
    pub max_hz: Option<u64>,
    /// Highest clock the hardware has, Hz.
    pub hardware_hz: Option<u64>,
    /// Share of the time it was busy, 0 to 1.
    pub load: Option<f32>,
    /// What chooses the clock: `nvhost_podgov`.
    pub governor: Option<String>,
}

/// The memory's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Emc {
    /// Clock now, Hz.
    pub hz: Option<u64>,
    /// Highest clock the hardware has, Hz.
    pub hardware_hz: Option<u64>,
    /// Highest clock the power mode allows, Hz.
    pub cap_hz: Option<u64>,
}

/// One core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Core {
    /// Its number.
    pub index: u32,
    /// Whether it runs; a power mode switches some off.
    pub online: bool,
    /// Clock now, Hz.
    pub hz: Option<u64>,
    /// Lowest clock allowed, Hz.
    pub min_hz: Option<u64>,
    /// Highest clock allowed, Hz.
    pub max_hz: Option<u64>,
}

const DEVFREQ: &str = "/sys/class/devfreq";

/// The name of the GPU among the devices with scalable clocks: `17000000.gpu` on JetPack 6 and 7,
/// `17000000.ga10b` on 5, `gpu-gpc-0` on Thor.
pub(crate) fn find_gpu(root: &Root) -> Option<String> {
    let names = root.names(DEVFREQ);
    let ends = [".gpu", ".ga10b", ".gv11b", ".gp10b", ".gm20b"];
    let known = |name: &&String| ends.iter().any(|end| name.ends_with(end)) || *name == "gpu-gpc-0";
    let says = |name: &&String| {
        root.text(&format!("{DEVFREQ}/{name}/device/of_node/name")).is_some_and(|node| node == "gpu")
    };
    names.iter().find(known).or_else(|| names.iter().find(says)).cloned()
}

impl Gpu {
    /// Reads it; everything is `None` where no GPU has scalable clocks.
    pub fn read(root: &Root) -> Gpu {
        let Some(name) = find_gpu(root) else { return Gpu::default() };
        let file = |file: &str| format!("{DEVFREQ}/{name}/{file}");
        let table = root.text(&file("available_frequencies")).unwrap_or_default();
        let loads = [
            "/sys/devices/platform/gpu.0/load".to_owned(),
            "/sys/devices/gpu.0/load".to_owned(),
            format!("/sys/devices/platform/bus@0/{name}/load"),
            format!("/sys/devices/platform/{name}/load"),
            file("device/load"),
        ];
        let load = loads.iter().find_map(|load| root.number::<u32>(load)).filter(|&load| load <= 1000);
        Gpu {
            hz: root.number(&file("cur_freq")),
            min_hz: root.number(&file("min_freq")),
            max_hz: root.number(&file("max_freq")),
            hardware_hz: table.split_whitespace().filter_map(|hz| hz.parse().ok()).max(),
            load: load.map(|permille| permille as f32 / 1000.0),
            governor: root.text(&file("governor")),
            name: Some(name),
        }
    }
}

impl Emc {
    /// Reads it; only root may.
    pub fn read(root: &Root) -> Emc {
        let clock = "/sys/kernel/debug/bpmp/debug/clk/emc";
        let caps = ["/sys/kernel/nvpmodel_clk_cap/emc", "/sys/kernel/nvpmodel_emc_cap/emc_iso_cap"];
        Emc {
            hz: root.number(&format!("{clock}/rate")),
            hardware_hz: root.number(&format!("{clock}/max_rate")),
            // 0 is no cap.
            cap_hz: caps.iter().find_map(|cap| root.number(cap)).filter(|&hz: &u64| hz > 0),
        }
    }
}

/// All cores.
pub fn cores(root: &Root) -> Vec<Core> {
    let folder = "/sys/devices/system/cpu";
    let core = |(index, name): (u32, String)| {
        let khz = |file: &str| {
            let khz: Option<u64> = root.number(&format!("{folder}/{name}/cpufreq/{file}"));
            khz.and_then(|khz| khz.checked_mul(1000))
        };
        Core {
            index,
            // The first core of most machines cannot be switched off and has no such file.
            online: root.number::<u8>(&format!("{folder}/{name}/online")).is_none_or(|online| online == 1),
            hz: khz("scaling_cur_freq"),
            min_hz: khz("scaling_min_freq"),
            max_hz: khz("scaling_max_freq"),
        }
    };
    root.numbered(folder, "cpu").into_iter().map(core).collect()
}

#[cfg(test)]
mod tests {
    use testkit::board::{JetPack, Model, Tree, board};

    use super::{Emc, Gpu, cores};
    use crate::Root;

    fn root(tree: &Tree) -> Root {
        Root::at(tree.path()).expect("a folder")
    }

    #[test]
    fn every_release_has_its_own_paths() {
        let loads = [
            (JetPack::Five, "/sys/devices/gpu.0/load"),
            (JetPack::Six, "/sys/devices/platform/gpu.0/load"),
            (JetPack::Seven, "/sys/devices/platform/bus@0/17000000.gpu/load"),
        ];
        for (jetpack, load) in loads {
            let tree = board(Model::OrinNanoSuper, jetpack);
            tree.write(load, "873\n");
            let gpu = Gpu::read(&root(&tree));
            assert_eq!(gpu.load, Some(0.873), "{jetpack:?}");
            assert_eq!(gpu.hz, Some(306_000_000));
            assert_eq!((gpu.max_hz, gpu.hardware_hz), (Some(918_000_000), Some(1_020_000_000)));
            assert_eq!(gpu.governor.as_deref(), Some("nvhost_podgov"));
            // More than all of the time is a misreading.
            tree.write(load, "4294967\n");
            assert_eq!(Gpu::read(&root(&tree)).load, None);
        }
    }

    #[test]
    fn a_gpu_with_another_name_is_known_by_its_node() {
        let tree = board(Model::OrinNx16, JetPack::Six);
        tree.remove("/sys/class/devfreq/17000000.gpu");
        assert_eq!(Gpu::read(&root(&tree)), Gpu::default());
        tree.write("/sys/class/devfreq/mystery/cur_freq", "5\n");
        tree.write("/sys/class/devfreq/mystery/device/of_node/name", "gpu\0");
        assert_eq!(Gpu::read(&root(&tree)).hz, Some(5));
    }

    #[test]
    fn cores_that_are_off_are_counted() {
        let tree = board(Model::OrinNx16, JetPack::Six);
        tree.write("/sys/devices/system/cpu/cpu7/online", "0\n");
        let cores = cores(&root(&tree));
        assert_eq!(cores.len(), 8);
        assert_eq!(cores.iter().filter(|core| core.online).count(), 7);
        assert_eq!((cores[0].hz, cores[0].max_hz), (Some(729_600_000), Some(1_497_600_000)));
    }

    #[test]
    fn the_memorys_clock_and_its_cap() {
        let tree = board(Model::AgxOrin, JetPack::Seven);
        tree.write("/sys/kernel/nvpmodel_emc_cap/emc_iso_cap", "2133000000\n");
        let emc = Emc::read(&root(&tree));
        assert_eq!((emc.hz, emc.hardware_hz), (Some(665_600_000), Some(3_199_000_000)));
        assert_eq!(emc.cap_hz, Some(2_133_000_000));
    }
}
