//! The few readings that are asked for while tokens are made: temperatures, power, free memory.
//!
//! Files are opened once and read by position into a buffer of this struct, so that a sample allocates
//! nothing. Limits of control groups are read anew each time: someone may tighten them while a model runs.
//!
//! Reading a file of a PC's kernel takes a few microseconds. The rails of a board are read over I2C, which
//! takes longer: sample twice a second, on a thread of its own where decoding must not wait.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::governor::ZONES;
use crate::{Readings, Root, clocks, groups, memory, rails, thermal};

/// Room for the longest file read here, `memory.stat`.
const BUFFER: usize = 8192;

/// What is asked for while tokens are made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Temperatures of the chip's zones, °C, in an order that never changes; the rest is `None`.
    pub zones: [Option<f32>; ZONES],
    /// What the board draws, W.
    pub watts: Option<f32>,
    /// The GPU's clock, Hz.
    pub gpu_hz: Option<u64>,
}

impl From<&Readings> for Sample {
    /// The part of a full reading that governors use: for playing recordings back to them.
    fn from(readings: &Readings) -> Sample {
        let mut sample = Sample { watts: readings.watts(), gpu_hz: readings.gpu.hz, ..Sample::default() };
        let chip = readings.zones.iter().filter(|zone| zone.is_chip());
        for (place, zone) in sample.zones.iter_mut().zip(chip) {
            *place = zone.celsius;
        }
        sample
    }
}

/// An open file that is read again and again.
struct Source(Option<File>);

impl Source {
    fn open(root: &Root, path: &str) -> Source {
        Source(File::open(root.path(path)).ok())
    }

    fn text<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a str> {
        let file = self.0.as_ref()?;
        let mut length = 0;
        while length < buffer.len() {
            match file.read_at(&mut buffer[length..], length as u64).ok()? {
                0 => break,
                more => length += more,
            }
        }
        // Only what is ASCII is looked for; a character cut at the buffer's end is none of it.
        let whole = match std::str::from_utf8(&buffer[..length]) {
            Ok(_) => length,
            Err(error) => error.valid_up_to(),
        };
        std::str::from_utf8(&buffer[..whole]).ok()
    }

    fn number<T: std::str::FromStr>(&self, buffer: &mut [u8]) -> Option<T> {
        self.text(&mut buffer[..64])?.trim().parse().ok()
    }
}

struct Rail {
    volts: Source,
    amperes: Source,
    watts: Option<Source>,
}

struct Group {
    files: groups::Files,
    sources: [Source; 3],
}

/// Open sensors of a machine.
pub struct Sensors {
    names: Vec<String>,
    zones: Vec<Source>,
    throttle: Option<f32>,
    rails: Vec<Rail>,
    gpu: Option<Source>,
    meminfo: Source,
    groups: Vec<Group>,
    /// The shell's limits of address space and data, and where their use is told.
    most: (Option<u64>, Option<u64>),
    status: Source,
    buffer: Box<[u8]>,
}

impl Sensors {
    /// Finds and opens what is there.
    pub fn open(root: &Root) -> Sensors {
        let mut zones = thermal::find(root);
        zones.retain(|(_, name)| thermal::is_chip(name));
        zones.truncate(ZONES);
        let throttle = zones.iter().filter_map(|(folder, _)| thermal::trips(root, folder).0);
        let mut rails = rails::find(root);
        // What is read is the total: the input's rail where there is one.
        if let Some(input) = rails.iter().position(|rail| rails::is_input(rail.name())) {
            rails = vec![rails.swap_remove(input)];
        }
        let group = |files: groups::Files| {
            let sources = files.paths().map(|path| Source::open(root, &path));
            Group { files, sources }
        };
        let gpu = clocks::find_gpu(root).map(|name| format!("/sys/class/devfreq/{name}/cur_freq"));
        let limits = root.text("/proc/self/limits").unwrap_or_default();
        Sensors {
            throttle: throttle.min_by(f32::total_cmp),
            zones: zones.iter().map(|(folder, _)| Source::open(root, &format!("{folder}/temp"))).collect(),
            names: zones.into_iter().map(|(_, name)| name).collect(),
            rails: rails
                .iter()
                .map(|rail| Rail {
                    volts: Source::open(root, &rail.volts),
                    amperes: Source::open(root, &rail.amperes),
                    watts: rail.watts.as_ref().map(|file| Source::open(root, file)),
                })
                .collect(),
            gpu: gpu.map(|file| Source::open(root, &file)),
            meminfo: Source::open(root, "/proc/meminfo"),
            groups: groups::find(root).into_iter().map(group).collect(),
            most: memory::most(&limits),
            status: Source::open(root, "/proc/self/status"),
            buffer: vec![0; BUFFER].into(),
        }
    }

