//! Rotation of heads, and their way into the cache.

use crate::simd::Simd;
use model::runner::PAGE;

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

/// Where one position of one KV head goes.
pub(crate) struct HeadStore<E> {
    /// Keys of the page: `[head_dim][PAGE]`, so that scores come out side by side.
    pub(crate) keys: *mut E,
    /// Values of the page: `[PAGE][head_dim]`.
    pub(crate) values: *mut E,
    /// Position within the page.
    pub(crate) at: usize,
}

/// Writes a key and a value of `head_dim` floats to the cache.
///
/// # Safety
/// `k`, `v` hold `head_dim` floats; the page is this head's, and nobody else touches its position.
#[inline(always)]
pub(crate) unsafe fn store_head<E: Element>(
    k: *const f32,
    v: *const f32,
    head_dim: usize,
    to: &HeadStore<E>,
) {
    for d in 0..head_dim {
        // SAFETY: the caller's promise.
        unsafe {
            *to.keys.add(d * PAGE + to.at) = E::from_f32(*k.add(d));
            *to.values.add(to.at * head_dim + d) = E::from_f32(*v.add(d));
        }
    }
}
