//! Attention of one token over its pages, all query heads of a KV head together.
//!
//! Pages are taken in order with a running maximum (Milakov and Gimelshein 2018, arXiv 1805.02867), so
//! a token's result depends on its own past only: not on threads, not on the batch. Keys lie
//! transposed: a page gives 32 scores in two registers without adding lanes. Bytes moved are the
//! cache's own, once for all heads of the group. What differs between types of the cache is said once a
//! type ([`Keep`]).

mod float;
mod int4;
mod int8;
mod two_bytes;

pub(crate) use int4::Int4;
pub(crate) use int8::Int8;

use super::gated::soft_cap;
use crate::simd::Simd;
use model::runner::PAGE;
use std::ops::Range;

/// Most query heads handled at once.
const GROUP: usize = 4;

/// One token's view of one KV head.
pub(crate) struct Attention<'a> {
    /// Storage of the cache group.
    pub(crate) base: *const u8,
    /// Bytes from page to page.
    pub(crate) page_stride: usize,
    /// Bytes from a page's start to this head's part, [`Keep::bytes`] long.
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
    /// [`Keep::scratch`] bytes of this thread's own, aligned to 16.
    pub(crate) scratch: *mut u8,
}

/// How a page holds one KV head: its [`PAGE`] keys, then its values, and what multiplies them.
///
/// All methods are unsafe as [`Simd`]; `page` points to [`Keep::bytes`] of this head, aligned to 64; heads
/// hold `dim` floats and lie side by side.
pub(crate) trait Keep: 'static {
    /// Bytes of a head's page, a multiple of 64.
    fn bytes(dim: usize) -> usize;

    /// Bytes that prepared queries of [`GROUP`] heads take.
    fn scratch(dim: usize) -> usize;

    /// Writes the key and value of position `at` of the page, which nobody else touches.
    unsafe fn store<V: Simd>(page: *mut u8, at: usize, key: *const f32, value: *const f32, dim: usize);

    /// Brings `heads` queries into the form that [`Keep::scores`] takes.
    unsafe fn prepare<V: Simd>(q: *const f32, heads: usize, dim: usize, scratch: *mut u8);

    /// Products of each query with the page's 32 keys, unscaled.
    unsafe fn scores<V: Simd, const G: usize>(
        page: *const u8,
        q: *const f32,
        dim: usize,
        scratch: *const u8,
    ) -> [[V::F; 2]; G];

    /// out\[g\] += Σⱼ weights\[g\]\[j\] · values\[j\], where weights outside `positions` are 0.
    unsafe fn mix<V: Simd, const G: usize>(
        page: *const u8,
        weights: &[[f32; PAGE]; G],
        positions: Range<usize>,
        dim: usize,
        out: *mut f32,
    );
}

/// Attends `heads` query heads (each `head_dim` floats, side by side in `q`) to one KV head.
///
/// # Safety
/// As [`Simd`]; `q` and `out` hold `heads · head_dim` floats; the pages hold positions `first..seen`.
#[inline(always)]
pub(crate) unsafe fn attend<V: Simd, K: Keep>(
    view: &Attention<'_>,
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
                1 => group::<V, K, 1>(view, q, out),
                2 => group::<V, K, 2>(view, q, out),
                3 => group::<V, K, 3>(view, q, out),
                _ => group::<V, K, 4>(view, q, out),
            }
        }
        head += count;
    }
}

#[inline(always)]
unsafe fn group<V: Simd, K: Keep, const G: usize>(view: &Attention<'_>, q: *const f32, out: *mut f32) {
    let dim = view.head_dim;
    // SAFETY: as `attend`.
    unsafe {
        for i in 0..G * dim {
            *out.add(i) = 0.0;
        }
        K::prepare::<V>(q, G, dim, view.scratch);
        let (mut most, mut total) = ([f32::NEG_INFINITY; G], [0.0f32; G]);
        for index in view.first / PAGE..view.seen.div_ceil(PAGE) {
            let start = index * PAGE;
            let (from, to) = (view.first.max(start) - start, view.seen.min(start + PAGE) - start);
            let page = view.base.add(view.pages[index] as usize * view.page_stride + view.head_offset);
            let products = K::scores::<V, G>(page, q, dim, view.scratch);
            let mut weights = [[0.0; PAGE]; G];
            for g in 0..G {
                let row = &mut weights[g];
                // Both halves by name, here and below: closures have not the instruction set.
                let [low, high] = products[g];
                let mut scores = [V::mul(low, V::splat(view.scale)), V::mul(high, V::splat(view.scale))];
                if let Some(cap) = view.cap {
                    scores = [soft_cap::<V>(scores[0], cap), soft_cap::<V>(scores[1], cap)];
                }
                let whole = to - from == PAGE;
                if !whole {
                    scores = outside::<V>(scores, from..to, f32::NEG_INFINITY);
                }
                let largest = V::largest(V::max(scores[0], scores[1]));
                if largest > most[g] {
                    let shrink = (most[g] - largest).exp();
                    total[g] *= shrink;
                    scale_by::<V>(out.add(g * dim), dim, shrink);
                    most[g] = largest;
                }
                let shift = V::splat(most[g]);
                scores = [V::exp(V::sub(scores[0], shift)), V::exp(V::sub(scores[1], shift))];
                if !whole {
                    scores = outside::<V>(scores, from..to, 0.0);
                }
                V::store(row.as_mut_ptr(), scores[0]);
                V::store(row.as_mut_ptr().add(16), scores[1]);
                total[g] += V::sum(V::add(scores[0], scores[1]));
            }
            K::mix::<V, G>(page, &weights, from..to, dim, out);
        }
        for g in 0..G {
            scale_by::<V>(out.add(g * dim), dim, 1.0 / total[g]);
        }
    }
}

/// 32 lanes, of which those outside `positions` become `other`, whatever they were.
#[inline(always)]
unsafe fn outside<V: Simd>(lanes: [V::F; 2], positions: Range<usize>, other: f32) -> [V::F; 2] {
    let mut all = [0.0f32; PAGE];
    // SAFETY: arrays of the sizes named.
    unsafe {
        V::store(all.as_mut_ptr(), lanes[0]);
        V::store(all.as_mut_ptr().add(16), lanes[1]);
        all[..positions.start].fill(other);
        all[positions.end..].fill(other);
        [V::load(all.as_ptr()), V::load(all.as_ptr().add(16))]
    }
}

/// Up to sixteen floats; lanes beyond `len` are 0.
#[inline(always)]
unsafe fn load_some<V: Simd>(from: *const f32, len: usize) -> V::F {
    // SAFETY: the caller gives `len` floats.
    unsafe {
        if len >= 16 {
            return V::load(from);
        }
        let mut lanes = [0.0f32; 16];
        std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), len);
        V::load(lanes.as_ptr())
    }
}

/// Stores the first `len` lanes, at most sixteen.
#[inline(always)]
unsafe fn store_some<V: Simd>(to: *mut f32, value: V::F, len: usize) {
    // SAFETY: the caller gives room for `len` floats.
    unsafe {
        if len >= 16 {
            return V::store(to, value);
        }
        let mut lanes = [0.0f32; 16];
        V::store(lanes.as_mut_ptr(), value);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, len);
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

#[cfg(test)]
mod tests;
