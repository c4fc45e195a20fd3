//! Mirrors of `kernels/common.cuh`, field by field.

use crate::tile::{COLS, ROWS, TileFormat};

/// An address on the device; 0 is null.
pub type Address = u64;

/// A matrix of tiles: `[row_tiles][col_tiles]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    /// First tile, 256-byte aligned.
    pub tiles: Address,
    /// Outputs.
    pub rows: u32,
    /// Inputs.
    pub cols: u32,
    /// Sixteen rows each.
    pub row_tiles: u32,
    /// 256 columns each.
    pub col_tiles: u32,
    /// [`TileFormat::id`].
    pub format: u32,
    /// Padding.
    pub unused: u32,
}

impl Matrix {
    /// The matrix of `rows` × `cols` whose tiles begin at `tiles`.
    pub fn new(tiles: Address, rows: usize, cols: usize, format: TileFormat) -> Matrix {
        Matrix {
            tiles,
            rows: rows as u32,
            cols: cols as u32,
            row_tiles: rows.div_ceil(ROWS) as u32,
            col_tiles: cols.div_ceil(COLS) as u32,
            format: format.id(),
            unused: 0,
        }
    }
}

/// One product: `to[row of the step][row of the matrix] = matrix · input + bias`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// What is multiplied.
    pub matrix: Matrix,
    /// f32 `[rows]` or null.
    pub bias: Address,
    /// f32 `[step rows][stride]`.
    pub to: Address,
    /// Floats from one row of the step to the next.
    pub stride: u32,
    /// Padding.
    pub unused: u32,
}

/// What happens to a product before it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Epilogue {
    /// to = product.
    #[default]
    Store = 0,
    /// to += product.
    Add = 1,
    /// Outputs 0 and 1 are gate and up: to of output 0 = silu(gate) · up.
    GateSilu = 2,
    /// The same with the tanh form of GELU.
    GateGelu = 3,
    /// to = cap · tanh(product / cap).
    Cap = 4,
}

/// The input of a product: x, or x + o, or x + rms(o) · post, then its norm if there is one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Source {
    /// f32 `[step rows][stride]`.
    pub x: Address,
    /// Null: x alone.
    pub o: Address,
    /// f32 `[cols]`; null: o as it is.
    pub post: Address,
    /// f32 `[cols]`; null: not normalised.
    pub norm: Address,
    /// Where x + o goes, or null; never x itself.
    pub x_out: Address,
    /// Width of a row.
    pub cols: u32,
    /// Floats from one row of the step to the next.
    pub stride: u32,
    /// Of both norms.
    pub eps: f32,
    /// Padding.
    pub unused: u32,
}
