//! A cache of nibbles with a step and a least value every 32 elements, as [`model::kv`] defines it. Keys and
//! queries come rotated.
//!
//! A head's page: keys `[dim / 8][PAGE][4]`, byte k of a position's four holding dimension k below and k + 4
//! above; steps and least values of keys (F16) `[groups][2][PAGE]`; values `[PAGE / 4][groups][16][4]`, byte k
//! of a dimension's four holding position k, of that dimension below and of the sixteenth after it above; steps and
//! least values of values. A byte belongs to one position only, so threads may store neighbours at once.
//!
//! Products are Σ (m + s · c) · x = m · Σ x + s · Σ c · x, a group of 32 at a time, with x in two bytes (see
//! `two_bytes`). Instructions are those of `int8`, two more for each 64 bytes of codes, and for values the rounding of
//! 32 weights a group instead of a page; bytes are 10 for every 32 of F16.

use super::two_bytes::{Query, Weights, join};
use super::{GROUP, Keep, load_some, outside, store_some};
use crate::simd::Simd;
use half::f16;
use model::kv::INT4_GROUP;
use model::runner::PAGE;
use std::ops::Range;

pub(crate) struct Int4;

/// Bytes of a group's steps and least values.
const BESIDE: usize = 4 * PAGE;
/// Bytes of a group's codes of four positions' values.
const VALUES: usize = 64;

fn groups(dim: usize) -> usize {
    dim.div_ceil(INT4_GROUP)
}

/// Bytes from the page's start to what stands beside the keys, to the values and to what stands beside them.
fn places(dim: usize) -> (usize, usize, usize) {
    let beside = dim.div_ceil(8) * 4 * PAGE;
    let values = beside + groups(dim) * BESIDE;
    (beside, values, values + PAGE / 4 * groups(dim) * VALUES)
}

/// Step, least value and codes of a group, at most 32 elements; to the bit what
/// [`model::kv::encode_int4`] gives.
#[inline(always)]
unsafe fn encode<V: Simd>(x: *const f32, len: usize) -> (f16, f16, [u8; INT4_GROUP]) {
    let mut codes = [0; INT4_GROUP];
    // SAFETY: the group is `len` long.
    unsafe {
        if len != INT4_GROUP {
            let (step, least) = model::kv::encode_int4(std::slice::from_raw_parts(x, len), &mut codes[..len]);
            return (step, least, codes);
        }
        let (a, b) = (V::load(x), V::load(x.add(16)));
        let most = V::largest(V::max(a, b));
        let least = -V::largest(V::sub(V::splat(0.0), V::min(a, b)));
        let quarter = (most - least) * (1.0 / 60.0);
        let mut kept = (f32::INFINITY, f16::ZERO, f16::from_f32(least));
        for i in [0.0, 1.0, 2.0] {
            let from = f16::from_f32(least + i * quarter);
            let m = f32::from(from);
            for j in [0.0, 1.0, 2.0] {
                let step = f16::from_f32(((most - j * quarter) - m) * (1.0 / 15.0));
                let s = f32::from(step);
                let error = V::sum(V::add(squares::<V>(a, m, s), squares::<V>(b, m, s)));
                if error < kept.0 {
                    kept = (error, step, from);
                }
            }
        }
        let (_, step, from) = kept;
        let (m, s) = (f32::from(from), f32::from(step));
        V::store_low(codes.as_mut_ptr(), code::<V>(a, m, s));
        V::store_low(codes.as_mut_ptr().add(16), code::<V>(b, m, s));
        (step, from, codes)
    }
}

/// Codes of sixteen elements whose group has least value `m` and step `s`.
#[inline(always)]
unsafe fn code<V: Simd>(x: V::F, m: f32, s: f32) -> V::I {
    let by = if s > 0.0 { 1.0 / s } else { 0.0 };
    // SAFETY: lanes only; see `Simd`.
    unsafe {
        let c = V::mul(V::sub(x, V::splat(m)), V::splat(by));
        V::to_i(V::min(V::max(c, V::splat(0.0)), V::splat(15.0)))
    }
}

/// Squared errors of sixteen elements.
#[inline(always)]
unsafe fn squares<V: Simd>(x: V::F, m: f32, s: f32) -> V::F {
    // SAFETY: lanes only; see `Simd`.
    unsafe {
        let held = V::mul(V::splat(s), V::to_f(code::<V>(x, m, s)));
        let off = V::sub(V::sub(x, V::splat(m)), held);
        V::mul(off, off)
    }
}

/// Writes a group's step and least value of position `at`.
#[inline(always)]
unsafe fn put_beside(beside: *mut u8, group: usize, at: usize, step: f16, least: f16) {
    // SAFETY: the caller's place holds that group.
    unsafe {
        let to = beside.add(group * BESIDE).cast::<f16>();
        to.add(at).write(step);
        to.add(PAGE + at).write(least);
    }
}

impl Keep for Int4 {
    fn bytes(dim: usize) -> usize {
        places(dim).2 + groups(dim) * BESIDE
    }

    fn scratch(dim: usize) -> usize {
        GROUP * Query::bytes(dim)
    }

