//! F16, 8192 bytes: planes of eight half floats.
//!
//! | at | 16 bytes of row `row` |
//! |---|---|
//! | 1024 s + 256 t + 16 row | columns 4t, 4t + 2, 4t + 1, 4t + 3, 16 + 4t, 16 + 4t + 2, 16 + 4t + 1, 16 + 4t + 3 of sub-block s |
//!
//! This is the order in which the nibbles of word t become pairs of half floats: those of the other formats
//! and these multiply the same permuted activations.

use super::{COLS, ROWS, half, store};

/// Bytes of a tile.
pub(super) const BYTES: usize = 8192;

/// Bytes of 256 columns of a row.
pub(super) const STRETCH: usize = 512;

/// Which of columns 0..4 and 16..20 lies at which place.
const ORDER: [usize; 8] = [0, 2, 1, 3, 16, 18, 17, 19];

#[inline(always)]
pub(super) fn put(stretch: &[u8; STRETCH], row: usize, tile: &mut [u8; BYTES]) {
    assert!(row < ROWS, "a row of the tile");
    for (s, halves) in stretch.as_chunks::<64>().0.iter().enumerate() {
        let halves = halves.as_chunks::<2>().0;
        for t in 0..4 {
            let mut bytes = [0; 16];
            for (to, from) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(ORDER) {
                *to = halves[4 * t + from];
            }
            store(tile, 1024 * s + 256 * t + 16 * row, bytes);
        }
    }
}

pub(super) fn get(tile: &[u8; BYTES], row: usize, out: &mut [f32; COLS]) {
    for (s, out) in out.chunks_exact_mut(32).enumerate() {
        for t in 0..4 {
            for (place, col) in ORDER.into_iter().enumerate() {
                out[4 * t + col] = half(tile, 1024 * s + 256 * t + 16 * row + 2 * place);
            }
        }
    }
}
