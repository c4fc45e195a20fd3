//! Q3_K: 256 weights of 3 bits, symmetrical, 16 sub-blocks of 16 with 6-bit scales, in 110 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..32 | byte `l`: bit `4 h + j` is bit 2 of weight `128 h + 32 j + l` |
//! | 32..96 | byte `32 h + l`: bits `2 j` and `2 j + 1` are the low bits of weight `128 h + 32 j + l` |
//! | 96..104 | byte `s % 8`: bits 0..4 of scale `s`, in the low half for `s < 8`, else in the high half |
//! | 104..108 | byte `s % 4`: bits 4..6 of scale `s`, at bit `2 (s / 4)` |
//! | 108..110 | `d`, half float: the scale of the scales |
//!
//! weight = `(d * (scale - 32)) * (q - 4)`.

use crate::block::{self, half_at, whole};

/// Bytes of a block.
pub const BYTES: usize = 110;

/// One block as codes of -4..=3 with 16 scales, which may be negative; the minima are 0.
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 256], scale: &mut [f32; 16], min: &mut [f32; 16]) {
    let block: &[u8; BYTES] = whole(block);
    for h in 0..2 {
        for j in 0..4 {
            for l in 0..32 {
                let low = block[32 + 32 * h + l] >> (2 * j) & 3;
                let high = block[l] >> (4 * h + j) & 1;
                codes[128 * h + 32 * j + l] = (low | high << 2) as i8 - 4;
            }
        }
    }
    let d = half_at(block, 108);
    for s in 0..16 {
        let low = block[96 + s % 8] >> (4 * (s / 8)) & 15;
        let high = block[104 + s % 4] >> (2 * (s / 4)) & 3;
        scale[s] = d * f32::from((low | high << 4) as i8 - 32);
    }
    *min = [0.0; 16];
}

/// Decodes whole blocks.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    block::decode::<BYTES, 256, 16>(codes, bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::weights_of;

    /// Scale 5 is 33 - 32, all others are -32; weight 80 alone has its high bit.
    #[test]
    fn weights_lie_where_the_table_says() {
        let weights = weights_of::<BYTES, 256>(
            decode,
            &[(109, 0x3c), (101, 0x01), (105, 0x08), (48, 0x30), (16, 0x04)],
        );
        let mut expected = [128.0_f32; 256];
        expected[80..96].fill(-4.0);
        expected[80] = 3.0;
        assert_eq!(weights.map(f32::to_bits), expected.map(f32::to_bits));
    }
}
