//! Q4_K, 2304 bytes: headers, then eight planes of nibbles.
//!
//! | at | 16 bytes of row `row` |
//! |---|---|
//! | 16 row | word 0: d, dmin (half floats) · word 1: scales and upper bits of the minima of even sub-blocks · word 2: of odd ones · word 3: lower bits of the minima |
//! | 256 + 256 s + 16 row | byte 4t + i: column 4t + i of sub-block s in the low half, column 16 + 4t + i in the high half |
//!
//! Byte j of word 1 + p: `scale(2j + p) | (min(2j + p) >> 4) << 6`. Byte j of word 3:
//! `min(2j) & 15 | (min(2j + 1) & 15) << 4`. So a lane takes its four scales with one mask and its four
//! minima with three operations.
//!
//! weight = `(d · scale) · q − (dmin · min)`.

use super::{COLS, ROWS, half, nibble, planes, store, word, words};
use quant::q4_k::BYTES as BLOCK;

/// Bytes of a tile.
pub(super) const BYTES: usize = 2304;

/// Where the planes start.
pub(super) const PLANES: usize = 256;

/// The bytes 0, 2, 4 and 6 of `x`.
#[inline(always)]
fn even(x: u64) -> u32 {
    let x = x & 0x00ff_00ff_00ff_00ff;
    let x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

/// The first 16 bytes of a block of Q4_K or Q5_K as a row's header.
#[inline(always)]
pub(super) fn header(block: &[u8]) -> [u8; 16] {
    // Bytes of these words: scales 0..4, minima 0..4, and the lower bits of both of 4..8 in halves; the top
    // two bits of the first two are the upper bits of 4..8.
    let (a, b, c) = (word(block, 4), word(block, 8), word(block, 12));
    let scales = (a & 0x3f3f_3f3f) as u64 | ((c & 0x0f0f_0f0f | a >> 2 & 0x3030_3030) as u64) << 32;
    let mins = (b & 0x3f3f_3f3f) as u64 | ((c >> 4 & 0x0f0f_0f0f | b >> 2 & 0x3030_3030) as u64) << 32;
    let first = scales | (mins & 0x3030_3030_3030_3030) << 2;
    let low = mins & 0x0f0f_0f0f_0f0f_0f0f;
    words([word(block, 0), even(first), even(first >> 8), even(low) | even(low >> 8) << 4])
}

/// Scale and minimum of sub-block `s`, and the factors of both, from a row's header.
pub(super) fn scale(header: &[u8], s: usize) -> (f32, f32) {
    let (j, p) = (s / 2, s % 2);
    let first = header[4 + 4 * p + j];
    let min = first >> 6 << 4 | header[12 + j] >> (4 * p) & 15;
    (half(header, 0) * f32::from(first & 63), half(header, 2) * f32::from(min))
}

#[inline(always)]
pub(super) fn put(block: &[u8; BLOCK], row: usize, tile: &mut [u8; BYTES]) {
    assert!(row < ROWS, "a row of the tile");
    store(tile, 16 * row, header(block));
    for (j, codes) in block[16..].as_chunks().0.iter().enumerate() {
        let (low, high) = planes(codes);
        store(tile, PLANES + 512 * j + 16 * row, low);
        store(tile, PLANES + 512 * j + 256 + 16 * row, high);
    }
}

pub(super) fn get(tile: &[u8; BYTES], row: usize, out: &mut [f32; COLS]) {
    for (s, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale(&tile[16 * row..], s);
        for (col, out) in out.iter_mut().enumerate() {
            *out = scale * f32::from(nibble(tile, PLANES + 256 * s + 16 * row, col)) - min;
        }
    }
}
