//! IQ4_NL: 32 weights of 4 bits through a table, in 18 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, half float: the scale |
//! | 2..18 | byte `j`: index of weight `j` in the low half, of weight `j + 16` in the high half |
//!
//! weight = `d * VALUES[index]`.

use crate::block::{self, half_at, whole};

/// Bytes of a block.
pub const BYTES: usize = 18;

/// The values 4-bit indexes stand for; denser near zero, where most weights are.
pub const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// One block as table values with one scale; the minimum is 0.
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 32], scale: &mut [f32; 1], min: &mut [f32; 1]) {
    let block: &[u8; BYTES] = whole(block);
    for j in 0..16 {
        codes[j] = VALUES[(block[2 + j] & 15) as usize];
        codes[j + 16] = VALUES[(block[2 + j] >> 4) as usize];
    }
    (*scale, *min) = ([half_at(block, 0)], [0.0]);
}

/// Decodes whole blocks.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    block::decode::<BYTES, 32, 1>(codes, bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::weights_of;

    /// A scale of 1; byte 2 + 3 holds weights 3 and 19.
    #[test]
    fn weights_lie_where_the_table_says() {
        let weights = weights_of::<BYTES, 32>(decode, &[(1, 0x3c), (5, 0xf7)]);
        let mut expected = [-127.0_f32; 32];
        (expected[3], expected[19]) = (-10.0, 113.0);
        assert_eq!(weights.map(f32::to_bits), expected.map(f32::to_bits));
    }
}
