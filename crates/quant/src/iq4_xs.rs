//! IQ4_XS: 256 weights of 4 bits through a table, 8 sub-blocks of 32 with 6-bit scales, in 136 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, half float: the scale of the scales |
//! | 2..4 | little-endian word: bits `2 s` and `2 s + 1` are bits 4..6 of scale `s` |
//! | 4..8 | byte `s / 2`: bits 0..4 of scale `s`, in the low half for even `s`, else in the high half |
//! | 8..136 | byte `16 s + j`: index of weight `32 s + j` in the low half, of weight `32 s + 16 + j` in the high half |
//!
//! weight = `(d * (scale - 32)) * VALUES[index]` with the table of [`crate::iq4_nl`].

use crate::block::{self, half_at, whole};
use crate::iq4_nl::VALUES;

/// Bytes of a block.
pub const BYTES: usize = 136;

/// One block as table values with 8 scales, which may be negative; the minima are 0.
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 256], scale: &mut [f32; 8], min: &mut [f32; 8]) {
    let block: &[u8; BYTES] = whole(block);
    let d = half_at(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    for s in 0..8 {
        let low = block[4 + s / 2] >> (4 * (s % 2)) & 15;
        let high = (high >> (2 * s) & 3) as u8;
        scale[s] = d * f32::from((low | high << 4) as i8 - 32);
        for j in 0..16 {
            codes[32 * s + j] = VALUES[(block[8 + 16 * s + j] & 15) as usize];
            codes[32 * s + 16 + j] = VALUES[(block[8 + 16 * s + j] >> 4) as usize];
        }
    }
    *min = [0.0; 8];
}

/// Decodes whole blocks.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    block::decode::<BYTES, 256, 8>(codes, bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::weights_of;

    /// Scale 5 is 33 - 32, all others are -32; byte 8 + 16 * 5 + 3 holds weights 163 and 179.
    #[test]
    fn weights_lie_where_the_table_says() {
        let weights = weights_of::<BYTES, 256>(decode, &[(1, 0x3c), (6, 0x10), (3, 0x08), (91, 0xf7)]);
        let mut expected = [4064.0_f32; 256];
        expected[160..192].fill(-127.0);
        (expected[163], expected[179]) = (-10.0, 113.0);
        assert_eq!(weights.map(f32::to_bits), expected.map(f32::to_bits));
    }
}
