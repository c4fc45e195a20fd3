//! Weights rearranged: sixteen rows side by side, one lane each.
//!
//! A matrix is cut into row tiles of sixteen rows, a row tile into tiles of one block's width (256 or
//! 32 columns). A *quad* is four consecutive columns of sixteen rows: 64 bytes, row `r`'s four at
//! `4r`. That is what one byte-dot-product instruction eats against four activations that are the same
//! for all lanes, so lanes are summed never, and a row's result does not depend on how many
//! activations are multiplied at once.
//!
//! In memory a row tile is all its tiles' heads (scales), then all its tiles' codes; together as many
//! bytes as the sixteen rows have in the file. The last row tile is padded with zero rows.

mod floats;
mod k256;
mod kernel;
mod q32;
mod row;

pub(crate) use floats::{Bf16, F16, F32, Float};
pub(crate) use k256::{Iq4Xs, Q2K, Q3K, Q4K, Q5K, Q6K};
pub(crate) use kernel::{Scratch, TOKENS, float_product, product32, product256};
pub(crate) use q32::{Iq4Nl, Mxfp4, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub(crate) use row::{decode_float_row, decode_row, pack_rows};

use crate::simd::Simd;

/// Rows of a row tile.
pub(crate) const ROWS: usize = 16;

/// How one quantized format lies in tiles.
///
/// Weight = d · (scale · (code − offset)) − dmin · min, with integer scale and min a sub-block.
pub(crate) trait Tile: 'static {
    /// Columns: 256 or 32.
    const COLS: usize;
    /// Columns that share scale and min.
    const SUB: usize;
    /// Bytes of scales a tile.
    const HEAD: usize;
    /// Bytes of codes a tile.
    const CODES: usize;
    /// Codes are signed bytes; else unsigned and below 128.
    const SIGNED: bool;
    /// Subtracted from every code.
    const OFFSET: i32;
    /// There are minima.
    const MINS: bool;

    /// Rearranges one block of each of sixteen rows.
    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]);

    /// Quads `16·chunk ..` of the tile (eight of them if `COLS` is 32).
    ///
    /// # Safety
    /// As [`Simd`]; `codes` is a tile's.
    unsafe fn unpack<V: Simd>(codes: *const u8, chunk: usize, out: &mut [V::B; 16]);

    /// Integer scales, one a sub-block; ones if there are none.
    ///
    /// # Safety
    /// As [`Simd`]; `head` is a tile's.
    #[inline(always)]
    unsafe fn scales<V: Simd>(_head: *const u8, _out: &mut [V::I; 16]) {}

    /// Integer minima (0..=127), four sub-blocks a word in the order of quads.
    ///
    /// # Safety
    /// As [`Simd`]; `head` is a tile's.
    #[inline(always)]
    unsafe fn mins<V: Simd>(_head: *const u8, _out: &mut [V::B; 4]) {}

    /// The factor of each row.
    ///
    /// # Safety
    /// As [`Simd`]; `head` is a tile's.
    unsafe fn d<V: Simd>(head: *const u8) -> V::F;

    /// The factor of each row's minima.
    ///
    /// # Safety
    /// As [`Simd`]; `head` is a tile's.
    #[inline(always)]
    unsafe fn dmin<V: Simd>(_head: *const u8) -> V::F {
        // SAFETY: as the method.
        unsafe { V::splat(0.0) }
    }
}

/// The two bytes at `at` of every row's block, side by side.
fn gather_half(blocks: &[&[u8]; ROWS], at: usize, head: &mut [u8]) {
    for (row, block) in blocks.iter().enumerate() {
        head[2 * row..2 * row + 2].copy_from_slice(&block[at..at + 2]);
    }
}

/// Spreads `code(row, column)` over quads: quad `q` byte `4·row + j` is column `4q + j`.
fn quad_byte(quad: usize, byte: usize) -> (usize, usize) {
    (byte / 4, 4 * quad + byte % 4)
}

#[cfg(test)]
pub(crate) mod tests;
