//! Q5_K: 256 weights of 5 bits, 8 sub-blocks of 32 with 6-bit scales and minima, in 176 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, half float: the scale of the scales |
//! | 2..4 | `dmin`, half float: the scale of the minima |
//! | 4..16 | 8 scales and 8 minima of 6 bits, see [`crate::q4_k::scales`] |
//! | 16..48 | byte `l`: bit `s` is bit 4 of weight `32 s + l` |
//! | 48..176 | byte `32 p + l`: weight `64 p + l` in the low half, weight `64 p + 32 + l` in the high half |
//!
//! weight = `(d * scale) * q - (dmin * min)`.

use crate::block::{self, whole};
use crate::k_search::{self, Search};
use crate::q4_k::float_scales;

/// Bytes of a block.
pub const BYTES: usize = 176;

/// One block as codes of 0..=31 with 8 scales and minima.
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 256], scale: &mut [f32; 8], min: &mut [f32; 8]) {
    let block: &[u8; BYTES] = whole(block);
    for p in 0..4 {
        for l in 0..32 {
            let (low, high) = (block[48 + 32 * p + l], block[16 + l] >> (2 * p));
            codes[64 * p + l] = (low & 15 | (high & 1) << 4) as i8;
            codes[64 * p + 32 + l] = (low >> 4 | (high & 2) << 3) as i8;
        }
    }
    float_scales(block, scale, min);
}

/// Decodes whole blocks.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    block::decode::<BYTES, 256, 8>(codes, bytes, out);
}

/// Encodes whole blocks.
pub fn encode(row: &[f32], out: &mut [u8]) {
    const SEARCH: Search = Search { top: 31.0, first: -0.5, steps: 15 };
    for (row, out) in row.as_chunks::<256>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        let (header, codes) = k_search::encode(row, SEARCH);
        out[..16].copy_from_slice(&header);
        out[16..48].fill(0);
        for p in 0..4 {
            for l in 0..32 {
                let (even, odd) = (codes[64 * p + l], codes[64 * p + 32 + l]);
                out[16 + l] |= (even >> 4 | odd >> 4 << 1) << (2 * p);
                out[48 + 32 * p + l] = even & 15 | odd << 4;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::weights_of;

    /// Sub-block 5 scales by 1 and takes 2 away; weight 163 lies in byte 48 + 32 * 2 + 3 and bit 5 of byte 16 + 3.
    #[test]
    fn weights_lie_where_the_table_says() {
        let weights =
            weights_of::<BYTES, 256>(decode, &[(1, 0x3c), (3, 0x3c), (13, 0x21), (115, 0xf0), (19, 0x20)]);
        let mut expected = [0.0_f32; 256];
        expected[160..192].fill(-2.0);
        expected[163] = 29.0;
        assert_eq!(weights.map(f32::to_bits), expected.map(f32::to_bits));
    }
}
