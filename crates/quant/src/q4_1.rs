//! Q4_1: 32 weights of 4 bits with a minimum, in 20 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, half float: the scale |
//! | 2..4 | `m`, half float: the smallest weight |
//! | 4..20 | byte `j`: weight `j` in the low half, weight `j + 16` in the high half |
//!
//! weight = `d * q + m`.

use half::f16;

use crate::block::{self, half_at, range, whole};

/// Bytes of a block.
pub const BYTES: usize = 20;

/// One block as codes of 0..=15 with one scale and one minimum (`-m`).
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 32], scale: &mut [f32; 1], min: &mut [f32; 1]) {
    let block: &[u8; BYTES] = whole(block);
    for j in 0..16 {
        codes[j] = (block[4 + j] & 15) as i8;
        codes[j + 16] = (block[4 + j] >> 4) as i8;
    }
    (*scale, *min) = ([half_at(block, 0)], [-half_at(block, 2)]);
}

/// Decodes whole blocks.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    block::decode::<BYTES, 32, 1>(codes, bytes, out);
}

/// Encodes whole blocks: the smallest weight becomes code 0, the largest code 15.
pub fn encode(row: &[f32], out: &mut [u8]) {
    for (row, out) in row.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        let (min, max) = range(row);
        let d = (max - min) / 15.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        out[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
        // The code is measured from the minimum before its rounding to a half float, as the oracle does.
        let code = |weight: f32| (((weight - min) * inverse + 0.5) as u8).min(15);
        for j in 0..16 {
            out[4 + j] = code(row[j]) | code(row[j + 16]) << 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::weights_of;

    /// Scale 1, minimum 2; byte 4 + 3 holds weights 3 and 19.
    #[test]
    fn weights_lie_where_the_table_says() {
        let weights = weights_of::<BYTES, 32>(decode, &[(1, 0x3c), (3, 0x40), (7, 0xf7)]);
        let mut expected = [2.0_f32; 32];
        (expected[3], expected[19]) = (9.0, 17.0);
        assert_eq!(weights.map(f32::to_bits), expected.map(f32::to_bits));
    }
}
