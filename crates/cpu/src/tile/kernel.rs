//! Products of one row tile with one or many activation rows.
//!
//! Every product has the same arithmetic whatever the number of activation rows: integer sums are
//! exact, and floats are added block after block. So a token's result does not depend on the batch it
//! came in. One row: codes go from memory through registers into dot products. Many rows: a tile is
//! unpacked once into L1 and used for all of them.

use super::{Float, ROWS, Tile};
use crate::acts::{Act32, Act256};
use crate::simd::Simd;

/// Most activation rows of one call: their accumulators stay in L1.
pub(crate) const TOKENS: usize = 64;

/// An unpacked stretch of 256 columns.
#[repr(C, align(64))]
pub(crate) struct Scratch {
    codes: [u8; 4096],
    scales: [[i32; 16]; 16],
    mins: [[u8; 64]; 4],
    d: [[f32; 16]; 8],
    dmin: [[f32; 16]; 8],
}

impl Scratch {
    pub(crate) fn new() -> Box<Scratch> {
        let (codes, scales, mins) = ([0; 4096], [[0; 16]; 16], [[0; 64]; 4]);
        Box::new(Scratch { codes, scales, mins, d: [[0.0; 16]; 8], dmin: [[0.0; 16]; 8] })
    }
}

/// The word of four activations at column `4 · quad`.
#[inline(always)]
unsafe fn quad_of(q: *const i8, quad: usize) -> i32 {
    // SAFETY: the caller gives the quad's four bytes.
    unsafe { q.add(4 * quad).cast::<i32>().read_unaligned() }
}

/// What a sub-block's accumulator starts with, so that offsets and sign shifts cancel.
#[inline(always)]
fn start256<V: Simd, T: Tile>(act: &Act256, sub: usize) -> i32 {
    let neg32 = if T::SUB == 32 { act.neg32[2 * sub] + act.neg32[2 * sub + 1] } else { act.neg32[sub] };
    // neg32 is −32 Σ q; both constants divide 32 or are multiples of it.
    if T::SIGNED { neg32 / 32 * -V::SIGNED_BIAS } else { neg32 / 32 * T::OFFSET }
}

/// Σ min · Σ q over the sub-blocks, from the sums' two parts.
#[inline(always)]
unsafe fn minima<V: Simd, T: Tile>(mins: &[V::B; 4], act: &Act256) -> V::I {
    // SAFETY: lanes only; see `Simd`.
    unsafe {
        let (mut high, mut low) = (V::splat_i(0), V::splat_i(0));
        if T::SUB == 32 {
            for w in 0..2 {
                high = V::dot_u(high, mins[w], act.high32[w]);
                low = V::dot_u(low, mins[w], act.low32[w]);
            }
        } else {
            for w in 0..4 {
                high = V::dot_u(high, mins[w], act.high16[w]);
                low = V::dot_u(low, mins[w], act.low16[w]);
            }
        }
        V::add_i(V::mul_i(high, V::splat_i(64)), low)
    }
}

/// acc + step · (d · total − dmin · minima).
#[inline(always)]
unsafe fn finish<V: Simd, T: Tile>(
    acc: V::F,
    total: V::I,
    d: V::F,
    min: V::I,
    dmin: V::F,
    step: f32,
) -> V::F {
    // SAFETY: lanes only; see `Simd`.
    unsafe {
        let mut block = V::mul(V::to_f(total), d);
        if T::MINS {
            block = V::sub(block, V::mul(V::to_f(min), dmin));
        }
        V::fma(block, V::splat(step), acc)
    }
}

