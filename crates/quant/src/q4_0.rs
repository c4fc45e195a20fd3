//! Q4_0: 32 weights of 4 bits, symmetrical, in 18 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, half float: the scale |
//! | 2..18 | byte `j`: weight `j` in the low half, weight `j + 16` in the high half |
//!
//! weight = `d * (q - 8)`.

use half::f16;

use crate::block::{self, half_at, largest, whole};

/// Bytes of a block.
pub const BYTES: usize = 18;

/// One block as codes of -8..=7 with one scale; the minimum is 0.
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 32], scale: &mut [f32; 1], min: &mut [f32; 1]) {
    let block: &[u8; BYTES] = whole(block);
    for j in 0..16 {
        codes[j] = (block[2 + j] & 15) as i8 - 8;
        codes[j + 16] = (block[2 + j] >> 4) as i8 - 8;
    }
    (*scale, *min) = ([half_at(block, 0)], [0.0]);
}

/// Decodes whole blocks.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    block::decode::<BYTES, 32, 1>(codes, bytes, out);
}

/// Encodes whole blocks: the weight of largest magnitude becomes code -8, exactly.
pub fn encode(row: &[f32], out: &mut [u8]) {
    for (row, out) in row.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        let largest = largest(row);
        let extreme = row.iter().copied().find(|weight| weight.abs() >= largest).unwrap_or(0.0);
        let d = extreme / -8.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        // The sum lies in 0.5..=16.5; truncation of a non-negative number rounds the code half up.
        let code = |weight: f32| ((weight * inverse + 8.5) as u8).min(15);
        for j in 0..16 {
            out[2 + j] = code(row[j]) | code(row[j + 16]) << 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::weights_of;

    /// A scale of 1; byte 2 + 3 holds weights 3 and 19.
    #[test]
    fn weights_lie_where_the_table_says() {
        let weights = weights_of::<BYTES, 32>(decode, &[(1, 0x3c), (5, 0xf7)]);
        let mut expected = [-8.0_f32; 32];
        (expected[3], expected[19]) = (-1.0, 7.0);
        assert_eq!(weights.map(f32::to_bits), expected.map(f32::to_bits));
    }
}
