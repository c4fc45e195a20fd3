//! Q8_0, 4352 bytes: headers, then sixteen planes of bytes.
//!
//! | at | 16 bytes of row `row` |
//! |---|---|
//! | 16 row | half floats: number 4p + j is d of sub-block 2j + p |
//! | 256 + 512 s + 256 h + 16 row | int8: columns 16h .. 16h + 15 of sub-block s |
//!
//! weight = `d · q`.

use super::{COLS, ROWS, half};
use quant::q8_0::BYTES as BLOCK;

/// Bytes of a tile.
pub(super) const BYTES: usize = 4352;

/// Bytes of 256 columns of a row.
pub(super) const STRETCH: usize = 8 * BLOCK;

const PLANES: usize = 256;

/// Where in a tile the half float of a row's sub-block lies; Q4_0 has the same header.
#[inline(always)]
pub(super) fn factor(row: usize, s: usize) -> usize {
    16 * row + 8 * (s % 2) + 2 * (s / 2)
}

#[inline(always)]
pub(super) fn put(stretch: &[u8; STRETCH], row: usize, tile: &mut [u8; BYTES]) {
    assert!(row < ROWS, "a row of the tile");
    for (s, block) in stretch.as_chunks::<BLOCK>().0.iter().enumerate() {
        tile[factor(row, s)..][..2].copy_from_slice(&block[..2]);
        tile[PLANES + 512 * s + 16 * row..][..16].copy_from_slice(&block[2..18]);
        tile[PLANES + 512 * s + 256 + 16 * row..][..16].copy_from_slice(&block[18..]);
    }
}

pub(super) fn get(tile: &[u8; BYTES], row: usize, out: &mut [f32; COLS]) {
    for (s, out) in out.chunks_exact_mut(32).enumerate() {
        let d = half(tile, factor(row, s));
        for (col, out) in out.iter_mut().enumerate() {
            let q = tile[PLANES + 512 * s + 256 * (col / 16) + 16 * row + col % 16] as i8;
            *out = d * f32::from(q);
        }
    }
}
