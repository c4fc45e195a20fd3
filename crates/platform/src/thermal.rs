//! Temperatures: `/sys/class/thermal/thermal_zone*`, looked up by type, since their order is not
//! guaranteed. Zones of engines that are absent or asleep cannot be read (EAGAIN); some kernels show
//! -256 000 or 0 for them.

use serde::{Deserialize, Serialize};

use crate::Root;

/// One zone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Zone {
    /// Its type: `gpu-thermal`.
    pub name: String,
    /// Temperature in °C; `None` when it cannot be read or cannot be true.
    pub celsius: Option<f32>,
    /// Where the board itself begins to slow down: the lowest trip point of type `passive` or `hot`, °C.
    pub throttle: Option<f32>,
    /// Where the board switches itself off, °C.
    pub critical: Option<f32>,
}

impl Zone {
    /// Whether it measures the chip that computes. Others (the board's, a disk's, a radio's) have limits of
    /// their own.
    pub fn is_chip(&self) -> bool {
        is_chip(&self.name)
    }
}

pub(crate) fn is_chip(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let engine = ["cpu", "gpu", "soc", "cv", "tj"].iter().any(|engine| name.starts_with(engine));
    engine && (name.ends_with("-thermal") || name.ends_with("-therm"))
}

/// A temperature of milli-degrees that can be true. Nothing that computes is at or below freezing by its
/// own sensor, and nothing works above 130 °C; the ones read so are absent.
pub(crate) fn plausible(milli: i64) -> Option<f32> {
    (1..=130_000).contains(&milli).then_some(milli as f32 / 1000.0)
}

/// Folder and type of every zone, in the kernel's order.
pub(crate) fn find(root: &Root) -> Vec<(String, String)> {
    // The class's links are absent in some containers; the real folder is not.
    let folders = ["/sys/class/thermal", "/sys/devices/virtual/thermal"];
    let zones = |folder: &str| -> Vec<(String, String)> {
        let numbered = root.numbered(folder, "thermal_zone");
        let paths = numbered.into_iter().map(|(_, name)| format!("{folder}/{name}"));
        paths.filter_map(|zone| Some((root.text(&format!("{zone}/type"))?, zone))).collect()
    };
    let found = folders.into_iter().map(zones).find(|found| !found.is_empty()).unwrap_or_default();
    found.into_iter().map(|(name, folder)| (folder, name)).collect()
}

/// All zones.
pub fn read(root: &Root) -> Vec<Zone> {
    let zone = |(folder, name): (String, String)| {
        let (throttle, critical) = trips(root, &folder);
        let milli = root.number(&format!("{folder}/temp"));
        Zone { name, celsius: milli.and_then(plausible), throttle, critical }
    };
    find(root).into_iter().map(zone).collect()
}

/// The lowest trip points at which the board slows down and switches off. Ones below 60 °C are for fans.
pub(crate) fn trips(root: &Root, folder: &str) -> (Option<f32>, Option<f32>) {
    let (mut throttle, mut critical): (Option<f32>, Option<f32>) = (None, None);
    for at in 0..16 {
        let Some(kind) = root.text(&format!("{folder}/trip_point_{at}_type")) else { break };
        let milli = root.number(&format!("{folder}/trip_point_{at}_temp"));
        let Some(celsius) = milli.and_then(plausible).filter(|&celsius| celsius >= 60.0) else { continue };
        let slot = match kind.as_str() {
            "passive" | "hot" => &mut throttle,
            "critical" => &mut critical,
            _ => continue,
        };
        *slot = Some(slot.map_or(celsius, |lowest| lowest.min(celsius)));
    }
    (throttle, critical)
}

/// The hottest zone of the chip; of equals the last, which on boards is the junction's, `tj-thermal`.
pub fn hottest(zones: &[Zone]) -> Option<(&str, f32)> {
    let read =
        zones.iter().filter(|zone| zone.is_chip()).filter_map(|zone| Some((&*zone.name, zone.celsius?)));
    read.max_by(|a, b| a.1.total_cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use testkit::board::{JetPack, Model, board};

    use super::{hottest, plausible, read};
    use crate::Root;

    #[test]
    fn zones_that_fail_or_lie_have_no_temperature() {
        let tree = board(Model::OrinNanoSuper, JetPack::Six);
        tree.write("/sys/devices/virtual/thermal/thermal_zone3/temp", "-256000\n");
        tree.write("/sys/devices/virtual/thermal/thermal_zone4/temp", "0\n");
        let zones = read(&Root::at(tree.path()).expect("a folder"));
        let names: Vec<&str> = zones.iter().map(|zone| &*zone.name).collect();
        assert_eq!(names.len(), 9);
        assert_eq!((names[0], names[8]), ("cpu-thermal", "tj-thermal"));
        for (zone, index) in zones.iter().zip(0..) {
            // cv0 is a folder in place of a file: reading fails, as with EAGAIN.
            assert_eq!(zone.celsius.is_none(), (2..=4).contains(&index), "{zone:?}");
        }
        assert_eq!(hottest(&zones), Some(("tj-thermal", 48.812)));
        assert_eq!((zones[1].throttle, zones[1].critical), (Some(99.0), Some(104.5)));
    }

    #[test]
    fn what_cannot_be_true_is_dropped() {
        assert_eq!(plausible(47_062), Some(47.062));
        for milli in [-256_000, -1, 0, 130_001, i64::MAX] {
            assert_eq!(plausible(milli), None);
        }
    }

    #[test]
    fn order_does_not_matter_and_other_zones_do_not_count() {
        let tree = board(Model::AgxOrin, JetPack::Six);
        let folder = "/sys/devices/virtual/thermal";
        tree.write(&format!("{folder}/thermal_zone0/type"), "tj-thermal\n");
        tree.write(&format!("{folder}/thermal_zone0/temp"), "71500\n");
        tree.write(&format!("{folder}/thermal_zone9/temp"), "90000\n");
        let zones = read(&Root::at(tree.path()).expect("a folder"));
        assert_eq!(zones[9].name, "tboard-thermal");
        assert_eq!(hottest(&zones), Some(("tj-thermal", 71.5)));
    }
}