    /// The types of the zones of [`Sample::zones`].
    pub fn zone_names(&self) -> &[String] {
        &self.names
    }

    /// Where the board itself begins to slow down, °C; see [`crate::Readings::throttle`].
    pub fn throttle(&self) -> Option<f32> {
        self.throttle
    }

    /// Whether the board tells what it draws: without that no power budget can be kept.
    pub fn has_power(&self) -> bool {
        !self.rails.is_empty()
    }

    /// Reads temperatures, power and clock. Allocates nothing.
    pub fn sample(&mut self) -> Sample {
        let buffer = &mut self.buffer;
        let mut sample = Sample::default();
        for (zone, source) in sample.zones.iter_mut().zip(&self.zones) {
            *zone = source.number(buffer).and_then(thermal::plausible);
        }
        let mut total = (!self.rails.is_empty()).then_some(0);
        for rail in &self.rails {
            let given = rail.watts.as_ref().and_then(|source| source.number::<u32>(buffer));
            let power =
                given.or_else(|| rails::product(rail.volts.number(buffer)?, rail.amperes.number(buffer)?));
            total = total.zip(power).map(|(total, power)| total + power);
        }
        sample.watts = total.map(|milliwatts| milliwatts as f32 / 1000.0);
        sample.gpu_hz = self.gpu.as_ref().and_then(|source| source.number(buffer));
        sample
    }

    /// Bytes this process could take without swapping or going over a limit: [`memory::available`], read
    /// anew without allocating.
    pub fn available(&mut self) -> Option<u64> {
        self.room(0, false)
    }

