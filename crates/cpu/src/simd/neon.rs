//! NEON: the sixteen lanes are four registers.

use super::Simd;
#[allow(clippy::wildcard_imports, reason = "intrinsics carry their prefix")]
use std::arch::aarch64::*;
use std::arch::asm;

/// `DOT`: with the byte dot product of Armv8.2 (Cortex-A76 and later). The rest is in every 64-bit Arm.
#[derive(Clone, Copy)]
pub(crate) struct Neon<const DOT: bool>;

#[inline(always)]
fn map<T: Copy, U>(a: [T; 4], f: impl Fn(T) -> U) -> [U; 4] {
    [f(a[0]), f(a[1]), f(a[2]), f(a[3])]
}

#[inline(always)]
fn zip<T: Copy, U: Copy, R>(a: [T; 4], b: [U; 4], f: impl Fn(T, U) -> R) -> [R; 4] {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

// SAFETY (all blocks below): every 64-bit Arm has NEON; where `DOT`, `Isa::detect` has established the
// dot product before a kernel over `Neon` is chosen; pointers are the caller's promise.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, stated above")]
impl<const DOT: bool> Simd for Neon<DOT> {
    type F = [float32x4_t; 4];
    type I = [int32x4_t; 4];
    type B = [uint8x16_t; 4];
    const SIGNED_BIAS: i32 = 0;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::F {
        unsafe { [vdupq_n_f32(value); 4] }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::F {
        map([0, 4, 8, 12], |i| unsafe { vld1q_f32(from.add(i)) })
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: Self::F) {
        zip([0, 4, 8, 12], value, |i, v| unsafe { vst1q_f32(to.add(i), v) });
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::F {
        unsafe {
            let (a, b) = (vld1q_u16(from), vld1q_u16(from.add(8)));
            [from_f16_low(a), from_f16_high(a), from_f16_low(b), from_f16_high(b)]
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self::F {
        map([0, 4, 8, 12], |i| unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.add(i)))) })
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| unsafe { vdivq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe {
            [
                vfmaq_f32(c[0], a[0], b[0]),
                vfmaq_f32(c[1], a[1], b[1]),
                vfmaq_f32(c[2], a[2], b[2]),
                vfmaq_f32(c[3], a[3], b[3]),
            ]
        }
    }
    // Compared and selected: neither FMAX (NaN where either is) nor FMAXNM (the number where one is)
    // does what x86 does.
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }
    #[inline(always)]
    unsafe fn abs(a: Self::F) -> Self::F {
        map(a, |a| unsafe { vabsq_f32(a) })
    }
    #[inline(always)]
    unsafe fn exp2i(n: Self::I) -> Self::F {
        map(n, |n| unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127)))) })
    }

    #[inline(always)]
    unsafe fn splat_i(value: i32) -> Self::I {
        unsafe { [vdupq_n_s32(value); 4] }
    }
    #[inline(always)]
    unsafe fn load_i(from: *const i32) -> Self::I {
        map([0, 4, 8, 12], |i| unsafe { vld1q_s32(from.add(i)) })
    }
    #[inline(always)]
    unsafe fn store_i(to: *mut i32, value: Self::I) {
        zip([0, 4, 8, 12], value, |i, v| unsafe { vst1q_s32(to.add(i), v) });
    }
    #[inline(always)]
    unsafe fn store_low(to: *mut u8, value: Self::I) {
        unsafe {
            let low = vcombine_s16(vmovn_s32(value[0]), vmovn_s32(value[1]));
            let high = vcombine_s16(vmovn_s32(value[2]), vmovn_s32(value[3]));
            vst1q_s8(to.cast(), vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
        }
    }
    #[inline(always)]
    unsafe fn sum(a: Self::F) -> f32 {
        unsafe {
            let four = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
    #[inline(always)]
    unsafe fn largest(a: Self::F) -> f32 {
        unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(a[0], a[2]), vmaxq_f32(a[1], a[3]))) }
    }
    #[inline(always)]
    unsafe fn add_i(a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, |a, b| unsafe { vaddq_s32(a, b) })
    }
    #[inline(always)]
    unsafe fn mul_i(a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, |a, b| unsafe { vmulq_s32(a, b) })
    }
    #[inline(always)]
    unsafe fn to_f(a: Self::I) -> Self::F {
        map(a, |a| unsafe { vcvtq_f32_s32(a) })
    }
    #[inline(always)]
    unsafe fn to_i(a: Self::F) -> Self::I {
        map(a, |a| unsafe { vcvtnq_s32_f32(a) })
    }

    #[inline(always)]
    unsafe fn load_b(from: *const u8) -> Self::B {
        map([0, 16, 32, 48], |i| unsafe { vld1q_u8(from.add(i)) })
    }
    #[inline(always)]
    unsafe fn store_b(to: *mut u8, value: Self::B) {
        zip([0, 16, 32, 48], value, |i, v| unsafe { vst1q_u8(to.add(i), v) });
    }
    #[inline(always)]
    unsafe fn splat_b(value: u8) -> Self::B {
        unsafe { [vdupq_n_u8(value); 4] }
    }
    #[inline(always)]
    unsafe fn and(a: Self::B, b: Self::B) -> Self::B {
        zip(a, b, |a, b| unsafe { vandq_u8(a, b) })
    }
    #[inline(always)]
    unsafe fn or(a: Self::B, b: Self::B) -> Self::B {
        zip(a, b, |a, b| unsafe { vorrq_u8(a, b) })
    }
    #[inline(always)]
    unsafe fn shr(a: Self::B, n: u32) -> Self::B {
        map(a, |a| unsafe { shift(a, -(n as i32)) })
    }
    #[inline(always)]
    unsafe fn shl(a: Self::B, n: u32) -> Self::B {
        map(a, |a| unsafe { shift(a, n as i32) })
    }
    #[inline(always)]
    unsafe fn byte(a: Self::B, k: u32) -> Self::I {
        map(a, |a| unsafe {
            let low = vreinterpretq_s32_u8(shift(a, -8 * k as i32));
            vandq_s32(low, vdupq_n_s32(0xff))
        })
    }
    #[inline(always)]
    unsafe fn byte_signed(a: Self::B, k: u32) -> Self::I {
        map(a, |a| unsafe { vshrq_n_s32::<24>(vreinterpretq_s32_u8(shift(a, 24 - 8 * k as i32))) })
    }
    #[inline(always)]
    unsafe fn lookup(table: &[i8; 16], indices: Self::B) -> Self::B {
        let table = unsafe { vreinterpretq_u8_s8(vld1q_s8(table.as_ptr())) };
        map(indices, |i| unsafe { vqtbl1q_u8(table, i) })
    }
    #[inline(always)]
    unsafe fn dot_u(acc: Self::I, w: Self::B, x: i32) -> Self::I {
        // Weights up to 127 are their own signed reading.
        unsafe { Self::dot_s(acc, w, x) }
    }
    #[inline(always)]
    unsafe fn dot_s(acc: Self::I, w: Self::B, x: i32) -> Self::I {
        if DOT {
            let x = f32::from_bits(x as u32);
            zip(acc, w, |acc, w| unsafe { dot(acc, w, x) })
        } else {
            let x = unsafe { vreinterpretq_s8_s32(vdupq_n_s32(x)) };
            zip(acc, w, |acc, w| unsafe { dot_by_products(acc, vreinterpretq_s8_u8(w), x) })
        }
    }
}

