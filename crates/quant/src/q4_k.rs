//! Q4_K: 256 weights of 4 bits, 8 sub-blocks of 32 with 6-bit scales and minima, in 144 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, half float: the scale of the scales |
//! | 2..4 | `dmin`, half float: the scale of the minima |
//! | 4..16 | 8 scales and 8 minima of 6 bits, see [`scales`] |
//! | 16..144 | byte `32 p + l`: weight `64 p + l` in the low half, weight `64 p + 32 + l` in the high half |
//!
//! weight = `(d * scale) * q - (dmin * min)`.

use crate::block::{self, half_at, whole};
use crate::k_search::{self, Search};

/// Bytes of a block.
pub const BYTES: usize = 144;

/// The 6-bit scales and minima of Q4_K and Q5_K, unpacked.
///
/// Byte `s < 4` holds scale `s` in its low 6 bits, byte `4 + s` minimum `s`. For sub-block
/// `4 + s`, byte `8 + s` holds the low 4 bits of the scale (low half) and of the minimum (high
/// half), whose upper 2 bits are the top bits of bytes `s` and `4 + s`.
#[inline]
pub fn scales(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scale, mut min) = ([0; 8], [0; 8]);
    for s in 0..4 {
        scale[s] = packed[s] & 63;
        min[s] = packed[4 + s] & 63;
        scale[4 + s] = packed[8 + s] & 15 | packed[s] >> 6 << 4;
        min[4 + s] = packed[8 + s] >> 4 | packed[4 + s] >> 6 << 4;
    }
    (scale, min)
}

/// The inverse of [`scales`]; bits above the sixth are dropped.
#[inline]
pub fn pack_scales(scale: &[u8; 8], min: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for s in 0..4 {
        packed[s] = scale[s] & 63 | scale[4 + s] >> 4 << 6;
        packed[4 + s] = min[s] & 63 | min[4 + s] >> 4 << 6;
        packed[8 + s] = scale[4 + s] & 15 | min[4 + s] << 4;
    }
    packed
}

/// The scales and minima of a block of Q4_K or Q5_K as floats.
#[inline(always)]
pub(crate) fn float_scales(block: &[u8], scale: &mut [f32; 8], min: &mut [f32; 8]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, mins) = scales(whole(&block[4..]));
    for s in 0..8 {
        scale[s] = d * f32::from(scales[s]);
        min[s] = dmin * f32::from(mins[s]);
    }
}

/// One block as codes of 0..=15 with 8 scales and minima.
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 256], scale: &mut [f32; 8], min: &mut [f32; 8]) {
    let block: &[u8; BYTES] = whole(block);
    for p in 0..4 {
        for l in 0..32 {
            codes[64 * p + l] = (block[16 + 32 * p + l] & 15) as i8;
            codes[64 * p + 32 + l] = (block[16 + 32 * p + l] >> 4) as i8;
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
    const SEARCH: Search = Search { top: 15.0, first: -1.0, steps: 20 };
    for (row, out) in row.as_chunks::<256>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        let (header, codes) = k_search::encode(row, SEARCH);
        out[..16].copy_from_slice(&header);
        for p in 0..4 {
            for l in 0..32 {
                out[16 + 32 * p + l] = codes[64 * p + l] | codes[64 * p + 32 + l] << 4;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::weights_of;

    /// Sub-block 5 scales by 1 and takes 2 away; weight 163 lies in byte 16 + 32 * 2 + 3.
    #[test]
    fn weights_lie_where_the_table_says() {
        let weights = weights_of::<BYTES, 256>(decode, &[(1, 0x3c), (3, 0x3c), (13, 0x21), (83, 0xf0)]);
        let mut expected = [0.0_f32; 256];
        expected[160..192].fill(-2.0);
        expected[163] = 13.0;
        assert_eq!(weights.map(f32::to_bits), expected.map(f32::to_bits));
    }
}