    /// The same, leaving `reserve` bytes to other programs. A shell's limits are this process's own, so nothing
    /// is left of them. Where a GPU takes the memory, the region for contiguous allocations does not count
    /// (`without_contiguous`): the kernel gives its pages only to what can be moved away again.
    pub fn room(&mut self, reserve: u64, without_contiguous: bool) -> Option<u64> {
        let buffer = &mut self.buffer;
        let machine = self.meminfo.text(buffer).and_then(|info| {
            let contiguous = if without_contiguous { memory::kib(info, "CmaFree:").unwrap_or(0) } else { 0 };
            Some(memory::kib(info, "MemAvailable:")?.saturating_sub(contiguous))
        });
        let mut least = machine;
        let mut at_most = |left: Option<u64>| least = [least, left].into_iter().flatten().min();
        for Group { files, sources: [limit, used, stat] } in &self.groups {
            let (Some(limit), Some(used)) = (limit.number(buffer), used.number(buffer)) else { continue };
            let cached = stat.text(buffer).map_or(0, |stat| files.cached(stat));
            at_most(groups::left_of(limit, used, cached));
        }
        let shared = least.map(|least| least.saturating_sub(reserve));
        if self.most == (None, None) {
            return shared;
        }
        let own = self.status.text(buffer);
        let own = own.and_then(|status| memory::limits_left(self.most.0, self.most.1, status));
        [shared, own].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use testkit::board::{JetPack, Model, board, pc};

    use super::{Sample, Sensors};
    use crate::{Readings, Root, memory};

    #[test]
    fn samples_say_what_readings_say() {
        for model in [Model::OrinNanoSuper, Model::OrinNx16, Model::AgxOrin] {
            for jetpack in [JetPack::Five, JetPack::Six, JetPack::Seven] {
                let tree = board(model, jetpack);
                let root = Root::at(tree.path()).expect("a folder");
                let readings = Readings::take(&root);
                let mut sensors = Sensors::open(&root);
                let sample = sensors.sample();
                let chip = readings.zones.iter().filter(|zone| zone.is_chip());
                let names: Vec<&String> = chip.clone().map(|zone| &zone.name).collect();
                assert_eq!(sensors.zone_names().iter().collect::<Vec<_>>(), names);
                assert_eq!(names.len(), 9);
                for (zone, read) in chip.zip(sample.zones) {
                    assert_eq!(zone.celsius, read, "{model:?} {jetpack:?} {}", zone.name);
                }
                assert_eq!((sample.watts, sample.gpu_hz), (readings.watts(), readings.gpu.hz));
                assert!(sample.watts.is_some());
                assert_eq!(sample, Sample::from(&readings));
                assert_eq!(sensors.throttle(), readings.throttle());
                assert_eq!(sensors.available(), memory::available(&root));
            }
        }
    }

    #[test]
    fn changes_are_seen_without_opening_again() {
        let tree = board(Model::OrinNanoSuper, JetPack::Six);
        let group = "/sys/fs/cgroup";
        tree.write(&format!("{group}/memory.max"), "max\n");
        tree.write(&format!("{group}/memory.current"), "300\n");
        tree.write(&format!("{group}/memory.stat"), "inactive_file 100\nactive_file 50\n");
        let mut sensors = Sensors::open(&Root::at(tree.path()).expect("a folder"));
        assert_eq!(sensors.sample().zones[1], Some(48.812));
        assert_eq!(sensors.available(), Some((7_803_904 - 1_400_000) * 1024));
        tree.write("/sys/devices/virtual/thermal/thermal_zone1/temp", "83500\n");
        tree.write(&format!("{group}/memory.max"), "1000\n");
        assert_eq!(sensors.sample().zones[1], Some(83.5));
        assert_eq!(sensors.available(), Some(1000 - (300 - 150)));
        tree.write("/sys/devices/virtual/thermal/thermal_zone1/temp", "\n");
        assert_eq!(sensors.sample().zones[1], None);
    }

    #[test]
    fn a_pc_has_memory_only_and_its_zones_do_not_count() {
        let tree = pc();
        let mut sensors = Sensors::open(&Root::at(tree.path()).expect("a folder"));
        assert_eq!(sensors.sample(), Sample::default());
        assert_eq!(sensors.available(), Some(24_000_000 * 1024));
        assert!(!sensors.has_power() && sensors.zone_names().is_empty());
    }

    #[test]
    fn a_reserve_is_left_of_what_is_shared_but_not_of_a_shells_limits() {
        let tree = board(Model::OrinNanoSuper, JetPack::Six);
        let all = (7_803_904 - 1_400_000) * 1024;
        let open = || Sensors::open(&Root::at(tree.path()).expect("a folder"));
        assert_eq!(open().room(1000, false), Some(all - 1000));
        assert_eq!(open().room(1000, true), Some(all - 1000 - 901_120 * 1024));
        assert_eq!(open().room(u64::MAX, false), Some(0));
        tree.write("/proc/self/limits", "Max data size   104857600   unlimited   bytes\n");
        tree.write("/proc/self/status", "VmData:\t 1024 kB\n");
        assert_eq!(open().room(1 << 30, false), Some(99 << 20));
        assert_eq!(open().room(all - 7, false), Some(7));
    }

    #[test]
    fn this_machine_says_the_same_twice() {
        let root = Root::real();
        let (sensed, read) = (Sensors::open(&root).available(), memory::available(&root));
        let (sensed, read) = (sensed.expect("Linux says"), read.expect("Linux says"));
        // Other programs come and go between the two.
        assert!(sensed.abs_diff(read) < read / 4, "{sensed} {read}");
    }
}
