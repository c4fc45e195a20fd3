//! Power: the INA3221 monitors of a board, and its over-current counters.
//!
//! JetPack 5 and later show the monitors under hwmon (millivolts and milliamperes; power is their product);
//! JetPack 4 under iio, with milliwatts as well.

use serde::{Deserialize, Serialize};

use crate::Root;

/// One supply rail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rail {
    /// Its label: `VDD_IN`.
    pub name: String,
    /// Millivolts.
    pub millivolts: Option<u32>,
    /// Milliamperes.
    pub milliamperes: Option<u32>,
    /// Milliwatts.
    pub milliwatts: Option<u32>,
    /// Current at which the monitor raises its alarm, mA.
    pub critical_milliamperes: Option<u32>,
}

/// Times the board cut its clocks because of current or voltage since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OverCurrent {
    /// 1 under-voltage, 2 average current, 3 peak current.
    pub cause: u32,
    /// Times.
    pub count: u64,
}

impl OverCurrent {
    /// The cause in words.
    pub fn words(&self) -> &'static str {
        match self.cause {
            1 => "under-voltage",
            2 => "average current",
            3 => "peak current",
            _ => "other",
        }
    }
}

/// The files of a rail's voltage and current, for reading them again and again.
pub(crate) struct RailFiles {
    name: String,
    /// Millivolts and milliamperes.
    pub(crate) volts: String,
    pub(crate) amperes: String,
    /// Milliwatts, where the driver gives them.
    pub(crate) watts: Option<String>,
    critical: String,
}

