//! Mirror of `kernels/stage8.cu`: the input of products of 2 to 8 rows.

use super::common::{Address, Source};
use crate::driver::{Args, Launch};
use crate::tile::COLS;

/// Bytes of a column tile of input for formats of integers.
const RECORD: usize = 5120;

/// Bytes of half a column tile of input for F16.
const HALVES_RECORD: usize = 4224;

/// Warps of a block; one writes a column tile.
const WARPS: u32 = 8;

/// Rows a record has, whatever the step has.
const ROWS: u32 = 8;

/// Argument of `stage8`: norm(x + o) of up to eight rows in the order of tensor cores.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stage8Args {
    /// The rows. `x_out` and `normed` are as wide and lie as far apart.
    pub source: Source,
    /// u32 `[rows]`: which row of x and o is row n of the output; null: row n. Not together with `x_out`.
    pub select: Address,
    /// [`bytes`] of memory, 16-byte aligned, or null.
    pub bytes: Address,
    /// [`halves`] of memory, 16-byte aligned, or null.
    pub halves: Address,
    /// f32 `[rows][stride]`: the rows as floats too, or null.
    pub normed: Address,
    /// Rows of the step, 1 to 8.
    pub rows: u32,
    /// 256 columns each.
    pub col_tiles: u32,
}

// SAFETY: field by field the structure of the kernel; whoever fills in addresses answers for them.
unsafe impl Args for Stage8Args {}

impl Stage8Args {
    /// `rows` rows of a source.
    pub fn new(source: Source, rows: usize) -> Stage8Args {
        let col_tiles = source.cols.div_ceil(COLS as u32);
        Stage8Args { source, rows: rows as u32, col_tiles, ..Stage8Args::default() }
    }

    /// Its launch: a warp a column tile and row.
    pub fn launch(&self) -> Launch {
        let parts = self.col_tiles.div_ceil(WARPS);
        Launch { grid: [ROWS, parts, 1], threads: WARPS * 32, shared_bytes: WARPS * 4, overlap: true }
    }
}

/// Memory of the input of integer formats.
pub fn bytes(cols: usize) -> usize {
    cols.div_ceil(COLS) * RECORD
}

/// Memory of the input of F16.
pub fn halves(cols: usize) -> usize {
    cols.div_ceil(COLS) * 2 * HALVES_RECORD
}
