//! Q2_K: 256 weights of 2 bits, 16 sub-blocks of 16 with 4-bit scales and minima, in 84 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..16 | byte `s`: scale of sub-block `s` in the low half, its minimum in the high half |
//! | 16..80 | byte `32 h + l`: bits `2 j` and `2 j + 1` are weight `128 h + 32 j + l` |
//! | 80..82 | `d`, half float: the scale of the scales |
//! | 82..84 | `dmin`, half float: the scale of the minima |
//!
//! weight = `(d * scale) * q - (dmin * min)`.

use crate::block::{self, half_at, whole};

/// Bytes of a block.
pub const BYTES: usize = 84;

/// One block as codes of 0..=3 with 16 scales and minima.
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 256], scale: &mut [f32; 16], min: &mut [f32; 16]) {
    let block: &[u8; BYTES] = whole(block);
    for h in 0..2 {
        for j in 0..4 {
            for l in 0..32 {
                codes[128 * h + 32 * j + l] = (block[16 + 32 * h + l] >> (2 * j) & 3) as i8;
            }
        }
    }
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    for s in 0..16 {
        scale[s] = d * f32::from(block[s] & 15);
        min[s] = dmin * f32::from(block[s] >> 4);
    }
}

/// Decodes whole blocks.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    block::decode::<BYTES, 256, 16>(codes, bytes, out);
}