/// Each 32-bit lane shifted left by `n`, right where it is negative.
#[inline(always)]
unsafe fn shift(a: uint8x16_t, n: i32) -> uint8x16_t {
    // SAFETY: registers only.
    unsafe { vreinterpretq_u8_u32(vshlq_u32(vreinterpretq_u32_u8(a), vdupq_n_s32(n))) }
}

/// Four half floats of the lower half. An instruction by name, as the compiler's function for it is
/// newer than the compiler this crate asks for; the same holds for those below.
#[inline(always)]
unsafe fn from_f16_low(h: uint16x8_t) -> float32x4_t {
    let out: float32x4_t;
    // SAFETY: registers only; in every 64-bit Arm.
    unsafe {
        asm!("fcvtl {out:v}.4s, {h:v}.4h", out = lateout(vreg) out, h = in(vreg) h,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

#[inline(always)]
unsafe fn from_f16_high(h: uint16x8_t) -> float32x4_t {
    let out: float32x4_t;
    // SAFETY: registers only; in every 64-bit Arm.
    unsafe {
        asm!("fcvtl2 {out:v}.4s, {h:v}.8h", out = lateout(vreg) out, h = in(vreg) h,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// The dot product of four bytes each with the four of `x`. These are asked for as a float because the
/// instruction takes them from a vector register's first lane, where a load can put them directly.
#[inline(always)]
unsafe fn dot(acc: int32x4_t, w: uint8x16_t, x: f32) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: registers only; the processor has the instruction, see the trait. The directive is for
    // the assembler, which otherwise refuses it in functions not compiled for such a processor.
    unsafe {
        asm!(".arch_extension dotprod", "sdot {acc:v}.4s, {w:v}.16b, {x:v}.4b[0]",
            acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// The same without that instruction. The sum of two products fits 16 bits: |x| ≤ 127, |w| ≤ 128.
#[inline(always)]
unsafe fn dot_by_products(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers only.
    unsafe {
        let low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
        let high = vmull_high_s8(w, x);
        vpadalq_s16(acc, vpaddq_s16(low, high))
    }
}
