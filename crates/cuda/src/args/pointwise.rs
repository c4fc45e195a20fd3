//! Mirrors of `kernels/pointwise.cu`. Widths are multiples of 4.

use super::common::Address;
use crate::driver::{Args, Launch};

/// Argument of `rms_norm`: to = x / rms(x) · weight.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NormArgs {
    /// f32 `[rows][cols]`.
    pub x: Address,
    /// f32 `[cols]`.
    pub weight: Address,
    /// f32 `[rows][cols]`; may be `x`.
    pub to: Address,
    /// Width of a row.
    pub cols: u32,
    /// Added to the mean square.
    pub eps: f32,
}

/// Argument of `residual`: x += o, or x += o / rms(o) · post.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ResidualArgs {
    /// f32 `[rows][cols]`.
    pub x: Address,
    /// f32 `[rows][cols]`.
    pub o: Address,
    /// f32 `[cols]`, or null.
    pub post: Address,
    /// Width of a row.
    pub cols: u32,
    /// Added to the mean square.
    pub eps: f32,
}

/// Argument of `gate`: to = activation(gate) · up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GateArgs {
    /// f32 `[rows][cols]`.
    pub gate: Address,
    /// f32 `[rows][cols]`.
    pub up: Address,
    /// f32 `[rows][cols]`; may be either.
    pub to: Address,
    /// Width of a row.
    pub cols: u32,
    /// Rows.
    pub rows: u32,
    /// [`super::common::Epilogue::GateSilu`] or [`super::common::Epilogue::GateGelu`].
    pub activation: u32,
    /// Padding.
    pub unused: u32,
}

/// Argument of `select_rows`: to\[j\] = from\[select\[j\]\], for one or two buffers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SelectArgs {
    /// f32 `[rows][cols]` each; the second may be null.
    pub from: [Address; 2],
    /// f32 `[count][cols]` each; may be `from`.
    pub to: [Address; 2],
    /// u32 `[count]`, strictly rising.
    pub select: Address,
    /// Widths of the rows.
    pub cols: [u32; 2],
    /// Rows that stay.
    pub count: u32,
    /// Padding.
    pub unused: u32,
}

// SAFETY: field by field the structure of the kernel; whoever fills in addresses answers for them.
unsafe impl Args for NormArgs {}
// SAFETY: the same.
unsafe impl Args for ResidualArgs {}
// SAFETY: the same.
unsafe impl Args for GateArgs {}
// SAFETY: the same.
unsafe impl Args for SelectArgs {}

/// Threads of each of these kernels.
const THREADS: u32 = 256;

/// A block a row, which sums over eight warps.
fn by_rows(rows: usize) -> Launch {
    Launch { grid: [rows as u32, 1, 1], threads: THREADS, shared_bytes: 32, overlap: true }
}

impl NormArgs {
    /// The kernel's name.
    pub const KERNEL: &str = "rms_norm";

    /// The launch for `rows` rows.
    pub fn launch(rows: usize) -> Launch {
        by_rows(rows)
    }
}

impl ResidualArgs {
    /// The kernel's name.
    pub const KERNEL: &str = "residual";

    /// The launch for `rows` rows.
    pub fn launch(rows: usize) -> Launch {
        by_rows(rows)
    }
}

impl GateArgs {
    /// The kernel's name.
    pub const KERNEL: &str = "gate";

    /// The launch on a device of `sms` multiprocessors.
    pub fn launch(&self, sms: u32) -> Launch {
        let blocks = (self.rows as u64 * self.cols as u64).div_ceil(4 * THREADS as u64);
        let grid = blocks.clamp(1, 8 * sms as u64) as u32;
        Launch { grid: [grid, 1, 1], threads: THREADS, shared_bytes: 0, overlap: true }
    }
}

impl SelectArgs {
    /// The kernel's name.
    pub const KERNEL: &str = "select_rows";

    /// The launch.
    pub fn launch(&self) -> Launch {
        let buffers = if self.from[1] == 0 { 1 } else { 2 };
        let widest = self.cols[0].max(self.cols[buffers as usize - 1]);
        let grid = [widest.div_ceil(4 * THREADS), buffers, 1];
        Launch { grid, threads: THREADS, shared_bytes: 0, overlap: true }
    }
}
