//! Activations as kernels read them: signed bytes with one scale a block, and the sums that
//! offsets and minima of weight formats need.
//!
//! Rounding is to nearest even of x·127/max|x|, so a block's largest activation is exact.

use crate::simd::Simd;

/// 256 activations, for formats whose blocks hold 256 weights.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(crate) struct Act256 {
    pub(crate) q: [i8; 256],
    /// −32 · Σ q of each sixteen.
    pub(crate) neg32: [i32; 16],
    /// Σ q of each 32 as 64·high + low, four sums a word: what a dot product with minima takes.
    pub(crate) high32: [i32; 2],
    pub(crate) low32: [i32; 2],
    /// The same for each sixteen.
    pub(crate) high16: [i32; 4],
    pub(crate) low16: [i32; 4],
    /// One step of `q`.
    pub(crate) scale: f32,
}

/// 32 activations, for formats whose blocks hold 32 weights.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Act32 {
    pub(crate) q: [i8; 32],
    /// One step of `q`.
    pub(crate) scale: f32,
    /// Σ q.
    pub(crate) sum: i32,
}

/// The scale of a block and its inverse. A block becomes zero if its largest activation is zero, not
/// finite, or so small (below 4e-37) that the inverse is not finite.
#[inline(always)]
fn scales(largest: f32) -> (f32, f32) {
    let inverse = 127.0 / largest;
    if largest.is_finite() && inverse.is_finite() { (largest / 127.0, inverse) } else { (0.0, 0.0) }
}

/// Largest magnitude of 16·N floats.
#[inline(always)]
unsafe fn largest<V: Simd, const N: usize>(x: *const f32) -> f32 {
    // SAFETY: the caller gives 16·N floats.
    unsafe {
        let mut most = V::abs(V::load(x));
        for i in 1..N {
            most = V::max(V::abs(V::load(x.add(16 * i))), most);
        }
        V::largest(most)
    }
}

/// Rounds 16·N floats to bytes; returns the sum of each sixteen through `sums`.
#[inline(always)]
unsafe fn round<V: Simd, const N: usize>(x: *const f32, inverse: f32, q: *mut i8, sums: &mut [i32; N]) {
    // SAFETY: the caller gives 16·N floats and bytes.
    unsafe {
        let inverse = V::splat(inverse);
        let mut lanes = [0i32; 16];
        for i in 0..N {
            V::store_i(lanes.as_mut_ptr(), V::to_i(V::mul(V::load(x.add(16 * i)), inverse)));
            let mut sum = 0;
            for (j, lane) in lanes.iter().enumerate() {
                // A NaN activation rounds to i32::MIN; keep bytes in range whatever came.
                let byte = (*lane).clamp(-127, 127);
                *q.add(16 * i + j) = byte as i8;
                sum += byte;
            }
            sums[i] = sum;
        }
    }
}

fn pack4(values: [i32; 4]) -> i32 {
    i32::from_le_bytes(values.map(|v| v as i8 as u8))
}

/// Quantizes one row of a multiple of 256 floats.
///
/// # Safety
/// As [`Simd`]; `x` holds 256 floats for each of `out`.
#[inline(always)]
pub(crate) unsafe fn quantize256<V: Simd>(x: *const f32, out: &mut [Act256]) {
    for (b, act) in out.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let x = x.add(256 * b);
            let (scale, inverse) = scales(largest::<V, 16>(x));
            let mut sums = [0i32; 16];
            round::<V, 16>(x, inverse, act.q.as_mut_ptr(), &mut sums);
            act.scale = scale;
            act.neg32 = sums.map(|sum| -32 * sum);
            let split = |sum: i32| ((sum + 32) >> 6, sum - (((sum + 32) >> 6) << 6));
            for w in 0..4 {
                act.high16[w] = pack4(std::array::from_fn(|i| split(sums[4 * w + i]).0));
                act.low16[w] = pack4(std::array::from_fn(|i| split(sums[4 * w + i]).1));
            }
            for w in 0..2 {
                let sum = |i: usize| sums[8 * w + 2 * i] + sums[8 * w + 2 * i + 1];
                act.high32[w] = pack4(std::array::from_fn(|i| split(sum(i)).0));
                act.low32[w] = pack4(std::array::from_fn(|i| split(sum(i)).1));
            }
        }
    }
}

/// Quantizes one row of a multiple of 32 floats.
///
/// # Safety
/// As [`Simd`]; `x` holds 32 floats for each of `out`.
#[inline(always)]
pub(crate) unsafe fn quantize32<V: Simd>(x: *const f32, out: &mut [Act32]) {
    for (b, act) in out.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let x = x.add(32 * b);
            let (scale, inverse) = scales(largest::<V, 2>(x));
            let mut sums = [0i32; 2];
            round::<V, 2>(x, inverse, act.q.as_mut_ptr(), &mut sums);
            (act.scale, act.sum) = (scale, sums[0] + sums[1]);
        }
    }
}
