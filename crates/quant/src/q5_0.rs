//! Q5_0: 32 weights of 5 bits, symmetrical, in 22 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, half float: the scale |
//! | 2..6 | little-endian word: bit `i` is bit 4 of weight `i` |
//! | 6..22 | byte `j`: weight `j` in the low half, weight `j + 16` in the high half |
//!
//! weight = `d * (q - 16)`.

use half::f16;

use crate::block::{self, half_at, largest, whole};

/// Bytes of a block.
pub const BYTES: usize = 22;

/// One block as codes of -16..=15 with one scale; the minimum is 0.
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 32], scale: &mut [f32; 1], min: &mut [f32; 1]) {
    let block: &[u8; BYTES] = whole(block);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for j in 0..16 {
        let bit = |i: usize| ((high >> i) as u8 & 1) << 4;
        codes[j] = (block[6 + j] & 15 | bit(j)) as i8 - 16;
        codes[j + 16] = (block[6 + j] >> 4 | bit(j + 16)) as i8 - 16;
    }
    (*scale, *min) = ([half_at(block, 0)], [0.0]);
}

/// Decodes whole blocks.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    block::decode::<BYTES, 32, 1>(codes, bytes, out);
}

/// Encodes whole blocks: the weight of largest magnitude becomes code -16, exactly.
pub fn encode(row: &[f32], out: &mut [u8]) {
    for (row, out) in row.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        let largest = largest(row);
        let extreme = row.iter().copied().find(|weight| weight.abs() >= largest).unwrap_or(0.0);
        let d = extreme / -16.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        // The sum lies in 0.5..=32.5; truncation of a non-negative number rounds the code half up.
        let codes = row.map(|weight| ((weight * inverse + 16.5) as u8).min(31));
        let mut high = 0;
        for j in 0..16 {
            out[6 + j] = codes[j] & 15 | codes[j + 16] << 4;
            high |= u32::from(codes[j] >> 4) << j | u32::from(codes[j + 16] >> 4) << (j + 16);
        }
        out[2..6].copy_from_slice(&high.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::weights_of;

    /// A scale of 1; bits 3 and 19 of the word belong to weights 3 and 19.
    #[test]
    fn weights_lie_where_the_table_says() {
        let weights = weights_of::<BYTES, 32>(decode, &[(1, 0x3c), (2, 0x08), (4, 0x08), (9, 0xf7)]);
        let mut expected = [-16.0_f32; 32];
        (expected[3], expected[19]) = (7.0, 15.0);
        assert_eq!(weights.map(f32::to_bits), expected.map(f32::to_bits));
    }
}
