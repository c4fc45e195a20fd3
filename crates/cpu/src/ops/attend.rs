//! Attention of one token over its pages, all query heads of a KV head together.
//!
//! Pages are taken in order with a running maximum (Milakov and Gimelshein 2018, arXiv 1805.02867), so
//! a token's result depends on its own past only: not on threads, not on the batch. Keys lie
//! transposed: a page gives 32 scores in two registers without adding lanes. Bytes moved are the
//! cache's own, once for all heads of the group.

use super::{Element, gated::soft_cap};
use crate::simd::Simd;
use model::runner::PAGE;

/// Most query heads handled at once.
const GROUP: usize = 4;

/// One token's view of one KV head.
pub(crate) struct Attention<'a, E> {
    /// Storage of the cache group.
    pub(crate) base: *const E,
    /// Elements from page to page.
    pub(crate) page_stride: usize,
    /// Elements from a page's start to this head's keys; values follow them.
    pub(crate) head_offset: usize,
    /// Page numbers of the sequence, by position / [`PAGE`].
    pub(crate) pages: &'a [u32],
    /// First position seen.
    pub(crate) first: usize,
    /// One past the last position seen.
    pub(crate) seen: usize,
    pub(crate) head_dim: usize,
    /// Factor on scores.
    pub(crate) scale: f32,
    /// Soft cap on scores.
    pub(crate) cap: Option<f32>,
}

/// Attends `heads` query heads (each `head_dim` floats, side by side in `q`) to one KV head.
///
/// # Safety
/// As [`Simd`]; `q` and `out` hold `heads · head_dim` floats; the pages hold positions `first..seen`.
#[inline(always)]
pub(crate) unsafe fn attend<V: Simd, E: Element>(
    view: &Attention<'_, E>,
    heads: usize,
    q: *const f32,
    out: *mut f32,
) {
    let mut head = 0;
    while head < heads {
        let (at, count) = (head * view.head_dim, (heads - head).min(GROUP));
        // SAFETY: the caller's promise, for `count` heads from `head` on.
        unsafe {
            let (q, out) = (q.add(at), out.add(at));
            match count {
                1 => group::<V, E, 1>(view, q, out),
                2 => group::<V, E, 2>(view, q, out),
                3 => group::<V, E, 3>(view, q, out),
                _ => group::<V, E, 4>(view, q, out),
            }
        }
        head += count;
    }
}

#[inline(always)]
unsafe fn group<V: Simd, E: Element, const G: usize>(view: &Attention<'_, E>, q: *const f32, out: *mut f32) {
    let dim = view.head_dim;
    // SAFETY: as `attend`; a page holds PAGE · dim keys, then as many values.
    unsafe {
        for i in 0..G * dim {
            *out.add(i) = 0.0;
        }
        let (mut most, mut total) = ([f32::NEG_INFINITY; G], [0.0f32; G]);
        for page in view.first / PAGE..view.seen.div_ceil(PAGE) {
            let start = page * PAGE;
            let (from, to) = (view.first.max(start) - start, view.seen.min(start + PAGE) - start);
            let keys = view.base.add(view.pages[page] as usize * view.page_stride + view.head_offset);
            let mut weights = scores::<V, E, G>(view, keys, q);
            for g in 0..G {
                let row = &mut weights[g];
                let largest = row[from..to].iter().copied().fold(f32::NEG_INFINITY, f32::max);
                if largest > most[g] {
                    let shrink = (most[g] - largest).exp();
                    total[g] *= shrink;
                    scale_by::<V>(out.add(g * dim), dim, shrink);
                    most[g] = largest;
                }
                let mut sum = V::splat(0.0);
                for half in [0, 16] {
                    let shifted = V::sub(V::load(row.as_ptr().add(half)), V::splat(most[g]));
                    V::store(row.as_mut_ptr().add(half), V::exp(shifted));
                }
                row[..from].fill(0.0);
                row[to..].fill(0.0);
                for half in [0, 16] {
                    sum = V::add(sum, V::load(row.as_ptr().add(half)));
                }
                total[g] += V::sum(sum);
            }
            mix::<V, E, G>(&weights, from..to, keys.add(PAGE * dim), dim, out);
        }
        for g in 0..G {
            scale_by::<V>(out.add(g * dim), dim, 1.0 / total[g]);
        }
    }
}

/// Scaled and capped scores of a page's 32 positions for each head.
#[inline(always)]
unsafe fn scores<V: Simd, E: Element, const G: usize>(
    view: &Attention<'_, E>,
    keys: *const E,
    q: *const f32,
) -> [[f32; PAGE]; G] {
    let mut rows = [[0.0; PAGE]; G];
    // SAFETY: as `attend`.
    unsafe {
        let (mut low, mut high) = ([V::splat(0.0); G], [V::splat(0.0); G]);
        for d in 0..view.head_dim {
            let (k_low, k_high) = (E::load::<V>(keys.add(d * PAGE)), E::load::<V>(keys.add(d * PAGE + 16)));
            for g in 0..G {
                let q = V::splat(*q.add(g * view.head_dim + d));
                low[g] = V::fma(k_low, q, low[g]);
                high[g] = V::fma(k_high, q, high[g]);
            }
        }
        for g in 0..G {
            for (half, score) in [low[g], high[g]].into_iter().enumerate() {
                let mut score = V::mul(score, V::splat(view.scale));
                if let Some(cap) = view.cap {
                    score = soft_cap::<V>(score, cap);
                }
                V::store(rows[g].as_mut_ptr().add(16 * half), score);
            }
        }
    }
    rows
}

/// out\[g\] += Σⱼ weights\[g\]\[j\] · values\[j\].
#[inline(always)]
unsafe fn mix<V: Simd, E: Element, const G: usize>(
    weights: &[[f32; PAGE]; G],
    positions: std::ops::Range<usize>,
    values: *const E,
    dim: usize,
    out: *mut f32,
) {
    // SAFETY: as `attend`; what is left over after runs of 64 and of 16 is handled one by one.
    unsafe {
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

#[inline(always)]
unsafe fn columns<V: Simd, E: Element, const G: usize, const N: usize>(
    weights: &[[f32; PAGE]; G],
    positions: std::ops::Range<usize>,
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

#[inline(always)]
unsafe fn scale_by<V: Simd>(x: *mut f32, len: usize, factor: f32) {
    // SAFETY: the caller gives `len` floats.
    unsafe {
        let whole = len & !15;
        for i in (0..whole).step_by(16) {
            V::store(x.add(i), V::mul(V::load(x.add(i)), V::splat(factor)));
        }
        for i in whole..len {
            *x.add(i) *= factor;
        }
    }
}
