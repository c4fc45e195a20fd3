//! Floats as two signed bytes, for byte dot products that lose next to nothing.
//!
//! x ≈ scale · n with scale = max|x| / 16256 and n = 128 · high + low an integer: |high| ≤ 127, |low| ≤ 64. An
//! element is off by half a step at most, max|x| · 2⁻¹⁵. Products with integer codes are exact until they
//! become floats: Σ high · c and Σ low · c, each below 2²⁴ for heads narrower than 1024, then 128 times one
//! plus the other.

use crate::simd::Simd;

/// The largest n.
const MOST: f32 = 127.0 * 128.0;

/// Step and its inverse for numbers up to `largest`. Smaller than anything that matters is 0.
#[inline(always)]
pub(super) fn steps(largest: f32) -> (f32, f32) {
    if largest > 1e-30 { (largest / MOST, MOST / largest) } else { (largest * 0.0, 0.0) }
}

/// High and low part of sixteen numbers, and n itself.
#[inline(always)]
pub(super) unsafe fn split<V: Simd>(x: V::F, inverse: f32) -> (V::I, V::I, V::F) {
    // SAFETY: lanes only; see `Simd`.
    unsafe {
        let n = V::to_f(V::to_i(V::mul(x, V::splat(inverse))));
        let high = V::to_i(V::mul(n, V::splat(1.0 / 128.0)));
        let low = V::to_i(V::sub(n, V::mul(V::to_f(high), V::splat(128.0))));
        (high, low, n)
    }
}

/// 128 · high + low.
#[inline(always)]
pub(super) unsafe fn join<V: Simd>(high: V::I, low: V::I) -> V::F {
    // SAFETY: lanes only; see `Simd`.
    unsafe { V::fma(V::to_f(high), V::splat(128.0), V::to_f(low)) }
}

/// What [`Simd::dot_s`] wants its accumulators to start with, for activations that sum to `sum`.
#[inline(always)]
pub(super) unsafe fn bias<V: Simd>(sum: V::I) -> i32 {
    if V::SIGNED_BIAS == 0 {
        return 0;
    }
    // SAFETY: lanes only; see `Simd`. The sums are far below 2²⁴.
    unsafe { V::SIGNED_BIAS * V::sum(V::to_f(sum)) as i32 }
}

/// The weights of a page's 32 values in two bytes.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    /// Four positions a word.
    pub(super) high: [i32; 8],
    pub(super) low: [i32; 8],
    pub(super) scale: f32,
    /// What accumulators of signed codes start with.
    pub(super) high_bias: i32,
    pub(super) low_bias: i32,
}

impl Weights {
    pub(super) const NONE: Weights =
        Weights { high: [0; 8], low: [0; 8], scale: 0.0, high_bias: 0, low_bias: 0 };

    #[inline(always)]
    pub(super) unsafe fn of<V: Simd>(weights: [V::F; 2]) -> Weights {
        let mut out = Weights::NONE;
        // SAFETY: arrays of the sizes named.
        unsafe {
            let most = V::largest(V::max(V::abs(weights[0]), V::abs(weights[1])));
            let (scale, inverse) = steps(most);
            let (a, b) = (split::<V>(weights[0], inverse), split::<V>(weights[1], inverse));
            V::store_low(out.high.as_mut_ptr().cast(), a.0);
            V::store_low(out.high.as_mut_ptr().cast::<u8>().add(16), b.0);
            V::store_low(out.low.as_mut_ptr().cast(), a.1);
            V::store_low(out.low.as_mut_ptr().cast::<u8>().add(16), b.1);
            out.scale = scale;
            out.high_bias = bias::<V>(V::add_i(a.0, b.0));
            out.low_bias = bias::<V>(V::add_i(a.1, b.1));
        }
        out
    }
}

/// Where a prepared query lies in the scratch: what it starts with, then its bytes.
#[derive(Clone, Copy)]
pub(super) struct Query {
    at: *mut u8,
    /// Bytes of each part: `head_dim`, in whole sixteens.
    part: usize,
    groups: usize,
}

/// What a prepared query starts with.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) scale: f32,
    pub(super) high_bias: i32,
    pub(super) low_bias: i32,
}

impl Query {
    /// Bytes of a prepared query.
    pub(super) fn bytes(dim: usize) -> usize {
        let groups = dim.div_ceil(32).next_multiple_of(4);
        size_of::<Head>() + 4 * groups + 2 * dim.next_multiple_of(16)
    }

    /// Of head `g`, in scratch of [`Query::bytes`] a head.
    #[inline(always)]
    pub(super) unsafe fn of(scratch: *mut u8, g: usize, dim: usize) -> Query {
        let (part, groups) = (dim.next_multiple_of(16), dim.div_ceil(32).next_multiple_of(4));
        // SAFETY: the caller's scratch holds `g + 1` queries.
        Query { at: unsafe { scratch.add(g * Query::bytes(dim)) }, part, groups }
    }

    #[inline(always)]
    pub(super) unsafe fn head(self) -> Head {
        // SAFETY: the scratch is aligned to 16 and so are all sizes.
        unsafe { self.at.cast::<Head>().read() }
    }

    /// Σ n of each 32 dimensions.
    #[inline(always)]
    pub(super) fn sums(self) -> *mut f32 {
        self.at.wrapping_add(size_of::<Head>()).cast()
    }

    /// High bytes, four dimensions a word; 0 beyond the last.
    #[inline(always)]
    pub(super) fn high(self) -> *mut i32 {
        self.sums().wrapping_add(self.groups).cast()
    }

    #[inline(always)]
    pub(super) fn low(self) -> *mut i32 {
        self.high().wrapping_add(self.part / 4)
    }

    /// Rounds a query of `dim` floats. One with what is not finite becomes NaN.
    #[inline(always)]
    pub(super) unsafe fn fill<V: Simd>(self, q: *const f32, dim: usize) {
        // SAFETY: the query is `dim` long, this place as `bytes` says.
        unsafe {
            let mut most = V::splat(0.0);
            for d in (0..dim).step_by(16) {
                most = V::max(V::abs(super::load_some::<V>(q.add(d), dim - d)), most);
            }
            let (scale, inverse) = steps(V::largest(most));
            let (mut highs, mut lows, mut sum) = (V::splat_i(0), V::splat_i(0), V::splat(0.0));
            for d in (0..dim).step_by(16) {
                let (high, low, n) = split::<V>(super::load_some::<V>(q.add(d), dim - d), inverse);
                V::store_low(self.high().cast::<u8>().add(d), high);
                V::store_low(self.low().cast::<u8>().add(d), low);
                (highs, lows) = (V::add_i(highs, high), V::add_i(lows, low));
                sum = if d % 32 == 0 { n } else { V::add(sum, n) };
                *self.sums().add(d / 32) = V::sum(sum);
            }
            let (high_bias, low_bias) = (bias::<V>(highs), bias::<V>(lows));
            self.at.cast::<Head>().write(Head { scale, high_bias, low_bias });
        }
    }
}