    #[inline(always)]
    unsafe fn store<V: Simd>(page: *mut u8, at: usize, key: *const f32, value: *const f32, dim: usize) {
        let (beside, values, values_beside) = places(dim);
        // SAFETY: inside this head's page.
        unsafe {
            for group in 0..groups(dim) {
                let first = group * INT4_GROUP;
                let len = INT4_GROUP.min(dim - first);
                let (step, least, codes) = encode::<V>(key.add(first), len);
                put_beside(page.add(beside), group, at, step, least);
                for (i, c) in codes.as_chunks::<8>().0.iter().enumerate().take(len.div_ceil(8)) {
                    let both: [u8; 4] = std::array::from_fn(|k| c[k] | c[k + 4] << 4);
                    page.add(((first / 8 + i) * PAGE + at) * 4).cast::<[u8; 4]>().write(both);
                }
                let (step, least, codes) = encode::<V>(value.add(first), len);
                put_beside(page.add(values_beside), group, at, step, least);
                let to = page.add(values + (at / 4 * groups(dim) + group) * VALUES + at % 4);
                for k in 0..16 {
                    *to.add(4 * k) = codes[k] | codes[k + 16] << 4;
                }
            }
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
            let mask = V::splat_b(15);
            for half in 0..2 {
                for group in 0..groups(dim) {
                    let (mut high, mut low) = ([V::splat_i(0); G], [V::splat_i(0); G]);
                    for eight in group * 4..(group * 4 + 4).min(dim.div_ceil(8)) {
                        let both = V::load_b(page.add(eight * 4 * PAGE + half * 64));
                        let codes = [V::and(both, mask), V::and(V::shr(both, 4), mask)];
                        for (i, codes) in codes.into_iter().enumerate() {
                            // The second four may lie beyond the last dimension; queries are padded.
                            let four = 2 * eight + i;
                            for g in 0..G {
                                high[g] = V::dot_u(high[g], codes, *queries[g].high().add(four));
                                low[g] = V::dot_u(low[g], codes, *queries[g].low().add(four));
                            }
                        }
                    }
                    let beside = page.add(places(dim).0 + group * BESIDE).cast::<u16>();
                    let step = V::load_f16(beside.add(16 * half));
                    let least = V::load_f16(beside.add(PAGE + 16 * half));
                    for g in 0..G {
                        let sum = V::splat(*queries[g].sums().add(group));
                        let score = V::fma(join::<V>(high[g], low[g]), step, out[g][half]);
                        out[g][half] = V::fma(least, sum, score);
                    }
                }
            }
            for g in 0..G {
                let scale = V::splat(queries[g].head().scale);
                out[g] = [V::mul(out[g][0], scale), V::mul(out[g][1], scale)];
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
        let (_, values, beside) = places(dim);
        let (fours, mask) = (positions.start / 4..positions.end.div_ceil(4), 15);
        for group in 0..groups(dim) {
            // SAFETY: as the trait; the last 32 dimensions are padded in the page, not in `out`.
            unsafe {
                let mask = V::splat_b(mask);
                let beside = page.add(beside + group * BESIDE).cast::<u16>();
                let steps = [V::load_f16(beside), V::load_f16(beside.add(16))];
                let leasts = [V::load_f16(beside.add(PAGE)), V::load_f16(beside.add(PAGE + 16))];
                let (mut parts, mut offsets) = ([Weights::NONE; G], [0.0; G]);
                for g in 0..G {
                    let row = [V::load(weights[g].as_ptr()), V::load(weights[g].as_ptr().add(16))];
                    let mut scaled = [V::mul(row[0], steps[0]), V::mul(row[1], steps[1])];
                    let mut offset = [V::mul(row[0], leasts[0]), V::mul(row[1], leasts[1])];
                    if positions.len() < PAGE {
                        scaled = outside::<V>(scaled, positions.clone(), 0.0);
                        offset = outside::<V>(offset, positions.clone(), 0.0);
                    }
                    parts[g] = Weights::of::<V>(scaled);
                    offsets[g] = V::sum(V::add(offset[0], offset[1]));
                }
                let mut sums = [[[V::splat_i(0); 2]; 2]; G];
                for four in fours.clone() {
                    let both = V::load_b(page.add(values + (four * groups(dim) + group) * VALUES));
                    let codes = [V::and(both, mask), V::and(V::shr(both, 4), mask)];
                    for g in 0..G {
                        for half in 0..2 {
                            let [high, low] = sums[g][half];
                            let high = V::dot_u(high, codes[half], parts[g].high[four]);
                            sums[g][half] = [high, V::dot_u(low, codes[half], parts[g].low[four])];
                        }
                    }
                }
                for half in 0..2 {
                    let d = group * INT4_GROUP + half * 16;
                    if d >= dim {
                        break;
                    }
                    for g in 0..G {
                        let to = out.add(g * dim + d);
                        let sum = V::add(load_some::<V>(to, dim - d), V::splat(offsets[g]));
                        let [high, low] = sums[g][half];
                        let sum = V::fma(join::<V>(high, low), V::splat(parts[g].scale), sum);
                        store_some::<V>(to, sum, dim - d);
                    }
                }
            }
        }
    }
}
