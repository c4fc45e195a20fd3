//! A cache of bytes with a scale a head, as [`model::kv`] defines it.
//!
//! A head's page: keys `[dim / 4][PAGE][4]`, so that a byte dot product takes four dimensions of sixteen
//! positions at once; 32 scales of keys (F16); values `[PAGE / 4][dim][4]`, four positions of sixteen dimensions;
//! 32 scales of values. Dimensions are padded with zeros, of keys to fours and of values to sixteens.
//!
//! Queries, and softmax weights times the values' scales, are taken in two bytes (see `two_bytes`: off by 2⁻¹⁵ of
//! the largest, where a code is off by 2⁻⁸), so a page costs a query head 2 · 2 · 32 · dim byte multiplications,
//! 64 an instruction: a quarter of the instructions that floats take, for half the bytes of F16.

use super::two_bytes::{Query, Weights, join};
use super::{GROUP, Keep, load_some, outside, store_some};
use crate::simd::Simd;
use half::f16;
use model::runner::PAGE;
use std::ops::Range;

pub(crate) struct Int8;

/// Bytes from the page's start to the keys' scales, the values and their scales.
fn places(dim: usize) -> (usize, usize, usize) {
    let scales = dim.next_multiple_of(4) * PAGE;
    let values = scales + 2 * PAGE;
    (scales, values, values + dim.next_multiple_of(16) * PAGE)
}

/// The scale of a head and its codes, sixteen at a time through `put`.
#[inline(always)]
unsafe fn encode<V: Simd>(x: *const f32, dim: usize, mut put: impl FnMut(usize, [u8; 16])) -> f16 {
    // SAFETY: the head is `dim` long.
    unsafe {
        let mut most = V::splat(0.0);
        for d in (0..dim).step_by(16) {
            most = V::max(V::abs(load_some::<V>(x.add(d), dim - d)), most);
        }
        let scale = f16::from_f32(V::largest(most) / 127.0);
        let by = f32::from(scale);
        for d in (0..dim).step_by(16) {
            let mut codes = [0; 16];
            if by != 0.0 {
                let ratio = V::div(load_some::<V>(x.add(d), dim - d), V::splat(by));
                let ratio = V::min(V::max(ratio, V::splat(-127.0)), V::splat(127.0));
                V::store_low(codes.as_mut_ptr(), V::to_i(ratio));
            }
            put(d, codes);
        }
        scale
    }
}

impl Keep for Int8 {
    fn bytes(dim: usize) -> usize {
        places(dim).2 + 2 * PAGE
    }

    fn scratch(dim: usize) -> usize {
        GROUP * Query::bytes(dim)
    }

    #[inline(always)]
    unsafe fn store<V: Simd>(page: *mut u8, at: usize, key: *const f32, value: *const f32, dim: usize) {
        let (scales, values, value_scales) = places(dim);
        // SAFETY: inside this head's page.
        unsafe {
            let scale = encode::<V>(key, dim, |d, codes| {
                for (i, four) in codes.as_chunks::<4>().0.iter().enumerate().take((dim - d).div_ceil(4)) {
                    page.add(((d / 4 + i) * PAGE + at) * 4).cast::<[u8; 4]>().write(*four);
                }
            });
            page.add(scales).cast::<f16>().add(at).write(scale);
            let to = page.add(values + at / 4 * dim.next_multiple_of(16) * 4 + at % 4);
            let scale = encode::<V>(value, dim, |d, codes| {
                for (i, code) in codes.into_iter().enumerate() {
                    *to.add((d + i) * 4) = code;
                }
            });
            page.add(value_scales).cast::<f16>().add(at).write(scale);
        }
    }

    #[inline(always)]
    unsafe fn prepare<V: Simd>(q: *const f32, heads: usize, dim: usize, scratch: *mut u8) {
        for g in 0..heads {
            // SAFETY: as the trait.
            unsafe { Query::of(scratch, g, dim).fill::<V>(q.add(g * dim), dim) };
        }
    }

    #[inline(always)]
    unsafe fn scores<V: Simd, const G: usize>(
        page: *const u8,
        _: *const f32,
        dim: usize,
        scratch: *const u8,
    ) -> [[V::F; 2]; G] {
        // SAFETY: as the trait.
        unsafe {
            let mut out = [[V::splat(0.0); 2]; G];
            let queries: [Query; G] = std::array::from_fn(|g| Query::of(scratch.cast_mut(), g, dim));
            let heads = queries.map(|query| query.head());
            let scales = page.add(places(dim).0).cast::<u16>();
            for half in 0..2 {
                let mut high = [V::splat_i(0); G];
                let mut low = [V::splat_i(0); G];
                for g in 0..G {
                    high[g] = V::splat_i(heads[g].high_bias);
                    low[g] = V::splat_i(heads[g].low_bias);
                }
                for four in 0..dim.div_ceil(4) {
                    let keys = V::load_b(page.add(four * 4 * PAGE + half * 64));
                    for g in 0..G {
                        high[g] = V::dot_s(high[g], keys, *queries[g].high().add(four));
                        low[g] = V::dot_s(low[g], keys, *queries[g].low().add(four));
                    }
                }
                let scale = V::load_f16(scales.add(16 * half));
                for g in 0..G {
                    let scale = V::mul(scale, V::splat(heads[g].scale));
                    out[g][half] = V::mul(join::<V>(high[g], low[g]), scale);
                }
            }
            out
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
        let (_, values, scales) = places(dim);
        // SAFETY: as the trait; the last sixteen dimensions are padded in the page, not in `out`.
        unsafe {
            let (values, scales) = (page.add(values), page.add(scales).cast::<u16>());
            let scales = [V::load_f16(scales), V::load_f16(scales.add(16))];
            let mut parts = [Weights::NONE; G];
            for g in 0..G {
                let row = weights[g].as_ptr();
                let mut scaled = [V::mul(V::load(row), scales[0]), V::mul(V::load(row.add(16)), scales[1])];
                if positions.len() < PAGE {
                    scaled = outside::<V>(scaled, positions.clone(), 0.0);
                }
                parts[g] = Weights::of::<V>(scaled);
            }
            let fours = positions.start / 4..positions.end.div_ceil(4);
            let stride = dim.next_multiple_of(16) * 4;
            for d in (0..dim).step_by(16) {
                let mut high = [V::splat_i(0); G];
                let mut low = [V::splat_i(0); G];
                for g in 0..G {
                    high[g] = V::splat_i(parts[g].high_bias);
                    low[g] = V::splat_i(parts[g].low_bias);
                }
                for four in fours.clone() {
                    let codes = V::load_b(values.add(four * stride + d * 4));
                    for g in 0..G {
                        high[g] = V::dot_s(high[g], codes, parts[g].high[four]);
                        low[g] = V::dot_s(low[g], codes, parts[g].low[four]);
                    }
                }
                for g in 0..G {
                    let to = out.add(g * dim + d);
                    let sum = load_some::<V>(to, dim - d);
                    let sum = V::fma(join::<V>(high[g], low[g]), V::splat(parts[g].scale), sum);
                    store_some::<V>(to, sum, dim - d);
                }
            }
        }
    }
}
