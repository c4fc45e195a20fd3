//! A cache of floats: keys `[head_dim][PAGE]`, values `[PAGE][head_dim]`.
//!
//! A page costs a query head 2 · 32 · `head_dim` multiplications and additions, sixteen an instruction, and
//! half as many instructions again to load and widen, shared by the heads of the group. Sums are f32 in a
//! fixed order.

use super::Keep;
use crate::simd::Simd;
use model::runner::PAGE;
use std::ops::Range;

/// An element of the cache.
pub(crate) trait Element: Copy + 'static {
    /// Sixteen of them.
    ///
    /// # Safety
    /// As [`Simd`]; `from` holds sixteen.
    unsafe fn load<V: Simd>(from: *const Self) -> V::F;

    /// A float, rounded.
    fn from_f32(value: f32) -> Self;
}

impl Element for half::f16 {
    #[inline(always)]
    unsafe fn load<V: Simd>(from: *const Self) -> V::F {
        // SAFETY: as the trait's method.
        unsafe { V::load_f16(from.cast()) }
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        half::f16::from_f32(value)
    }
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<V: Simd>(from: *const Self) -> V::F {
        // SAFETY: as the trait's method.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
}

impl<E: Element> Keep for E {
    fn bytes(dim: usize) -> usize {
        2 * PAGE * dim * size_of::<E>()
    }

    fn scratch(_: usize) -> usize {
        0
    }

    #[inline(always)]
    unsafe fn store<V: Simd>(page: *mut u8, at: usize, key: *const f32, value: *const f32, dim: usize) {
        let keys = page.cast::<E>();
        for d in 0..dim {
            // SAFETY: inside this head's page.
            unsafe {
                *keys.add(d * PAGE + at) = E::from_f32(*key.add(d));
                *keys.add(PAGE * dim + at * dim + d) = E::from_f32(*value.add(d));
            }
        }
    }

    #[inline(always)]
    unsafe fn prepare<V: Simd>(_: *const f32, _: usize, _: usize, _: *mut u8) {}

    #[inline(always)]
    unsafe fn scores<V: Simd, const G: usize>(
        page: *const u8,
        q: *const f32,
        dim: usize,
        _: *const u8,
    ) -> [[V::F; 2]; G] {
        let keys = page.cast::<E>();
        // SAFETY: as the trait.
        unsafe {
            let mut sums = [[V::splat(0.0); 2]; G];
            for d in 0..dim {
                let (low, high) = (E::load::<V>(keys.add(d * PAGE)), E::load::<V>(keys.add(d * PAGE + 16)));
                for g in 0..G {
                    let q = V::splat(*q.add(g * dim + d));
                    sums[g] = [V::fma(low, q, sums[g][0]), V::fma(high, q, sums[g][1])];
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn mix<V: Simd, const G: usize>(
        page: *const u8,
        weights: &[[f32; PAGE]; G],
        positions: Range<usize>,
        dim: usize,
        out: *mut f32,
    ) {
        // SAFETY: as the trait; what is left over after runs of 64 and of 16 is handled one by one.
        unsafe {
            let values = page.cast::<E>().add(PAGE * dim);
            let mut d = 0;
            while d + 64 <= dim {
                columns::<V, E, G, 4>(weights, positions.clone(), values.add(d), dim, out.add(d));
                d += 64;
            }
            while d + 16 <= dim {
                columns::<V, E, G, 1>(weights, positions.clone(), values.add(d), dim, out.add(d));
                d += 16;
            }
            for d in d..dim {
                for (g, weights) in weights.iter().enumerate() {
                    let to = out.add(g * dim + d);
                    for j in positions.clone() {
                        let mut lanes = [0.0f32; 16];
                        // One element through the loader's rounding; sixteen are readable only in whole runs.
                        let mut one = [*values.add(j * dim + d); 16];
                        V::store(lanes.as_mut_ptr(), E::load::<V>(one.as_mut_ptr()));
                        *to += weights[j] * lanes[0];
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn columns<V: Simd, E: Element, const G: usize, const N: usize>(
    weights: &[[f32; PAGE]; G],
    positions: Range<usize>,
    values: *const E,
    dim: usize,
    out: *mut f32,
) {
    // SAFETY: as `attend`; 16 · N columns from `values` and `out` on.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; G];
        for g in 0..G {
            for n in 0..N {
                sums[g][n] = V::load(out.add(g * dim + 16 * n));
            }
        }
        for j in positions {
            let mut value = [V::splat(0.0); N];
            for (n, value) in value.iter_mut().enumerate() {
                *value = E::load::<V>(values.add(j * dim + 16 * n));
            }
            for g in 0..G {
                let weight = V::splat(weights[g][j]);
                for n in 0..N {
                    sums[g][n] = V::fma(value[n], weight, sums[g][n]);
                }
            }
        }
        for g in 0..G {
            for n in 0..N {
                V::store(out.add(g * dim + 16 * n), sums[g][n]);
            }
        }
    }
}
