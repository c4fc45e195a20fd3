//! Activations of gates and the soft cap, sixteen lanes at a time.

use crate::simd::Simd;

/// x · sigmoid(x).
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn silu<V: Simd>(x: V::F) -> V::F {
    // SAFETY: lanes only.
    unsafe {
        let grown = V::exp(V::sub(V::splat(0.0), x));
        V::div(x, V::add(V::splat(1.0), grown))
    }
}

/// tanh(x) = 1 − 2 / (e²ˣ + 1): within 1e-7 of the value everywhere, absolutely.
#[inline(always)]
unsafe fn tanh<V: Simd>(x: V::F) -> V::F {
    // SAFETY: lanes only.
    unsafe {
        let grown = V::exp(V::add(x, x));
        V::sub(V::splat(1.0), V::div(V::splat(2.0), V::add(grown, V::splat(1.0))))
    }
}

/// The tanh form of GELU: ½x(1 + tanh(√(2/π)(x + 0.044715x³))).
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn gelu_tanh<V: Simd>(x: V::F) -> V::F {
    // SAFETY: lanes only.
    unsafe {
        let cubic = V::fma(V::mul(V::mul(x, x), x), V::splat(0.044_715), x);
        let bent = tanh::<V>(V::mul(cubic, V::splat(0.797_884_6)));
        V::mul(V::mul(V::splat(0.5), x), V::add(V::splat(1.0), bent))
    }
}

/// cap · tanh(x / cap).
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn soft_cap<V: Simd>(x: V::F, cap: f32) -> V::F {
    // SAFETY: lanes only.
    unsafe { V::mul(V::splat(cap), tanh::<V>(V::mul(x, V::splat(1.0 / cap)))) }
}
