//! Q4_0, 2304 bytes: headers as in [`super::q8_0`], then eight planes of nibbles.
//!
//! | at | 16 bytes of row `row` |
//! |---|---|
//! | 16 row | half floats: number 4p + j is d of sub-block 2j + p |
//! | 256 + 256 s + 16 row | byte 4t + i: column 4t + i of sub-block s in the low half, column 16 + 4t + i in the high half: the file's own order |
//!
//! weight = `d · (q − 8)`.

use super::q8_0::factor;
use super::{COLS, ROWS, half, nibble};
use quant::q4_0::BYTES as BLOCK;

/// Bytes of a tile.
pub(super) const BYTES: usize = 2304;

/// Bytes of 256 columns of a row.
const STRETCH: usize = 8 * BLOCK;

const PLANES: usize = 256;

#[inline(always)]
pub(super) fn put(stretch: &[u8; STRETCH], row: usize, tile: &mut [u8; BYTES]) {
    assert!(row < ROWS, "a row of the tile");
    for (s, block) in stretch.as_chunks::<BLOCK>().0.iter().enumerate() {
        tile[factor(row, s)..][..2].copy_from_slice(&block[..2]);
        tile[PLANES + 256 * s + 16 * row..][..16].copy_from_slice(&block[2..]);
    }
}

pub(super) fn get(tile: &[u8; BYTES], row: usize, out: &mut [f32; COLS]) {
    for (s, out) in out.chunks_exact_mut(32).enumerate() {
        let d = half(tile, factor(row, s));
        for (col, out) in out.iter_mut().enumerate() {
            *out = d * f32::from(nibble(tile, PLANES + 256 * s + 16 * row, col) as i8 - 8);
        }
    }
}
