//! Fake trees of machines: the files of a Jetson board as NVIDIA's documentation and published logs show
//! them, for `--sysroot`. Values are those of an idle board; tests write over what they care about.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of files, gone at the end.
#[derive(Debug)]
pub struct Tree(PathBuf);

impl Tree {
    /// An empty one.
    pub fn new() -> Tree {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("jetson-llm-tree-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(&root).expect("the folder for temporary files can be written");
        Tree(root)
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn inside(&self, file: &str) -> PathBuf {
        let path = self.0.join(file.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be made");
        path
    }

    /// Writes a file, named from the machine's `/`.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.inside(file);
        // One that failed answers again.
        let _ = fs::remove_dir(&path);
        fs::write(path, text).expect("a file can be written");
    }

    /// Makes a link with this target.
    pub fn link(&self, file: &str, target: &str) {
        symlink(target, self.inside(file)).expect("a link can be made");
    }

    /// Removes a file or a folder with all it holds.
    pub fn remove(&self, file: &str) {
        let path = self.inside(file);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.expect("it was there");
    }

    /// Makes reading a file fail, as a sensor does that answers EAGAIN: a folder takes its place.
    pub fn fail(&self, file: &str) {
        let path = self.inside(file);
        let _ = fs::remove_file(&path);
        fs::create_dir_all(path).expect("a folder can be made");
    }
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Orin Nano 8 GB with Super firmware, in its 25 W mode.
    OrinNanoSuper,
    /// The same board before the Super firmware: the GPU ends at 624.75 MHz.
    OrinNano,
    /// Orin NX 16 GB with Super firmware, in its 25 W mode.
    OrinNx16,
    /// AGX Orin 64 GB, in MAXN.
    AgxOrin,
}

/// A release, as far as paths differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JetPack {
    /// 5.1.2: L4T 35.4.1.
    Five,
    /// 6.2.2: L4T 36.5.
    Six,
    /// 7.2: L4T 39.2.1.
    Seven,
}

/// What differs between boards.
struct Facts {
    name: &'static str,
    compatible: &'static str,
    total_kb: u64,
    cores: u32,
    /// Highest clock of the mode, kHz.
    cpu_khz: u32,
    /// Of the mode and of the hardware, Hz.
    gpu_hz: [u32; 2],
    emc_hz: u64,
    mode: u32,
    modes: &'static str,
}

fn facts(model: Model) -> Facts {
    match model {
        Model::OrinNanoSuper => Facts {
            name: "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            compatible: "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234",
            total_kb: 7_803_904,
            cores: 6,
            cpu_khz: 1_344_000,
            gpu_hz: [918_000_000, 1_020_000_000],
            emc_hz: 3_199_000_000,
            mode: 1,
            modes: NANO_SUPER,
        },
        Model::OrinNano => Facts {
            name: "NVIDIA Jetson Orin Nano Developer Kit",
            compatible: "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234",
            gpu_hz: [624_750_000, 624_750_000],
            emc_hz: 2_133_000_000,
            cpu_khz: 1_510_400,
            mode: 0,
            modes: NANO,
            ..facts(Model::OrinNanoSuper)
        },
        Model::OrinNx16 => Facts {
            name: "NVIDIA Jetson Orin NX Engineering Reference Developer Kit Super",
            compatible: "nvidia,p3768-0000+p3767-0000-super\0nvidia,p3767-0000\0nvidia,tegra234",
            total_kb: 16_033_020,
            cores: 8,
            cpu_khz: 1_497_600,
            gpu_hz: [408_000_000, 1_173_000_000],
            emc_hz: 3_199_000_000,
            mode: 3,
            modes: NX_SUPER,
        },
        Model::AgxOrin => Facts {
            name: "NVIDIA Jetson AGX Orin Developer Kit",
            compatible: "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234",
            total_kb: 64_349_764,
            cores: 12,
            cpu_khz: 2_201_600,
            gpu_hz: [1_300_500_000, 1_300_500_000],
            emc_hz: 3_199_000_000,
            mode: 0,
            modes: AGX,
        },
    }
}

/// Every configuration begins with the files its values go to.
const PARAMETERS: &str = "\
# FORMAT:
# < PARAM TYPE=PARAM_TYPE NAME=PARAM_NAME >
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< PARAM TYPE=CLOCK NAME=GPU >
FREQ_TABLE /sys/devices/platform/17000000.gpu/devfreq_dev/available_frequencies
MAX_FREQ /sys/devices/platform/17000000.gpu/devfreq_dev/max_freq

";
const NANO_SUPER: &str = "\
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_5 1
CPU_A78_0 MIN_FREQ 729600
CPU_A78_0 MAX_FREQ 1497600
GPU MIN_FREQ 0
GPU MAX_FREQ 612000000
EMC MAX_FREQ 2133000000

< POWER_MODEL ID=1 NAME=25W >
CPU_A78_0 MAX_FREQ 1344000
GPU MAX_FREQ 918000000
EMC MAX_FREQ 3199000000

< POWER_MODEL ID=2 NAME=MAXN_SUPER >
CPU_A78_0 MAX_FREQ -1
GPU MAX_FREQ -1
EMC MAX_FREQ -1

< POWER_MODEL NAME=7W ID=3 >
CPU_ONLINE CORE_4 0
CPU_ONLINE CORE_5 0
CPU_A78_0 MAX_FREQ 960000
GPU MAX_FREQ 408000000
EMC MAX_FREQ 2133000000

< PM_CONFIG DEFAULT=1 >
< FAN_CONFIG DEFAULT=quiet >
";
const NANO: &str = "\
< POWER_MODEL ID=0 NAME=15W >
CPU_A78_0 MAX_FREQ -1
GPU MAX_FREQ -1
EMC MAX_FREQ -1
< POWER_MODEL ID=1 NAME=7W >
CPU_A78_0 MAX_FREQ 960000
GPU MAX_FREQ 408000000
EMC MAX_FREQ 2133000000
< PM_CONFIG DEFAULT=0 >
";
const NX_SUPER: &str = "\
< POWER_MODEL ID=0 NAME=MAXN_SUPER >
GPU MAX_FREQ -1
< POWER_MODEL ID=1 NAME=10W >
GPU MAX_FREQ 612000000
< POWER_MODEL ID=2 NAME=15W >
GPU MAX_FREQ 612000000
< POWER_MODEL ID=3 NAME=25W >
GPU MAX_FREQ 408000000
< POWER_MODEL ID=4 NAME=40W >
GPU MAX_FREQ 1173000000
< PM_CONFIG DEFAULT=3 >
";
const AGX: &str = "\
< POWER_MODEL ID=0 NAME=MAXN >
GPU MAX_FREQ -1
< POWER_MODEL ID=1 NAME=MODE_15W >
GPU MAX_FREQ 420750000
< POWER_MODEL ID=2 NAME=MODE_30W >
GPU MAX_FREQ 624750000
< POWER_MODEL ID=3 NAME=MODE_50W >
GPU MAX_FREQ 828750000
< PM_CONFIG DEFAULT=2 >
";

/// The files of a board under a release.
pub fn board(model: Model, jetpack: JetPack) -> Tree {
    let (tree, facts) = (Tree::new(), facts(model));
    identity(&tree, &facts, jetpack);
    memory(&tree, &facts);
    thermal(&tree, model);
    power(&tree, model);
    gpu(&tree, &facts, jetpack);
    clocks(&tree, &facts);
    tree.write("/etc/nvpmodel/nvpmodel.conf", &format!("{PARAMETERS}{}", facts.modes));
    tree.link("/etc/nvpmodel.conf", "/etc/nvpmodel/nvpmodel.conf");
    let status = match jetpack {
        JetPack::Five => format!("pmode:{:04}\n", facts.mode),
        _ => format!("pmode:{:04} fmode:fan_mode_quiet\n", facts.mode),
    };
    tree.write("/var/lib/nvpmodel/status", &status);
    tree
}

fn identity(tree: &Tree, facts: &Facts, jetpack: JetPack) {
    let release = match jetpack {
        JetPack::Five => "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n",
        JetPack::Six => "# R36 (release), REVISION: 5.0, GCID: 43688277, BOARD: generic, EABI: aarch64\n",
        JetPack::Seven => {
            "# R39 (release), REVISION: 2.1, GCID: 46758480, BOARD: generic, EABI: aarch64\n\
             # KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
        }
    };
    tree.write("/etc/nv_tegra_release", release);
    tree.write("/proc/device-tree/model", &format!("{}\0", facts.name));
    tree.write("/proc/device-tree/compatible", &format!("{}\0", facts.compatible));
    tree.link("/etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target");
}

fn memory(tree: &Tree, facts: &Facts) {
    let available = facts.total_kb - 1_400_000;
    let free = available - 1_900_000;
    let info = format!(
        "MemTotal:        {} kB\nMemFree:         {free} kB\nMemAvailable:    {available} kB\n\
         Buffers:           60000 kB\nCached:          1900000 kB\nSwapCached:            0 kB\n\
         SwapTotal:       3901944 kB\nSwapFree:        3901824 kB\nCmaTotal:         983040 kB\n\
         CmaFree:          901120 kB\n",
        facts.total_kb
    );
    tree.write("/proc/meminfo", &info);
    tree.write("/proc/vmstat", "nr_free_pages 1\npswpin 120\npswpout 340\n");
    tree.write("/proc/self/cgroup", "0::/user.slice\n");
    for index in 0..6 {
        tree.write(&format!("/sys/block/zram{index}/disksize"), "665919488\n");
        let stat = "    4096       74    20480        0    20480        0        0        0        0\n";
        tree.write(&format!("/sys/block/zram{index}/mm_stat"), stat);
    }
}

fn thermal(tree: &Tree, model: Model) {
    let zones = [
        ("cpu-thermal", "47062"),
        ("gpu-thermal", "48812"),
        ("cv0-thermal", ""),
        ("cv1-thermal", ""),
        ("cv2-thermal", ""),
        ("soc0-thermal", "46000"),
        ("soc1-thermal", "45343"),
        ("soc2-thermal", "45781"),
        ("tj-thermal", "48812"),
        ("tboard-thermal", "38000"),
        ("tdiode-thermal", "39250"),
    ];
    let count = if model == Model::AgxOrin { 11 } else { 9 };
    for (index, (name, milli)) in zones.into_iter().enumerate().take(count) {
        let folder = format!("/sys/devices/virtual/thermal/thermal_zone{index}");
        tree.write(&format!("{folder}/type"), &format!("{name}\n"));
        let trips = [("active", "51000"), ("passive", "99000"), ("critical", "104500")];
        for (trip, (kind, at)) in trips.into_iter().enumerate() {
            tree.write(&format!("{folder}/trip_point_{trip}_type"), &format!("{kind}\n"));
            tree.write(&format!("{folder}/trip_point_{trip}_temp"), &format!("{at}\n"));
        }
        if milli.is_empty() {
            tree.fail(&format!("{folder}/temp"));
        } else {
            tree.write(&format!("{folder}/temp"), &format!("{milli}\n"));
        }
        let class = format!("/sys/class/thermal/thermal_zone{index}");
        tree.link(&class, &format!("../../devices/virtual/thermal/thermal_zone{index}"));
    }
}

/// One rail of an INA3221: label, millivolts, milliamperes.
type Rail = (&'static str, u32, u32);

fn ina3221(tree: &Tree, hwmon: u32, address: &str, rails: &[Rail]) {
    let folder = format!("/sys/devices/platform/c240000.i2c/i2c-1/1-00{address}/hwmon/hwmon{hwmon}");
    tree.write(&format!("{folder}/name"), "ina3221\n");
    for ((label, volts, amperes), at) in rails.iter().zip(1..) {
        tree.write(&format!("{folder}/in{at}_label"), &format!("{label}\n"));
        tree.write(&format!("{folder}/in{at}_input"), &format!("{volts}\n"));
        tree.write(&format!("{folder}/curr{at}_input"), &format!("{amperes}\n"));
        tree.write(&format!("{folder}/curr{at}_crit"), "7784\n");
    }
    tree.write(&format!("{folder}/in7_label"), "Sum of shunt voltages\n");
    tree.write(&format!("{folder}/in7_input"), "44\n");
    tree.write(&format!("{folder}/curr4_input"), "4400\n");
    let device = format!("../../devices/platform/c240000.i2c/i2c-1/1-00{address}/hwmon/hwmon{hwmon}");
    tree.link(&format!("/sys/class/hwmon/hwmon{hwmon}"), &device);
    let driver = format!("../../../../devices/platform/c240000.i2c/i2c-1/1-00{address}");
    tree.link(&format!("/sys/bus/i2c/drivers/ina3221/1-00{address}"), &driver);
}

fn power(tree: &Tree, model: Model) {
    if model == Model::AgxOrin {
        let rails = [("VDD_GPU_SOC", 19_880, 240), ("VDD_CPU_CV", 19_880, 60), ("VIN_SYS_5V0", 5_080, 900)];
        ina3221(tree, 3, "40", &rails);
        ina3221(tree, 4, "41", &[("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5_064, 120)]);
    } else {
        let rails = [("VDD_IN", 5_040, 1_000), ("VDD_CPU_GPU_CV", 5_040, 200), ("VDD_SOC", 5_040, 300)];
        ina3221(tree, 1, "40", &rails);
    }
    for index in 1..=3 {
        tree.write(&format!("/sys/class/hwmon/hwmon7/oc{index}_event_cnt"), "0\n");
    }
    tree.write("/sys/class/hwmon/hwmon7/name", "soctherm_oc\n");
    tree.write("/sys/class/hwmon/hwmon0/name", "pwmfan\n");
    tree.write("/sys/class/hwmon/hwmon0/pwm1", "76\n");
    tree.write("/sys/class/hwmon/hwmon2/name", "pwm_tach\n");
    tree.write("/sys/class/hwmon/hwmon2/rpm", "1636\n");
}

fn gpu(tree: &Tree, facts: &Facts, jetpack: JetPack) {
    let (device, name, load) = match jetpack {
        JetPack::Five => ("devices/17000000.ga10b", "17000000.ga10b", "/sys/devices/gpu.0/load"),
        JetPack::Six => ("devices/platform/17000000.gpu", "17000000.gpu", "/sys/devices/platform/gpu.0/load"),
        JetPack::Seven => (
            "devices/platform/bus@0/17000000.gpu",
            "17000000.gpu",
            "/sys/devices/platform/bus@0/17000000.gpu/load",
        ),
    };
    let folder = format!("/sys/{device}/devfreq/{name}");
    let [mode, most] = facts.gpu_hz;
    let mut table = vec![306_000_000, 408_000_000, 510_000_000, 612_000_000, mode, most];
    table.sort_unstable();
    table.dedup();
    table.retain(|&hz| hz <= most);
    let table: Vec<String> = table.iter().map(ToString::to_string).collect();
    tree.write(&format!("{folder}/cur_freq"), "306000000\n");
    tree.write(&format!("{folder}/min_freq"), "306000000\n");
    tree.write(&format!("{folder}/max_freq"), &format!("{mode}\n"));
    tree.write(&format!("{folder}/available_frequencies"), &format!("{}\n", table.join(" ")));
    tree.write(&format!("{folder}/governor"), "nvhost_podgov\n");
    tree.link(&format!("{folder}/device"), &format!("../../../{name}"));
    tree.write(&format!("/sys/{device}/of_node/name"), "gpu\0");
    tree.write(load, "0\n");
    tree.link(&format!("/sys/class/devfreq/{name}"), &format!("../../{device}/devfreq/{name}"));
    // Another device of the class, which is not the GPU.
    tree.write("/sys/class/devfreq/15340000.vic/cur_freq", "115200000\n");
}

fn clocks(tree: &Tree, facts: &Facts) {
    let emc = "/sys/kernel/debug/bpmp/debug/clk/emc";
    tree.write(&format!("{emc}/rate"), "665600000\n");
    tree.write(&format!("{emc}/max_rate"), &format!("{}\n", facts.emc_hz));
    tree.write("/sys/kernel/debug/nvmap/stats/total_memory", "94371840\n");
    let clients = "CLIENT                        PROCESS      PID        SIZE\n\
                   user                         llama-server     2034     61440K\n\
                   user                             Xorg     1201     30720K\n\
                   total                                               92160K\n";
    tree.write("/sys/kernel/debug/nvmap/iovmm/clients", clients);
    for core in 0..facts.cores {
        let folder = format!("/sys/devices/system/cpu/cpu{core}");
        tree.write(&format!("{folder}/online"), "1\n");
        tree.write(&format!("{folder}/cpufreq/scaling_cur_freq"), "729600\n");
        tree.write(&format!("{folder}/cpufreq/scaling_min_freq"), "729600\n");
        tree.write(&format!("{folder}/cpufreq/scaling_max_freq"), &format!("{}\n", facts.cpu_khz));
    }
    tree.write("/sys/devices/system/cpu/cpufreq/policy0", "\n");
}

/// The files of a plain PC: memory and processors, nothing of a board.
pub fn pc() -> Tree {
    let tree = Tree::new();
    let info = "MemTotal:       32768000 kB\nMemFree:         1000000 kB\nMemAvailable:   24000000 kB\n\
                SwapTotal:             0 kB\nSwapFree:              0 kB\n";
    tree.write("/proc/meminfo", info);
    tree.write("/proc/self/cgroup", "0::/init.scope\n");
    tree.write("/sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n");
    tree.write("/sys/class/thermal/thermal_zone0/temp", "91000\n");
    tree.write("/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "4700000\n");
    tree
}
