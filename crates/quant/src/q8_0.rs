//! Q8_0: 32 weights of 8 bits in 34 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, half float: the scale |
//! | 2..34 | byte `i`: weight `i`, signed |
//!
//! weight = `d * q`.

use half::f16;

use crate::block::{self, half_at, largest, whole};

/// Bytes of a block.
pub const BYTES: usize = 34;

/// One block as codes of -128..=127 with one scale; the minimum is 0.
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 32], scale: &mut [f32; 1], min: &mut [f32; 1]) {
    let block: &[u8; BYTES] = whole(block);
    for i in 0..32 {
        codes[i] = block[2 + i] as i8;
    }
    (*scale, *min) = ([half_at(block, 0)], [0.0]);
}

/// Decodes whole blocks.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    block::decode::<BYTES, 32, 1>(codes, bytes, out);
}

/// Encodes whole blocks: the largest magnitude becomes code 127 or -127.
pub fn encode(row: &[f32], out: &mut [u8]) {
    for (row, out) in row.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        let d = largest(row) / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        for i in 0..32 {
            // The oracle rounds halves away from zero.
            out[2 + i] = (row[i] * inverse).round() as i8 as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::weights_of;

    /// A scale of 1; byte 2 + 3 is weight 3.
    #[test]
    fn weights_lie_where_the_table_says() {
        let weights = weights_of::<BYTES, 32>(decode, &[(1, 0x3c), (5, 0x80)]);
        let mut expected = [0.0_f32; 32];
        expected[3] = -128.0;
        assert_eq!(weights.map(f32::to_bits), expected.map(f32::to_bits));
    }

    #[test]
    fn halves_round_away_from_zero() {
        let mut row = [0.0; 32];
        (row[0], row[1], row[2], row[3]) = (127.0, 0.5, -2.5, 0.499);
        let mut block = [0; BYTES];
        encode(&row, &mut block);
        assert_eq!(block[2..6].iter().map(|&q| q as i8).collect::<Vec<_>>(), [127, 1, -3, 0]);
    }
}
