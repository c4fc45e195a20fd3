//! Q6_K, 3360 bytes: planes of the low four bits, the upper two bits, scales, d.
//!
//! | at | |
//! |---|---|
//! | 256 s + 16 row | low four bits, as the planes of Q4_K |
//! | 2048 + 512 c + 16 L | words 2 (j − 2c) and 2 (j − 2c) + 1 of sub-block 2j + p, j = 2c and 2c + 1; bits 2t and 2t + 1 of byte i: column 4t + i in the first, column 16 + 4t + i in the second |
//! | 3072 + 8 L | int8: byte 2j: the scale of columns 0..15 of sub-block 2j + p, byte 2j + 1: of its columns 16..31 |
//! | 3328 + 2 row | d, half float |
//!
//! L = 16 p + row.
//!
//! weight = `(d · scale) · (q − 32)`.

use super::{COLS, ROWS, exchange, half, nibble, planes, store, word, words};
use quant::q6_k::BYTES as BLOCK;

/// Bytes of a tile.
pub(super) const BYTES: usize = 3360;

const UPPER: usize = 2048;
const SCALES: usize = 3072;
const FACTORS: usize = 3328;

/// A block has the upper bits of one column of four sub-blocks in a byte; a tile those of four columns of one
/// sub-block. Word `t` of `bits` is columns `4t .. 4t + 4`; word `k` of the result is the `k`-th sub-block.
#[inline(always)]
fn transposed(bits: &[u8]) -> [u32; 4] {
    let [mut x0, mut x1, mut x2, mut x3] = [0, 4, 8, 12].map(|at| word(bits, at));
    exchange(&mut x0, &mut x2, 4, 0x0f0f_0f0f);
    exchange(&mut x1, &mut x3, 4, 0x0f0f_0f0f);
    exchange(&mut x0, &mut x1, 2, 0x3333_3333);
    exchange(&mut x2, &mut x3, 2, 0x3333_3333);
    [x0, x1, x2, x3]
}

#[inline(always)]
pub(super) fn put(block: &[u8; BLOCK], row: usize, tile: &mut [u8; BYTES]) {
    assert!(row < ROWS, "a row of the tile");
    for c in 0..2 {
        let (codes, upper) = (&block[64 * c..64 * c + 64], &block[128 + 32 * c..128 + 32 * c + 32]);
        for (k, codes) in codes.as_chunks().0.iter().enumerate() {
            let (low, high) = planes(codes);
            store(tile, 256 * (4 * c + k) + 16 * row, low);
            store(tile, 256 * (4 * c + k + 2) + 16 * row, high);
        }
        let (first, second) = (transposed(&upper[..16]), transposed(&upper[16..]));
        for p in 0..2 {
            let lane = words([first[p], second[p], first[p + 2], second[p + 2]]);
            store(tile, UPPER + 512 * c + 256 * p + 16 * row, lane);
        }
    }
    for p in 0..2 {
        let to = &mut tile[SCALES + 128 * p + 8 * row..][..8];
        for j in 0..4 {
            to[2 * j..2 * j + 2].copy_from_slice(&block[192 + 4 * j + 2 * p..][..2]);
        }
    }
    tile[FACTORS + 2 * row..][..2].copy_from_slice(&block[208..]);
}

pub(super) fn get(tile: &[u8; BYTES], row: usize, out: &mut [f32; COLS]) {
    let d = half(tile, FACTORS + 2 * row);
    for (s, out) in out.chunks_exact_mut(32).enumerate() {
        let (j, p) = (s / 2, s % 2);
        let scales = &tile[SCALES + 128 * p + 8 * row + 2 * j..][..2];
        let upper = &tile[UPPER + 512 * (j / 2) + 256 * p + 16 * row + 8 * (j % 2)..][..8];
        for (col, out) in out.iter_mut().enumerate() {
            let (h, t, i) = (col / 16, col % 16 / 4, col % 4);
            let q = nibble(tile, 256 * s + 16 * row, col) | (upper[4 * h + i] >> (2 * t) & 3) << 4;
            *out = d * f32::from(scales[h] as i8) * f32::from(q as i8 - 32);
        }
    }
}
