//! Q5_K, 2816 bytes: as Q4_K, then the fifth bits.
//!
//! | at | 16 bytes |
//! |---|---|
//! | 16 row, 256 + 256 s + 16 row | header and low four bits as in [`super::q4_k`] |
//! | 2304 + 16 L | word j: sub-block 2j + p; bit t of byte i: column 4t + i, bit 4 + t: column 16 + 4t + i |
//!
//! L = 16 p + row. So `word >> t & 0x01010101` and `word >> (4 + t) & 0x01010101` are the fifth bits of word
//! t's low and high nibbles.
//!
//! weight = `(d · scale) · q − (dmin · min)`.

use super::{COLS, ROWS, exchange, nibble, planes, q4_k, store, word, words};
use quant::q5_k::BYTES as BLOCK;

/// Bytes of a tile.
pub(super) const BYTES: usize = 2816;

/// Where the fifth bits start.
const FIFTH: usize = 2304;

/// A block has the fifth bits of one column of all sub-blocks in a byte; a tile those of eight columns of one
/// sub-block. Word `f` holds columns `4f .. 4f + 4`; word `s` of the result is sub-block `s`.
#[inline(always)]
fn transposed(bits: &[u8; 32]) -> [u32; 8] {
    let [mut a, mut b] = [0, 16].map(|at| [0, 4, 8, 12].map(|f| word(bits, at + f)));
    for f in 0..4 {
        exchange(&mut a[f], &mut b[f], 4, 0x0f0f_0f0f);
    }
    for half in [&mut a, &mut b] {
        let [x0, x1, x2, x3] = half;
        exchange(x0, x2, 2, 0x3333_3333);
        exchange(x1, x3, 2, 0x3333_3333);
        exchange(x0, x1, 1, 0x5555_5555);
        exchange(x2, x3, 1, 0x5555_5555);
    }
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]
}

#[inline(always)]
pub(super) fn put(block: &[u8; BLOCK], row: usize, tile: &mut [u8; BYTES]) {
    assert!(row < ROWS, "a row of the tile");
    store(tile, 16 * row, q4_k::header(block));
    for (j, codes) in block[48..].as_chunks().0.iter().enumerate() {
        let (low, high) = planes(codes);
        store(tile, q4_k::PLANES + 512 * j + 16 * row, low);
        store(tile, q4_k::PLANES + 512 * j + 256 + 16 * row, high);
    }
    let fifth = transposed(block[16..].first_chunk().expect("a block has 32 bytes of fifth bits"));
    store(tile, FIFTH + 16 * row, words([0, 2, 4, 6].map(|s| fifth[s])));
    store(tile, FIFTH + 256 + 16 * row, words([1, 3, 5, 7].map(|s| fifth[s])));
}

pub(super) fn get(tile: &[u8; BYTES], row: usize, out: &mut [f32; COLS]) {
    for (s, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = q4_k::scale(&tile[16 * row..], s);
        let fifth = &tile[FIFTH + 256 * (s % 2) + 16 * row + 4 * (s / 2)..];
        for (col, out) in out.iter_mut().enumerate() {
            let low = nibble(tile, q4_k::PLANES + 256 * s + 16 * row, col);
            *out = scale * f32::from(low | (fifth[col % 4] >> (col / 4) & 1) << 4) - min;
        }
    }
}
