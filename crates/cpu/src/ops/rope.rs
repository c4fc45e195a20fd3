//! Rotations of heads.

use crate::simd::Simd;
use model::kv::rotated;

/// Turns the first `2 · half` dimensions of a head: pair (i, i + half) by the angle of `cos`, `sin`.
///
/// # Safety
/// As [`Simd`]; `head` holds `2 · half` floats, `cos` and `sin` `half`.
#[inline(always)]
pub(crate) unsafe fn rotate<V: Simd>(head: *mut f32, cos: *const f32, sin: *const f32, half: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let whole = half & !15;
        for i in (0..whole).step_by(16) {
            let (low, high) = (V::load(head.add(i)), V::load(head.add(i + half)));
            let (c, s) = (V::load(cos.add(i)), V::load(sin.add(i)));
            V::store(head.add(i), V::sub(V::mul(low, c), V::mul(high, s)));
            V::store(head.add(i + half), V::add(V::mul(low, s), V::mul(high, c)));
        }
        for i in whole..half {
            let (low, high, c, s) = (*head.add(i), *head.add(i + half), *cos.add(i), *sin.add(i));
            *head.add(i) = low * c - high * s;
            *head.add(i + half) = low * s + high * c;
        }
    }
}

/// Multiplies a head with the normalised Walsh-Hadamard matrix, as [`model::kv::rotate`] does, to the bit.
///
/// # Safety
/// As [`Simd`]; `head` holds `dim` floats.
#[inline(always)]
pub(crate) unsafe fn hadamard<V: Simd>(head: *mut f32, dim: usize) {
    let block = rotated(dim);
    let factor = (1.0 / block as f64).sqrt() as f32;
    for start in (0..dim).step_by(block) {
        // SAFETY: the caller's promise, for one block.
        unsafe {
            let x = head.add(start);
            if block < 16 {
                model::kv::rotate(std::slice::from_raw_parts_mut(x, block));
                continue;
            }
            for i in (0..block).step_by(16) {
                let mut lanes = V::load(x.add(i));
                lanes = V::butterfly::<1>(lanes);
                lanes = V::butterfly::<2>(lanes);
                lanes = V::butterfly::<4>(lanes);
                V::store(x.add(i), V::butterfly::<8>(lanes));
            }
            let mut stride = 16;
            while stride < block {
                for i in (0..block).step_by(16).filter(|i| i & stride == 0) {
                    let (a, b) = (V::load(x.add(i)), V::load(x.add(i + stride)));
                    V::store(x.add(i), V::add(a, b));
                    V::store(x.add(i + stride), V::sub(a, b));
                }
                stride *= 2;
            }
            for i in (0..block).step_by(16) {
                V::store(x.add(i), V::mul(V::load(x.add(i)), V::splat(factor)));
            }
        }
    }
}
