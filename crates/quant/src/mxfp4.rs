//! MXFP4: 32 weights of 4-bit floats (E2M1) with a shared exponent (E8M0), in 17 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0 | `e`: the scale is 2^(`e` - 127) |
//! | 1..17 | byte `j`: weight `j` in the low half, weight `j + 16` in the high half |
//!
//! weight = `2^(e - 128) * VALUES[q]`: the table holds doubled values so that they are integers.
//! The exponent 255, which OCP's Microscaling specification calls NaN, is an ordinary power here,
//! as in ggml.

use crate::block::{self, whole};

/// Bytes of a block.
pub const BYTES: usize = 17;

/// Twice the value of each 4-bit float: one sign bit, two of exponent, one of mantissa.
pub const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 2^(`e` - 128), which is subnormal for `e` below 2.
#[inline]
fn half_scale(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (u32::from(e) - 1) << 23 })
}

/// One block as doubled values with one halved scale; the minimum is 0.
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 32], scale: &mut [f32; 1], min: &mut [f32; 1]) {
    let block: &[u8; BYTES] = whole(block);
    for j in 0..16 {
        codes[j] = VALUES[(block[1 + j] & 15) as usize];
        codes[j + 16] = VALUES[(block[1 + j] >> 4) as usize];
    }
    (*scale, *min) = ([half_scale(block[0])], [0.0]);
}

/// Decodes whole blocks.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    block::decode::<BYTES, 32, 1>(codes, bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::weights_of;

    /// The exponent of a halved scale of 1; byte 1 + 3 holds weights 3 and 19.
    #[test]
    fn weights_lie_where_the_table_says() {
        let weights = weights_of::<BYTES, 32>(decode, &[(0, 0x80), (4, 0xf7)]);
        let mut expected = [0.0_f32; 32];
        (expected[3], expected[19]) = (12.0, -12.0);
        assert_eq!(weights.map(f32::to_bits), expected.map(f32::to_bits));
    }

    #[test]
    fn every_exponent_is_a_power_of_two() {
        for e in 0..=255 {
            assert_eq!(f64::from(half_scale(e)).to_bits(), 2.0_f64.powi(i32::from(e) - 128).to_bits());
        }
    }
}
