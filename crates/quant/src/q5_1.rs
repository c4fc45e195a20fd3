//! Q5_1: 32 weights of 5 bits with a minimum, in 24 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, half float: the scale |
//! | 2..4 | `m`, half float: the smallest weight |
//! | 4..8 | little-endian word: bit `i` is bit 4 of weight `i` |
//! | 8..24 | byte `j`: weight `j` in the low half, weight `j + 16` in the high half |
//!
//! weight = `d * q + m`.

use half::f16;

use crate::block::{self, half_at, range, whole};

/// Bytes of a block.
pub const BYTES: usize = 24;

/// One block as codes of 0..=31 with one scale and one minimum (`-m`).
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 32], scale: &mut [f32; 1], min: &mut [f32; 1]) {
    let block: &[u8; BYTES] = whole(block);
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for j in 0..16 {
        let bit = |i: usize| ((high >> i) as u8 & 1) << 4;
        codes[j] = (block[8 + j] & 15 | bit(j)) as i8;
        codes[j + 16] = (block[8 + j] >> 4 | bit(j + 16)) as i8;
    }
    (*scale, *min) = ([half_at(block, 0)], [-half_at(block, 2)]);
}

/// Decodes whole blocks.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    block::decode::<BYTES, 32, 1>(codes, bytes, out);
}

/// Encodes whole blocks: the smallest weight becomes code 0, the largest code 31.
pub fn encode(row: &[f32], out: &mut [u8]) {
    for (row, out) in row.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        let (min, max) = range(row);
        let d = (max - min) / 31.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        out[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
        // The code is measured from the minimum before its rounding to a half float, as the oracle does.
        let code = |weight: f32| (((weight - min) * inverse + 0.5) as u8).min(31);
        let codes = row.map(code);
        let mut high = 0;
        for j in 0..16 {
            out[8 + j] = codes[j] & 15 | codes[j + 16] << 4;
            high |= u32::from(codes[j] >> 4) << j | u32::from(codes[j + 16] >> 4) << (j + 16);
        }
        out[4..8].copy_from_slice(&high.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::weights_of;

    /// Scale 1, minimum 2; bits 3 and 19 of the word belong to weights 3 and 19.
    #[test]
    fn weights_lie_where_the_table_says() {
        let weights =
            weights_of::<BYTES, 32>(decode, &[(1, 0x3c), (3, 0x40), (4, 0x08), (6, 0x08), (11, 0xf7)]);
        let mut expected = [2.0_f32; 32];
        (expected[3], expected[19]) = (25.0, 33.0);
        assert_eq!(weights.map(f32::to_bits), expected.map(f32::to_bits));
    }
}
