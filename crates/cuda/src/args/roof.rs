//! Mirrors of `kernels/roof.cu`: reading and nothing else, and taking time and nothing else.

use super::common::Address;
use crate::driver::{Args, Launch};

/// Argument of `roof`: sums of 32-bit words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoofArgs {
    /// u32 `[count][4]`, 16-byte aligned.
    pub from: Address,
    /// u32 `[blocks]`\[[`RoofArgs::WARPS`]\]: what each warp's words add up to, modulo 2^32.
    pub sums: Address,
    /// Of sixteen bytes each.
    pub count: u64,
}

/// Argument of `hold`: one warp that multiplies `turns` times.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldArgs {
    /// Where the last number goes, or null.
    pub to: Address,
    /// Multiplications, each waiting for the one before: at least 4 clocks.
    pub turns: u32,
    /// The first number.
    pub seed: u32,
}

// SAFETY: field by field the structure of the kernel; whoever fills in addresses answers for them.
unsafe impl Args for RoofArgs {}
// SAFETY: the same.
unsafe impl Args for HoldArgs {}

impl RoofArgs {
    /// The kernel's name.
    pub const KERNEL: &str = "roof";

    /// Warps of a block.
    pub const WARPS: u32 = 16;

    /// The launch that fills a device of `sms` multiprocessors.
    pub fn launch(sms: u32) -> Launch {
        Launch { grid: [2 * sms, 1, 1], threads: 32 * RoofArgs::WARPS, shared_bytes: 0, overlap: false }
    }
}

impl HoldArgs {
    /// The kernel's name.
    pub const KERNEL: &str = "hold";

    /// The launch.
    pub const LAUNCH: Launch = Launch { grid: [1, 1, 1], threads: 32, shared_bytes: 0, overlap: false };

    /// At least `nanos` nanoseconds on a device of this clock, at most 20 ms or so.
    pub fn lasting(nanos: u64, clock_khz: u32) -> HoldArgs {
        let clocks = nanos.min(20_000_000) * u64::from(clock_khz) / 1_000_000;
        HoldArgs { to: 0, turns: (clocks / 4) as u32, seed: 1 }
    }
}
