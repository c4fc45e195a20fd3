//! Q6_K: 256 weights of 6 bits, symmetrical, 16 sub-blocks of 16 with 8-bit scales, in 210 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..128 | byte `64 h + 32 k + l`: low 4 bits of weight `128 h + 32 k + l` in the low half, of weight `128 h + 32 k + 64 + l` in the high half |
//! | 128..192 | byte `32 h + l`: bits `2 j` and `2 j + 1` are the upper bits of weight `128 h + 32 j + l` |
//! | 192..208 | byte `s`: scale of sub-block `s`, signed |
//! | 208..210 | `d`, half float: the scale of the scales |
//!
//! weight = `(d * scale) * (q - 32)`.

use crate::block::{self, half_at, whole};

/// Bytes of a block.
pub const BYTES: usize = 210;

/// One block as codes of -32..=31 with 16 scales, which may be negative; the minima are 0.
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 256], scale: &mut [f32; 16], min: &mut [f32; 16]) {
    let block: &[u8; BYTES] = whole(block);
    for h in 0..2 {
        for j in 0..4 {
            for l in 0..32 {
                let low = block[64 * h + 32 * (j % 2) + l] >> (4 * (j / 2)) & 15;
                let high = block[128 + 32 * h + l] >> (2 * j) & 3;
                codes[128 * h + 32 * j + l] = (low | high << 4) as i8 - 32;
            }
        }
    }
    let d = half_at(block, 208);
    for s in 0..16 {
        scale[s] = d * f32::from(block[192 + s] as i8);
    }
    *min = [0.0; 16];
}

/// Decodes whole blocks.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    block::decode::<BYTES, 256, 16>(codes, bytes, out);
}
