//! AVX2 with FMA and F16C: the sixteen lanes are two registers.

use super::Simd;
#[allow(clippy::wildcard_imports, reason = "intrinsics carry their prefix")]
use std::arch::x86_64::*;

/// `VNNI`: with the byte dot product of AVX-VNNI, which processors without AVX-512 got in 2021.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<const VNNI: bool = false>;

// Every method names both halves instead of mapping a closure over them: a closure has not the
// instruction set, and would be left as a call where the optimiser does not see through it.
//
// SAFETY (all blocks below): the processor has AVX2, FMA and F16C, and AVX-VNNI where `VNNI`, which
// `Isa::detect` establishes before a kernel over `Avx2` is chosen; pointers are the caller's promise.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, stated above")]
impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type B = [__m256i; 2];
    const SIGNED_BIAS: i32 = if VNNI { -128 } else { 0 };

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::F {
        unsafe { [_mm256_set1_ps(value); 2] }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::F {
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: Self::F) {
        unsafe {
            _mm256_storeu_ps(to, value[0]);
            _mm256_storeu_ps(to.add(8), value[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::F {
        unsafe {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self::F {
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn abs(a: Self::F) -> Self::F {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        }
    }
    #[inline(always)]
    unsafe fn exp2i(n: Self::I) -> Self::F {
        unsafe {
            let biased = Self::add_i(n, Self::splat_i(127));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased[0])),
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased[1])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn splat_i(value: i32) -> Self::I {
        unsafe { [_mm256_set1_epi32(value); 2] }
    }
    #[inline(always)]
    unsafe fn load_i(from: *const i32) -> Self::I {
        unsafe { Self::load_b(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store_i(to: *mut i32, value: Self::I) {
        unsafe { Self::store_b(to.cast(), value) }
    }
    #[inline(always)]
    unsafe fn store_low(to: *mut u8, value: Self::I) {
        unsafe {
            let low = _mm256_set1_epi32(0xff);
            let words = _mm256_packus_epi32(_mm256_and_si256(value[0], low), _mm256_and_si256(value[1], low));
            // Each half of a register packs its own: fours of the lanes in the order 0, 2, 1, 3.
            let bytes = _mm256_packus_epi16(words, words);
            let ordered = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(ordered));
        }
    }
    #[inline(always)]
    unsafe fn sum(a: Self::F) -> f32 {
        unsafe { sum(_mm256_add_ps(a[0], a[1])) }
    }
    #[inline(always)]
    unsafe fn largest(a: Self::F) -> f32 {
        unsafe { largest(_mm256_max_ps(a[0], a[1])) }
    }
    #[inline(always)]
    unsafe fn butterfly<const STRIDE: usize>(a: Self::F) -> Self::F {
        unsafe {
            if STRIDE == 8 {
                return [_mm256_add_ps(a[0], a[1]), _mm256_sub_ps(a[0], a[1])];
            }
            [butterfly::<STRIDE>(a[0]), butterfly::<STRIDE>(a[1])]
        }
    }
    #[inline(always)]
    unsafe fn add_i(a: Self::I, b: Self::I) -> Self::I {
        unsafe { [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul_i(a: Self::I, b: Self::I) -> Self::I {
        unsafe { [_mm256_mullo_epi32(a[0], b[0]), _mm256_mullo_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn to_f(a: Self::I) -> Self::F {
        unsafe { [_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])] }
    }
    #[inline(always)]
    unsafe fn to_i(a: Self::F) -> Self::I {
        unsafe { [_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1])] }
    }

    #[inline(always)]
    unsafe fn load_b(from: *const u8) -> Self::B {
        unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())] }
    }
    #[inline(always)]
    unsafe fn store_b(to: *mut u8, value: Self::B) {
        unsafe {
            _mm256_storeu_si256(to.cast(), value[0]);
            _mm256_storeu_si256(to.add(32).cast(), value[1]);
        }
    }
    #[inline(always)]
    unsafe fn splat_b(value: u8) -> Self::B {
        unsafe { [_mm256_set1_epi8(value as i8); 2] }
    }
    #[inline(always)]
    unsafe fn and(a: Self::B, b: Self::B) -> Self::B {
        unsafe { [_mm256_and_si256(a[0], b[0]), _mm256_and_si256(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn or(a: Self::B, b: Self::B) -> Self::B {
        unsafe { [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn shr(a: Self::B, n: u32) -> Self::B {
        unsafe {
            let n = _mm_cvtsi32_si128(n as i32);
            [_mm256_srl_epi32(a[0], n), _mm256_srl_epi32(a[1], n)]
        }
    }
    #[inline(always)]
    unsafe fn shl(a: Self::B, n: u32) -> Self::B {
        unsafe {
            let n = _mm_cvtsi32_si128(n as i32);
            [_mm256_sll_epi32(a[0], n), _mm256_sll_epi32(a[1], n)]
        }
    }
    #[inline(always)]
    unsafe fn byte(a: Self::B, k: u32) -> Self::I {
        unsafe { Self::and(Self::shr(a, 8 * k), Self::splat_i(0xff)) }
    }
    #[inline(always)]
    unsafe fn byte_signed(a: Self::B, k: u32) -> Self::I {
        unsafe {
            let top = Self::shl(a, 24 - 8 * k);
            [_mm256_srai_epi32::<24>(top[0]), _mm256_srai_epi32::<24>(top[1])]
        }
    }
    #[inline(always)]
    unsafe fn lookup(table: &[i8; 16], indices: Self::B) -> Self::B {
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            [_mm256_shuffle_epi8(table, indices[0]), _mm256_shuffle_epi8(table, indices[1])]
        }
    }
    #[inline(always)]
    unsafe fn dot_u(acc: Self::I, w: Self::B, x: i32) -> Self::I {
        unsafe {
            let x = _mm256_set1_epi32(x);
            if VNNI {
                [_mm256_dpbusd_avx_epi32(acc[0], w[0], x), _mm256_dpbusd_avx_epi32(acc[1], w[1], x)]
            } else {
                [dot(acc[0], w[0], x), dot(acc[1], w[1], x)]
            }
        }
    }
    #[inline(always)]
    unsafe fn dot_s(acc: Self::I, w: Self::B, x: i32) -> Self::I {
        unsafe {
            if VNNI {
                let flip = _mm256_set1_epi8(-128);
                return Self::dot_u(acc, [_mm256_xor_si256(w[0], flip), _mm256_xor_si256(w[1], flip)], x);
            }
            // |w| · (x with the sign of w): −128 becomes 128 unsigned, and x is never −128.
            let x = _mm256_set1_epi32(x);
            [
                dot(acc[0], _mm256_abs_epi8(w[0]), _mm256_sign_epi8(x, w[0])),
                dot(acc[1], _mm256_abs_epi8(w[1]), _mm256_sign_epi8(x, w[1])),
            ]
        }
    }
}

/// [`Simd::butterfly`] within eight lanes.
#[inline(always)]
unsafe fn butterfly<const STRIDE: usize>(a: __m256) -> __m256 {
    // SAFETY: only called by `Avx2`, see there.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let stride = _mm256_set1_epi32(STRIDE as i32);
        let other = _mm256_permutevar8x32_ps(a, _mm256_xor_si256(lanes, stride));
        let upper = _mm256_cmpeq_epi32(_mm256_and_si256(lanes, stride), stride);
        _mm256_blendv_ps(_mm256_add_ps(a, other), _mm256_sub_ps(other, a), _mm256_castsi256_ps(upper))
    }
}

/// Sum of eight lanes: halves are added until one is left.
#[inline(always)]
pub(super) unsafe fn sum(a: __m256) -> f32 {
    // SAFETY: only called by implementations that have AVX.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

/// Largest of eight lanes.
#[inline(always)]
pub(super) unsafe fn largest(a: __m256) -> f32 {
    // SAFETY: only called by implementations that have AVX.
    unsafe {
        let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

/// acc + Σⱼ u\[j\] · s\[j\] for each four bytes: u ≤ 128 unsigned and |s| ≤ 127, so that the sum of two
/// products stays within 16 bits (2 · 128 · 127 = 32512).
#[inline(always)]
unsafe fn dot(acc: __m256i, u: __m256i, s: __m256i) -> __m256i {
    // SAFETY: only called by `Avx2`, see there.
    unsafe {
        let pairs = _mm256_maddubs_epi16(u, s);
        _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}
