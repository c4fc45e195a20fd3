//! RMS norm and additions.

use crate::simd::Simd;

/// out = x / √(mean x² + eps) · weight; `out` may be `x`. Any length: what is left over after
/// sixteens is handled one by one.
///
/// # Safety
/// As [`Simd`]; all three hold `len` floats.
#[inline(always)]
pub(crate) unsafe fn norm<V: Simd>(x: *const f32, weight: *const f32, len: usize, eps: f32, out: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let whole = len & !15;
        let mut squares = V::splat(0.0);
        for i in (0..whole).step_by(16) {
            let v = V::load(x.add(i));
            squares = V::fma(v, v, squares);
        }
        let mut sum = V::sum(squares);
        for i in whole..len {
            sum += *x.add(i) * *x.add(i);
        }
        let scale = 1.0 / (sum / len as f32 + eps).sqrt();
        let lanes = V::splat(scale);
        for i in (0..whole).step_by(16) {
            let v = V::mul(V::load(x.add(i)), lanes);
            V::store(out.add(i), V::mul(v, V::load(weight.add(i))));
        }
        for i in whole..len {
            *out.add(i) = *x.add(i) * scale * *weight.add(i);
        }
    }
}

/// to += from.
///
/// # Safety
/// As [`Simd`]; both hold `len` floats and do not overlap.
#[inline(always)]
pub(crate) unsafe fn accumulate<V: Simd>(to: *mut f32, from: *const f32, len: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let whole = len & !15;
        for i in (0..whole).step_by(16) {
            V::store(to.add(i), V::add(V::load(to.add(i)), V::load(from.add(i))));
        }
        for i in whole..len {
            *to.add(i) += *from.add(i);
        }
    }
}
