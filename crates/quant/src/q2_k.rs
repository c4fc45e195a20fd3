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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::weights_of;

    /// Sub-blocks 4 and 6 (128 h + 32 j + l with h = 0) scale by 1 and take 2 away; byte 16 + 3 holds weights 3, 35, 67, 99.
    #[test]
    fn weights_lie_where_the_table_says() {
        let weights =
            weights_of::<BYTES, 256>(decode, &[(81, 0x3c), (83, 0x3c), (4, 0x21), (6, 0x05), (19, 0xe4)]);
        let mut expected = [0.0_f32; 256];
        expected[64..80].fill(-2.0);
        (expected[67], expected[99]) = (0.0, 15.0);
        assert_eq!(weights.map(f32::to_bits), expected.map(f32::to_bits));
    }
}
