//! Everything a machine says about itself at one moment.

use serde::{Deserialize, Serialize};

use crate::Root;
use crate::board::Board;
use crate::clocks::{self, Core, Emc, Gpu};
use crate::devices::{Fan, NvMap};
use crate::groups::{self, Group};
use crate::memory::Memory;
use crate::nvpmodel::PowerMode;
use crate::pressure::Pressure;
use crate::rails::{self, OverCurrent, Rail};
use crate::thermal::{self, Zone};

/// All readings. What a machine lacks is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Readings {
    /// Identity.
    pub board: Board,
    /// Power modes.
    pub power_mode: PowerMode,
    /// Memory and swap.
    pub memory: Memory,
    /// Memory control groups, innermost first.
    pub groups: Vec<Group>,
    /// Waiting for memory, processors and disks.
    pub pressure: Pressure,
    /// Temperatures.
    pub zones: Vec<Zone>,
    /// Power.
    pub rails: Vec<Rail>,
    /// Times current or voltage cut the clocks.
    pub over_current: Vec<OverCurrent>,
    /// The GPU's clock and load.
    pub gpu: Gpu,
    /// The memory's clock.
    pub emc: Emc,
    /// Cores.
    pub cores: Vec<Core>,
    /// The fan.
    pub fan: Fan,
    /// Memory of the GPU.
    pub nvmap: NvMap,
}

impl Readings {
    /// Reads all of it: some hundred small files, about a millisecond. For what is asked for while tokens
    /// are made see [`crate::Sensors`].
    pub fn take(root: &Root) -> Readings {
        Readings {
            board: Board::read(root),
            power_mode: PowerMode::read(root),
            memory: Memory::read(root),
            groups: groups::read(root),
            pressure: Pressure::read(root),
            zones: thermal::read(root),
            rails: rails::read(root),
            over_current: rails::over_current(root),
            gpu: Gpu::read(root),
            emc: Emc::read(root),
            cores: clocks::cores(root),
            fan: Fan::read(root),
            nvmap: NvMap::read(root),
        }
    }

    /// The hottest zone of the chip: its type and °C.
    pub fn hottest(&self) -> Option<(&str, f32)> {
        thermal::hottest(&self.zones)
    }

    /// What the board draws, W.
    pub fn watts(&self) -> Option<f32> {
        rails::total(&self.rails).map(|milliwatts| milliwatts as f32 / 1000.0)
    }

    /// Where the board itself begins to slow down: the lowest such trip point of the chip's zones, °C.
    pub fn throttle(&self) -> Option<f32> {
        let chip = self.zones.iter().filter(|zone| zone.is_chip());
        chip.filter_map(|zone| zone.throttle).min_by(f32::total_cmp)
    }

    /// The highest GPU clock of the mode that is on, Hz: the mode's own, else the hardware's.
    pub fn mode_gpu_hz(&self) -> Option<u64> {
        let mode = self.power_mode.current()?;
        match (mode.gpu_hz, self.gpu.hardware_hz) {
            (Some(mode), Some(hardware)) => Some(mode.min(hardware)),
            (one, other) => one.or(other),
        }
    }
}