impl RailFiles {
    /// Its label.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

const DRIVER: &str = "/sys/bus/i2c/drivers";

/// All rails that carry a label, without the sums and pins that are not connected.
pub(crate) fn find(root: &Root) -> Vec<RailFiles> {
    let mut folders: Vec<String> = monitors(root, "ina3221");
    if folders.is_empty() {
        // Some containers lack the class.
        for chip in root.names(&format!("{DRIVER}/ina3221")) {
            let hwmon = format!("{DRIVER}/ina3221/{chip}/hwmon");
            folders.extend(
                root.numbered(&hwmon, "hwmon").into_iter().map(|(_, name)| format!("{hwmon}/{name}")),
            );
        }
    }
    let mut rails = Vec::new();
    for folder in folders {
        for at in 1..=3 {
            let Some(name) = root.text(&format!("{folder}/in{at}_label")) else { continue };
            rails.push(RailFiles {
                name,
                volts: format!("{folder}/in{at}_input"),
                amperes: format!("{folder}/curr{at}_input"),
                watts: None,
                critical: format!("{folder}/curr{at}_crit"),
            });
        }
    }
    for chip in root.names(&format!("{DRIVER}/ina3221x")) {
        for (_, device) in root.numbered(&format!("{DRIVER}/ina3221x/{chip}"), "iio:device") {
            let folder = format!("{DRIVER}/ina3221x/{chip}/{device}");
            for at in 0..3 {
                let Some(name) = root.text(&format!("{folder}/rail_name_{at}")) else { continue };
                rails.push(RailFiles {
                    name,
                    volts: format!("{folder}/in_voltage{at}_input"),
                    amperes: format!("{folder}/in_current{at}_input"),
                    watts: Some(format!("{folder}/in_power{at}_input")),
                    critical: format!("{folder}/crit_current_limit_{at}"),
                });
            }
        }
    }
    rails.retain(|rail| rail.name != "NC" && !rail.name.starts_with("Sum of"));
    rails
}

/// The hwmon folders of this name.
pub(crate) fn monitors(root: &Root, name: &str) -> Vec<String> {
    let class = "/sys/class/hwmon";
    let all = root.numbered(class, "hwmon").into_iter().map(|(_, folder)| format!("{class}/{folder}"));
    all.filter(|folder| root.text(&format!("{folder}/name")).as_deref() == Some(name)).collect()
}

/// All rails.
pub fn read(root: &Root) -> Vec<Rail> {
    let rail = |files: RailFiles| {
        let (volts, amperes) = (root.number::<u32>(&files.volts), root.number::<u32>(&files.amperes));
        let given = files.watts.as_ref().and_then(|file| root.number(file));
        Rail {
            millivolts: volts,
            milliamperes: amperes,
            milliwatts: given.or_else(|| product(volts?, amperes?)),
            critical_milliamperes: root.number(&files.critical),
            name: files.name,
        }
    };
    find(root).into_iter().map(rail).collect()
}

/// mV · mA in mW; more than ten kilowatts is a misreading.
pub(crate) fn product(millivolts: u32, milliamperes: u32) -> Option<u32> {
    let milliwatts = u64::from(millivolts) * u64::from(milliamperes) / 1000;
    u32::try_from(milliwatts).ok().filter(|&milliwatts| milliwatts < 10_000_000)
}

/// The rails that together are what the board draws: the input's, else all of them.
pub(crate) fn is_input(name: &str) -> bool {
    matches!(name, "VDD_IN" | "POM_5V_IN" | "VIN")
}

/// What the whole board draws, mW; `None` where it has no monitor or one of its rails cannot be read.
pub fn total(rails: &[Rail]) -> Option<u32> {
    if rails.is_empty() {
        return None;
    }
    match rails.iter().find(|rail| is_input(&rail.name)) {
        Some(input) => input.milliwatts,
        None => rails.iter().map(|rail| rail.milliwatts).sum(),
    }
}

/// The over-current counters.
pub fn over_current(root: &Root) -> Vec<OverCurrent> {
    let mut found: Vec<OverCurrent> = Vec::new();
    for (_, folder) in root.numbered("/sys/class/hwmon", "hwmon") {
        for cause in 1..=3 {
            let count = root.number(&format!("/sys/class/hwmon/{folder}/oc{cause}_event_cnt"));
            found.extend(count.map(|count| OverCurrent { cause, count }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use testkit::board::{JetPack, Model, Tree, board};

    use super::{OverCurrent, over_current, product, read, total};
    use crate::Root;

    fn root(tree: &Tree) -> Root {
        Root::at(tree.path()).expect("a folder")
    }

    #[test]
    fn a_nanos_input_is_its_total() {
        let tree = board(Model::OrinNanoSuper, JetPack::Seven);
        let rails = read(&root(&tree));
        let names: Vec<&str> = rails.iter().map(|rail| &*rail.name).collect();
        assert_eq!(names, ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]);
        // 5.04 V · 1 A, 0.2 A and 0.3 A.
        let watts: Vec<_> = rails.iter().map(|rail| rail.milliwatts).collect();
        assert_eq!(watts, [Some(5040), Some(1008), Some(1512)]);
        assert_eq!((total(&rails), rails[0].critical_milliamperes), (Some(5040), Some(7784)));
        tree.fail("/sys/class/hwmon/hwmon1/curr1_input");
        assert_eq!(total(&read(&root(&tree))), None);
    }

    #[test]
    fn an_agx_is_the_sum_of_its_rails_and_the_class_may_be_missing() {
        let tree = board(Model::AgxOrin, JetPack::Six);
        let sum = Some(4771 + 1192 + 4572 + 607);
        assert_eq!(total(&read(&root(&tree))), sum);
        tree.remove("/sys/class/hwmon");
        assert_eq!(total(&read(&root(&tree))), sum);
    }

    #[test]
    fn iio_gives_milliwatts_itself() {
        let tree = Tree::new();
        let folder = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0";
        tree.write(&format!("{folder}/rail_name_0"), "POM_5V_IN\n");
        tree.write(&format!("{folder}/in_power0_input"), "2345\n");
        tree.write(&format!("{folder}/rail_name_1"), "POM_5V_GPU\n");
        tree.write(&format!("{folder}/in_voltage1_input"), "5000\n");
        tree.write(&format!("{folder}/in_current1_input"), "100\n");
        let rails = read(&root(&tree));
        assert_eq!((rails[1].milliwatts, total(&rails)), (Some(500), Some(2345)));
    }

    #[test]
    fn counters_say_their_cause() {
        let tree = board(Model::OrinNx16, JetPack::Six);
        tree.write("/sys/class/hwmon/hwmon7/oc3_event_cnt", "17\n");
        let counters = over_current(&root(&tree));
        assert_eq!(counters.len(), 3);
        assert_eq!(counters[2], OverCurrent { cause: 3, count: 17 });
        assert_eq!(counters[2].words(), "peak current");
    }

    #[test]
    fn misreadings_are_no_power() {
        assert_eq!(product(u32::MAX, u32::MAX), None);
        assert_eq!(product(5000, 3001), Some(15005));
    }
}
