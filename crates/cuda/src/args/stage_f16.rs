//! Mirror of `kernels/stage_f16.cu`.

use super::common::{Address, Source};
use crate::driver::{Args, Launch};
use crate::tile::COLS;

/// Argument of `stage_f16`: rows of a source as halves in the order of the prefill products.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageF16Args {
    /// Widths and strides are multiples of 4; `x_out` is written if it is not null.
    pub source: Source,
    /// u32 `[rows]`: rows of the source to take; null: all, in order.
    pub select: Address,
    /// f16 `[rows][to_stride]`, columns permuted within 32, zero up to a multiple of 256.
    pub to: Address,
    /// f32 `[rows][h_stride]`: the same values before they become halves; or null.
    pub h: Address,
    /// Halves from one row to the next; at least [`StageF16Args::stride`] of the width.
    pub to_stride: u32,
    /// Floats from one row of `h` to the next; a multiple of 4.
    pub h_stride: u32,
}

// SAFETY: field by field the structure of the kernel; whoever fills in addresses answers for them.
unsafe impl Args for StageF16Args {}

impl StageF16Args {
    /// The kernel's name.
    pub const KERNEL: &str = "stage_f16";

    /// Halves of a row of `cols` columns: a multiple of 256.
    pub fn stride(cols: usize) -> usize {
        cols.next_multiple_of(COLS)
    }

    /// Where column `col` lies in a row of halves.
    pub fn place(col: usize) -> usize {
        let (inside, t) = (col % 32, col % 16 / 4);
        let (half, odd, second) = (inside / 16, inside % 2, inside % 4 / 2);
        col - inside + 16 * half + 8 * odd + 2 * t + second
    }

    /// The launch for `rows` rows.
    pub fn launch(rows: usize) -> Launch {
        Launch { grid: [rows as u32, 1, 1], threads: 256, shared_bytes: 64, overlap: true }
    }
}