/// Products of a row tile of 256-column tiles with `tokens` rows of activations.
///
/// `acts` holds `blocks` entries a row; `out` gets sixteen floats a row.
///
/// # Safety
/// As [`Simd`]; `tile` is a packed row tile of `blocks` tiles, `tokens ≤ TOKENS`.
#[inline(always)]
pub(crate) unsafe fn product256<V: Simd, T: Tile>(
    tile: *const u8,
    blocks: usize,
    acts: &[Act256],
    tokens: usize,
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    debug_assert!(acts.len() >= blocks * tokens && out.len() >= ROWS * tokens);
    // SAFETY: the caller's promise about `tile`; indexes stay inside by the lengths above.
    unsafe {
        let (heads, codes) = (tile, tile.add(blocks * T::HEAD));
        if tokens == 1 {
            V::store(out.as_mut_ptr(), one256::<V, T>(heads, codes, acts.as_ptr(), blocks));
            return;
        }
        out[..ROWS * tokens].fill(0.0);
        for b in 0..blocks {
            prepare256::<V, T>(heads.add(b * T::HEAD), codes.add(b * T::CODES), scratch);
            let (mut t, acts, out) = (0, acts.as_ptr().add(b), out.as_mut_ptr());
            while t + 8 <= tokens {
                many256::<V, T, 8>(scratch, acts.add(t * blocks), blocks, out.add(ROWS * t));
                t += 8;
            }
            if t + 4 <= tokens {
                many256::<V, T, 4>(scratch, acts.add(t * blocks), blocks, out.add(ROWS * t));
                t += 4;
            }
            while t < tokens {
                many256::<V, T, 1>(scratch, acts.add(t * blocks), blocks, out.add(ROWS * t));
                t += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn one256<V: Simd, T: Tile>(
    heads: *const u8,
    codes: *const u8,
    acts: *const Act256,
    blocks: usize,
) -> V::F {
    // SAFETY: as `product256`.
    unsafe {
        let mut acc = V::splat(0.0);
        for b in 0..blocks {
            let (head, codes, act) = (heads.add(b * T::HEAD), codes.add(b * T::CODES), &*acts.add(b));
            let mut scales = [V::splat_i(1); 16];
            T::scales::<V>(head, &mut scales);
            let mut total = V::splat_i(0);
            for chunk in 0..4 {
                for line in (0..T::CODES / 4).step_by(64) {
                    V::prefetch(codes.wrapping_add(chunk * (T::CODES / 4) + line));
                }
                let mut quads = [V::splat_b(0); 16];
                T::unpack::<V>(codes, chunk, &mut quads);
                for s in 0..64 / T::SUB {
                    let sub = chunk * (64 / T::SUB) + s;
                    let mut dot = V::splat_i(start256::<V, T>(act, sub));
                    for i in 0..T::SUB / 4 {
                        let w = quads[s * (T::SUB / 4) + i];
                        let x = quad_of(act.q.as_ptr(), sub * (T::SUB / 4) + i);
                        dot = if T::SIGNED { V::dot_s(dot, w, x) } else { V::dot_u(dot, w, x) };
                    }
                    total = V::add_i(total, V::mul_i(dot, scales[sub]));
                }
            }
            let mut min = V::splat_i(0);
            if T::MINS {
                let mut mins = [V::splat_b(0); 4];
                T::mins::<V>(head, &mut mins);
                min = minima::<V, T>(&mins, act);
            }
            acc = finish::<V, T>(acc, total, T::d::<V>(head), min, T::dmin::<V>(head), act.scale);
        }
        acc
    }
}

#[inline(always)]
unsafe fn prepare256<V: Simd, T: Tile>(head: *const u8, codes: *const u8, scratch: &mut Scratch) {
    // SAFETY: as `product256`; the scratch holds 64 quads and sixteen sub-blocks.
    unsafe {
        for chunk in 0..4 {
            let mut quads = [V::splat_b(0); 16];
            T::unpack::<V>(codes, chunk, &mut quads);
            for (i, quad) in quads.iter().enumerate() {
                V::store_b(scratch.codes.as_mut_ptr().add(64 * (16 * chunk + i)), *quad);
            }
        }
        let mut scales = [V::splat_i(1); 16];
        T::scales::<V>(head, &mut scales);
        for (to, scale) in scratch.scales.iter_mut().zip(scales).take(256 / T::SUB) {
            V::store_i(to.as_mut_ptr(), scale);
        }
        if T::MINS {
            let mut mins = [V::splat_b(0); 4];
            T::mins::<V>(head, &mut mins);
            for (to, min) in scratch.mins.iter_mut().zip(mins) {
                V::store_b(to.as_mut_ptr(), min);
            }
        }
        V::store(scratch.d[0].as_mut_ptr(), T::d::<V>(head));
        V::store(scratch.dmin[0].as_mut_ptr(), T::dmin::<V>(head));
    }
}

#[inline(always)]
unsafe fn many256<V: Simd, T: Tile, const N: usize>(
    scratch: &Scratch,
    acts: *const Act256,
    stride: usize,
    out: *mut f32,
) {
    // SAFETY: as `product256`; row `t` of activations is `stride` entries on.
    unsafe {
        let act = |t: usize| &*acts.add(t * stride);
        let mut totals = [V::splat_i(0); N];
        for sub in 0..256 / T::SUB {
            let mut dots = [V::splat_i(0); N];
            if T::SIGNED || T::OFFSET != 0 {
                for (t, dot) in dots.iter_mut().enumerate() {
                    *dot = V::splat_i(start256::<V, T>(act(t), sub));
                }
            }
            for i in 0..T::SUB / 4 {
                let quad = sub * (T::SUB / 4) + i;
                let w = V::load_b(scratch.codes.as_ptr().add(64 * quad));
                for (t, dot) in dots.iter_mut().enumerate() {
                    let x = quad_of(act(t).q.as_ptr(), quad);
                    *dot = if T::SIGNED { V::dot_s(*dot, w, x) } else { V::dot_u(*dot, w, x) };
                }
            }
            let scale = V::load_i(scratch.scales[sub].as_ptr());
            for (total, dot) in totals.iter_mut().zip(dots) {
                *total = V::add_i(*total, V::mul_i(dot, scale));
            }
        }
        let (d, dmin) = (V::load(scratch.d[0].as_ptr()), V::load(scratch.dmin[0].as_ptr()));
        let mut mins = [V::splat_b(0); 4];
        if T::MINS {
            for (min, from) in mins.iter_mut().zip(&scratch.mins) {
                *min = V::load_b(from.as_ptr());
            }
        }
        for (t, total) in totals.into_iter().enumerate() {
            let min = if T::MINS { minima::<V, T>(&mins, act(t)) } else { V::splat_i(0) };
            let to = out.add(ROWS * t);
            V::store(to, finish::<V, T>(V::load(to), total, d, min, dmin, act(t).scale));
        }
    }
}

/// acc + step · (d · dot − dmin · Σ q).
#[inline(always)]
unsafe fn finish32<V: Simd, T: Tile>(acc: V::F, dot: V::I, d: V::F, dmin: V::F, act: &Act32) -> V::F {
    // SAFETY: lanes only; see `Simd`.
    unsafe {
        let mut block = V::mul(V::to_f(dot), d);
        if T::MINS {
            block = V::sub(block, V::mul(V::splat(act.sum as f32), dmin));
        }
        V::fma(block, V::splat(act.scale), acc)
    }
}

#[inline(always)]
fn start32<V: Simd, T: Tile>(act: &Act32) -> i32 {
    if T::SIGNED { V::SIGNED_BIAS * act.sum } else { -T::OFFSET * act.sum }
}

/// Products of a row tile of 32-column tiles with `tokens` rows of activations.
///
/// # Safety
/// As [`product256`].
#[inline(always)]
pub(crate) unsafe fn product32<V: Simd, T: Tile>(
    tile: *const u8,
    blocks: usize,
    acts: &[Act32],
    tokens: usize,
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    debug_assert!(acts.len() >= blocks * tokens && out.len() >= ROWS * tokens);
    // SAFETY: the caller's promise about `tile`; indexes stay inside by the lengths above.
    unsafe {
        let (heads, codes) = (tile, tile.add(blocks * T::HEAD));
        if tokens == 1 {
            let mut acc = V::splat(0.0);
            for b in 0..blocks {
                let (head, act) = (heads.add(b * T::HEAD), &*acts.as_ptr().add(b));
                for line in (0..T::CODES).step_by(64) {
                    V::prefetch(codes.wrapping_add(b * T::CODES + line));
                }
                let mut quads = [V::splat_b(0); 16];
                T::unpack::<V>(codes.add(b * T::CODES), 0, &mut quads);
                let mut dot = V::splat_i(start32::<V, T>(act));
                for (i, w) in quads.into_iter().take(8).enumerate() {
                    let x = quad_of(act.q.as_ptr(), i);
                    dot = if T::SIGNED { V::dot_s(dot, w, x) } else { V::dot_u(dot, w, x) };
                }
                acc = finish32::<V, T>(acc, dot, T::d::<V>(head), T::dmin::<V>(head), act);
            }
            V::store(out.as_mut_ptr(), acc);
            return;
        }
        out[..ROWS * tokens].fill(0.0);
        let mut b = 0;
        while b < blocks {
            let count = (blocks - b).min(8);
            for k in 0..count {
                let mut quads = [V::splat_b(0); 16];
                T::unpack::<V>(codes.add((b + k) * T::CODES), 0, &mut quads);
                for (i, quad) in quads.into_iter().take(8).enumerate() {
                    V::store_b(scratch.codes.as_mut_ptr().add(64 * (8 * k + i)), quad);
                }
                let head = heads.add((b + k) * T::HEAD);
                V::store(scratch.d[k].as_mut_ptr(), T::d::<V>(head));
                V::store(scratch.dmin[k].as_mut_ptr(), T::dmin::<V>(head));
            }
            let (mut t, acts, out) = (0, acts.as_ptr().add(b), out.as_mut_ptr());
            while t + 8 <= tokens {
                many32::<V, T, 8>(scratch, count, acts.add(t * blocks), blocks, out.add(ROWS * t));
                t += 8;
            }
            if t + 4 <= tokens {
                many32::<V, T, 4>(scratch, count, acts.add(t * blocks), blocks, out.add(ROWS * t));
                t += 4;
            }
            while t < tokens {
                many32::<V, T, 1>(scratch, count, acts.add(t * blocks), blocks, out.add(ROWS * t));
                t += 1;
            }
            b += count;
        }
    }
}

#[inline(always)]
unsafe fn many32<V: Simd, T: Tile, const N: usize>(
    scratch: &Scratch,
    count: usize,
    acts: *const Act32,
    stride: usize,
    out: *mut f32,
) {
    // SAFETY: as `product32`; row `t` of activations is `stride` entries on.
    unsafe {
        let mut accs = [V::splat(0.0); N];
        for (t, acc) in accs.iter_mut().enumerate() {
            *acc = V::load(out.add(ROWS * t));
        }
        for k in 0..count {
            let act = |t: usize| &*acts.add(t * stride + k);
            let mut dots = [V::splat_i(0); N];
            if T::SIGNED || T::OFFSET != 0 {
                for (t, dot) in dots.iter_mut().enumerate() {
                    *dot = V::splat_i(start32::<V, T>(act(t)));
                }
            }
            for i in 0..8 {
                let w = V::load_b(scratch.codes.as_ptr().add(64 * (8 * k + i)));
                for (t, dot) in dots.iter_mut().enumerate() {
                    let x = quad_of(act(t).q.as_ptr(), i);
                    *dot = if T::SIGNED { V::dot_s(*dot, w, x) } else { V::dot_u(*dot, w, x) };
                }
            }
            let (d, dmin) = (V::load(scratch.d[k].as_ptr()), V::load(scratch.dmin[k].as_ptr()));
            for (t, (acc, dot)) in accs.iter_mut().zip(dots).enumerate() {
                *acc = finish32::<V, T>(*acc, dot, d, dmin, act(t));
            }
        }
        for (t, acc) in accs.into_iter().enumerate() {
            V::store(out.add(ROWS * t), acc);
        }
    }
}

/// Products of a row tile of floats with `tokens` rows of `cols` f32 activations, `stride` apart.
///
/// Even and odd columns are summed apart, then together.
///
/// # Safety
/// As [`Simd`]; `tile` holds `cols` columns, `x` `tokens` rows, `out` sixteen floats a row.
#[inline(always)]
pub(crate) unsafe fn float_product<V: Simd, T: Float>(
    tile: *const u8,
    cols: usize,
    x: *const f32,
    stride: usize,
    tokens: usize,
    out: &mut [f32],
) {
    debug_assert!(out.len() >= ROWS * tokens);
    // SAFETY: the caller's promise.
    unsafe {
        let (mut t, out) = (0, out.as_mut_ptr());
        while t + 4 <= tokens {
            floats::<V, T, 4>(tile, cols, x.add(t * stride), stride, out.add(ROWS * t));
            t += 4;
        }
        while t < tokens {
            floats::<V, T, 1>(tile, cols, x.add(t * stride), stride, out.add(ROWS * t));
            t += 1;
        }
    }
}

#[inline(always)]
unsafe fn floats<V: Simd, T: Float, const N: usize>(
    tile: *const u8,
    cols: usize,
    x: *const f32,
    stride: usize,
    out: *mut f32,
) {
    // SAFETY: as `float_product`.
    unsafe {
        let (mut even, mut odd) = ([V::splat(0.0); N], [V::splat(0.0); N]);
        for k in (0..cols & !1).step_by(2) {
            // Two columns are a line of half floats; single floats are asked for every other line.
            V::prefetch(tile.wrapping_add(k * ROWS * T::BYTES));
            let w = [
                T::load::<V>(tile.add(k * ROWS * T::BYTES)),
                T::load::<V>(tile.add((k + 1) * ROWS * T::BYTES)),
            ];
            for t in 0..N {
                even[t] = V::fma(w[0], V::splat(*x.add(t * stride + k)), even[t]);
                odd[t] = V::fma(w[1], V::splat(*x.add(t * stride + k + 1)), odd[t]);
            }
        }
        if cols % 2 == 1 {
            let w = T::load::<V>(tile.add((cols - 1) * ROWS * T::BYTES));
            for t in 0..N {
                even[t] = V::fma(w, V::splat(*x.add(t * stride + cols - 1)), even[t]);
            }
        }
        for t in 0..N {
            V::store(out.add(ROWS * t), V::add(even[t], odd[t]));
        }
    }
}
