//! What the quantized formats share: half floats, and blocks as codes, scales and minima.

use half::f16;

/// A format's way to take one block of `N` weights in `S` sub-blocks apart.
pub(crate) type Codes<const N: usize, const S: usize> = fn(&[u8], &mut [i8; N], &mut [f32; S], &mut [f32; S]);

/// The little-endian half float at `at`.
#[inline(always)]
pub(crate) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The block as an array of its exact size, so that indexes into it are checked once.
#[inline(always)]
pub(crate) fn whole<const BYTES: usize>(block: &[u8]) -> &[u8; BYTES] {
    block.first_chunk().expect("callers pass whole blocks")
}

/// Decodes blocks of `BYTES` bytes as `scale * code - min`, f32 throughout: the oracle's order.
#[inline(always)]
pub(crate) fn decode<const BYTES: usize, const N: usize, const S: usize>(
    parts: impl Fn(&[u8], &mut [i8; N], &mut [f32; S], &mut [f32; S]),
    bytes: &[u8],
    out: &mut [f32],
) {
    let (mut codes, mut scales, mut mins) = ([0; N], [0.0; S], [0.0; S]);
    for (block, out) in bytes.chunks_exact(BYTES).zip(out.chunks_exact_mut(N)) {
        parts(block, &mut codes, &mut scales, &mut mins);
        for s in 0..S {
            let (scale, min) = (scales[s], mins[s]);
            let sub = s * (N / S)..(s + 1) * (N / S);
            for (out, &code) in out[sub.clone()].iter_mut().zip(&codes[sub]) {
                *out = scale * f32::from(code) - min;
            }
        }
    }
}

/// Where [`crate::Format::codes`] writes, while its lengths are not yet known to the compiler.
pub(crate) struct Parts<'a> {
    pub(crate) codes: &'a mut [i8],
    pub(crate) scales: &'a mut [f32],
    pub(crate) mins: &'a mut [f32],
}

impl Parts<'_> {
    pub(crate) fn fill<const N: usize, const S: usize>(self, parts: Codes<N, S>, block: &[u8]) {
        parts(
            block,
            self.codes.first_chunk_mut().expect("codes hold a block"),
            self.scales.first_chunk_mut().expect("one scale a sub-block"),
            self.mins.first_chunk_mut().expect("one minimum a sub-block"),
        );
    }
}

/// A sum of a float with this one has no bits left for a fraction: adding it and taking it away
/// rounds to the nearest integer, halves to even.
pub(crate) const ROUNDER: f32 = 12582912.0;

/// The integer nearest to `x`, halves to even, for magnitudes below 2^22; others give some integer.
#[inline(always)]
pub(crate) fn nearest(x: f32) -> i32 {
    ((x + ROUNDER).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// The largest magnitude in `row`; NaNs do not count.
#[inline(always)]
pub(crate) fn largest(row: &[f32; 32]) -> f32 {
    let keep = |max: f32, x: f32| if x > max { x } else { max };
    let mut lanes = [0.0; 8];
    for part in row.as_chunks::<8>().0 {
        for n in 0..8 {
            lanes[n] = keep(lanes[n], part[n].abs());
        }
    }
    lanes.into_iter().fold(0.0, keep)
}

/// The smallest and the largest weight of `row`; NaNs do not count.
///
/// Of zeros of both signs, the smallest is the row's first: its sign is stored.
#[inline(always)]
pub(crate) fn range(row: &[f32; 32]) -> (f32, f32) {
    let lower = |min: f32, x: f32| if x < min { x } else { min };
    let upper = |max: f32, x: f32| if x > max { x } else { max };
    let (mut low, mut high) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    for part in row.as_chunks::<8>().0 {
        for n in 0..8 {
            (low[n], high[n]) = (lower(low[n], part[n]), upper(high[n], part[n]));
        }
    }
    let low = low.into_iter().fold(f32::INFINITY, lower);
    let first = row.iter().copied().find(|&weight| weight <= low).unwrap_or(low);
    (first, high.into_iter().fold(f32::NEG_INFINITY, upper))
}

/// For the formats' tests: the weights of a block that is zero but for these bytes.
#[cfg(test)]
pub(crate) fn weights_of<const BYTES: usize, const N: usize>(
    decode: fn(&[u8], &mut [f32]),
    bytes: &[(usize, u8)],
) -> [f32; N] {
    let (mut block, mut weights) = ([0; BYTES], [f32::NAN; N]);
    for &(at, byte) in bytes {
        block[at] = byte;
    }
    decode(&block, &mut weights);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rounds_halves_to_even() {
        assert_eq!([0.5, 1.5, 2.5, -0.5, -1.5, 7.49].map(nearest), [0, 2, 2, 0, -2, 7]);
        assert_eq!(nearest(f32::NAN), 0);
    }

    #[test]
    fn largest_is_a_magnitude() {
        let mut row = [0.5; 32];
        (row[3], row[9], row[31]) = (f32::NAN, -2.0, 1.5);
        assert_eq!(largest(&row).to_bits(), 2.0_f32.to_bits());
    }

    #[test]
    fn a_range_keeps_the_sign_of_the_first_zero() {
        let mut row = [0.5; 32];
        (row[3], row[9], row[31]) = (f32::NAN, -2.0, 1.5);
        assert_eq!(range(&row), (-2.0, 1.5));
        (row[9], row[12], row[20]) = (0.5, -0.0, 0.0);
        assert!(range(&row).0.is_sign_negative());
        (row[12], row[20]) = (0.0, -0.0);
        assert!(range(&row).0.is_sign_positive());
    }
}
