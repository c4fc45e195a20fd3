//! Q6_K: 256 weights of 6 bits, symmetrical, 16 sub-blocks of 16 with 8-bit scales, in 210 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..128 | byte `64 h + 32 k + l`: low 4 bits of weight `128 h + 32 k + l` in the low half, of weight `128 h + 32 k + 64 + l` in the high half |
//! | 128..192 | byte `32 h + l`: bits `2 j` and `2 j + 1` are the upper bits of weight `128 h + 32 j + l` |
//! | 192..208 | byte `s`: scale of sub-block `s`, signed |
//! | 208..210 | `d`, half float: the scale of the scales |
//!
//! weight = `(d * scale) * (q - 32)`.

use std::array::from_fn;

use half::f16;

use crate::block::{self, ROUNDER, half_at, nearest, whole};

/// Bytes of a block.
pub const BYTES: usize = 210;

/// One block as codes of -32..=31 with 16 scales, which may be negative; the minima are 0.
#[inline]
pub fn codes(block: &[u8], codes: &mut [i8; 256], scale: &mut [f32; 16], min: &mut [f32; 16]) {
    let block: &[u8; BYTES] = whole(block);
    for h in 0..2 {
        for j in 0..4 {
            for l in 0..32 {
                let low = block[64 * h + 32 * (j % 2) + l] >> (4 * (j / 2)) & 15;
                let high = block[128 + 32 * h + l] >> (2 * j) & 3;
                codes[128 * h + 32 * j + l] = (low | high << 4) as i8 - 32;
            }
        }
    }
    let d = half_at(block, 208);
    for s in 0..16 {
        scale[s] = d * f32::from(block[192 + s] as i8);
    }
    *min = [0.0; 16];
}

/// Decodes whole blocks.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    block::decode::<BYTES, 256, 16>(codes, bytes, out);
}

/// A scale below this counts as zero.
const NO_SCALE: f32 = 1e-15;

/// One float of each of the 16 sub-blocks.
type Lanes = [f32; 16];

/// The scales of 16 sub-blocks and the codes (0..=63) they were chosen with.
///
/// For each sub-block, codes are tried for slightly different largest codes; for each, the scale
/// follows by least squares weighted with `x * x`, and the one explaining most stays. This is the
/// search of ggml's reference quantizer, operation for operation, so the bytes agree with it: sums
/// run over a sub-block in its order, and the sub-blocks are the lanes of the vectors.
fn search(row: &[f32; 256]) -> (Lanes, [u8; 256]) {
    let x: [Lanes; 16] = from_fn(|i| from_fn(|s| row[16 * s + i]));
    let (mut largest, mut extreme) = ([0.0; 16], [0.0; 16]);
    for x in &x {
        for s in 0..16 {
            if x[s].abs() > largest[s] {
                (largest[s], extreme[s]) = (x[s].abs(), x[s]);
            }
        }
    }
    let (mut scale, mut best, mut stretch) = ([0.0; 16], [0.0; 16], [0.0; 16]);
    for step in STEPS {
        let tried: Lanes = from_fn(|s| -(32.0 + 0.1 * step) / extreme[s]);
        let (mut sum_xl, mut sum_l2) = ([0.0; 16], [0.0; 16]);
        for x in &x {
            for s in 0..16 {
                let code = signed_code(tried[s] * x[s]);
                let weight = x[s] * x[s];
                sum_xl[s] += weight * x[s] * code;
                sum_l2[s] += weight * code * code;
            }
        }
        for s in 0..16 {
            let better = sum_l2[s] > 0.0 && sum_xl[s] * sum_xl[s] > best[s] * sum_l2[s];
            if step == 0.0 || better {
                scale[s] = if sum_l2[s] == 0.0 { 0.0 } else { sum_xl[s] / sum_l2[s] };
                best[s] = scale[s] * sum_xl[s];
                stretch[s] = tried[s];
            }
        }
    }
    let mut codes = [0; 256];
    for s in 0..16 {
        if largest[s] < NO_SCALE {
            scale[s] = 0.0;
        } else {
            for i in 0..16 {
                codes[16 * s + i] = (signed_code(stretch[s] * x[i][s]) + 32.0) as u8;
            }
        }
    }
    (scale, codes)
}

/// By how many tenths of a code the largest code is moved; the unmoved one is tried first.
const STEPS: [f32; 19] =
    [0.0, -9.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];

/// The code nearest to `at`, within -32..=31.
#[inline(always)]
fn signed_code(at: f32) -> f32 {
    let code = (at + ROUNDER) - ROUNDER;
    let code = if code > -32.0 { code } else { -32.0 };
    if code < 31.0 { code } else { 31.0 }
}

/// Encodes whole blocks.
pub fn encode(row: &[f32], out: &mut [u8]) {
    for (row, out) in row.as_chunks::<256>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        let (scales, mut codes) = search(row);
        let max = scales.iter().fold(0.0_f32, |max, &x| if x.abs() > max.abs() { x } else { max });
        if max.abs() < NO_SCALE {
            out.fill(0);
            continue;
        }
        let inverse = -128.0 / max;
        let d = f16::from_f32(1.0 / inverse);
        out[208..].copy_from_slice(&d.to_le_bytes());
        for s in 0..16 {
            let scale = nearest(inverse * scales[s]).clamp(-128, 127);
            out[192 + s] = scale as i8 as u8;
            // The codes are chosen anew for the scale as it will be read.
            let scale = d.to_f32() * scale as f32;
            if scale != 0.0 {
                for i in 16 * s..16 * s + 16 {
                    codes[i] = (nearest(row[i] / scale).clamp(-32, 31) + 32) as u8;
                }
            }
        }
        for h in 0..2 {
            let code = |j: usize, l: usize| codes[128 * h + 32 * j + l];
            for l in 0..32 {
                out[64 * h + l] = code(0, l) & 15 | code(2, l) << 4;
                out[64 * h + 32 + l] = code(1, l) & 15 | code(3, l) << 4;
                out[128 + 32 * h + l] =
                    code(0, l) >> 4 | code(1, l) >> 4 << 2 | code(2, l) >> 4 << 4 | code(3, l) >> 4 << 6;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::weights_of;

    /// Sub-block 9 scales by 2; weight 147 lies in bytes 64 + 19 and 128 + 32 + 19.
    #[test]
    fn weights_lie_where_the_table_says() {
        let weights = weights_of::<BYTES, 256>(decode, &[(209, 0x3c), (201, 0x02), (83, 0x0f), (179, 0x03)]);
        let mut expected = [-0.0_f32; 256];
        expected[144..160].fill(-64.0);
        expected[147] = 62.0;
        assert_eq!(weights.map(f32::to_bits), expected.map(f32::to_bits));
    }
}
