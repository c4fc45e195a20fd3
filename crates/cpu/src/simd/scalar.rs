//! Arrays of sixteen: the fallback, and the plainest reading of what each method means.

use super::Simd;
use half::{bf16, f16};

#[derive(Clone, Copy)]
pub(crate) struct Scalar;

#[inline(always)]
fn map<T: Copy, U>(a: [T; 16], f: impl Fn(T) -> U) -> [U; 16] {
    a.map(f)
}

#[inline(always)]
fn zip<T: Copy, U: Copy>(a: [T; 16], b: [T; 16], f: impl Fn(T, T) -> U) -> [U; 16] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn signed_bytes(x: i32) -> [i32; 4] {
    x.to_le_bytes().map(|b| i32::from(b as i8))
}

impl Simd for Scalar {
    type F = [f32; 16];
    type I = [i32; 16];
    type B = [u32; 16];
    const SIGNED_BIAS: i32 = 0;

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 16] {
        [value; 16]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 16] {
        // SAFETY: the caller gives 64 readable bytes.
        unsafe { from.cast::<[f32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: [f32; 16]) {
        // SAFETY: the caller gives 64 writable bytes.
        unsafe { to.cast::<[f32; 16]>().write_unaligned(value) };
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> [f32; 16] {
        // SAFETY: the caller gives 32 readable bytes.
        map(unsafe { from.cast::<[u16; 16]>().read_unaligned() }, |h| f16::from_bits(h).to_f32())
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> [f32; 16] {
        // SAFETY: the caller gives 32 readable bytes.
        map(unsafe { from.cast::<[u16; 16]>().read_unaligned() }, |h| bf16::from_bits(h).to_f32())
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        // Not mul_add: without the instruction that is a library call a lane.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn abs(a: [f32; 16]) -> [f32; 16] {
        map(a, f32::abs)
    }
    #[inline(always)]
    unsafe fn exp2i(n: [i32; 16]) -> [f32; 16] {
        map(n, |n| f32::from_bits(((n + 127) as u32) << 23))
    }

    #[inline(always)]
    unsafe fn splat_i(value: i32) -> [i32; 16] {
        [value; 16]
    }
    #[inline(always)]
    unsafe fn load_i(from: *const i32) -> [i32; 16] {
        // SAFETY: the caller gives 64 readable bytes.
        unsafe { from.cast::<[i32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_i(to: *mut i32, value: [i32; 16]) {
        // SAFETY: the caller gives 64 writable bytes.
        unsafe { to.cast::<[i32; 16]>().write_unaligned(value) };
    }
    #[inline(always)]
    unsafe fn store_low(to: *mut u8, value: [i32; 16]) {
        // SAFETY: the caller gives 16 writable bytes.
        unsafe { to.cast::<[u8; 16]>().write_unaligned(value.map(|lane| lane as u8)) };
    }
    #[inline(always)]
    unsafe fn add_i(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        zip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    unsafe fn mul_i(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        zip(a, b, i32::wrapping_mul)
    }
    #[inline(always)]
    unsafe fn to_f(a: [i32; 16]) -> [f32; 16] {
        map(a, |a| a as f32)
    }
    #[inline(always)]
    unsafe fn to_i(a: [f32; 16]) -> [i32; 16] {
        map(a, |a| a.round_ties_even() as i32)
    }

    #[inline(always)]
    unsafe fn load_b(from: *const u8) -> [u32; 16] {
        // SAFETY: the caller gives 64 readable bytes.
        map(unsafe { from.cast::<[u32; 16]>().read_unaligned() }, u32::from_le)
    }
    #[inline(always)]
    unsafe fn store_b(to: *mut u8, value: [u32; 16]) {
        // SAFETY: the caller gives 64 writable bytes.
        unsafe { to.cast::<[u32; 16]>().write_unaligned(map(value, u32::to_le)) };
    }
    #[inline(always)]
    unsafe fn splat_b(value: u8) -> [u32; 16] {
        [u32::from_ne_bytes([value; 4]); 16]
    }
    #[inline(always)]
    unsafe fn and(a: [u32; 16], b: [u32; 16]) -> [u32; 16] {
        zip(a, b, |a, b| a & b)
    }
    #[inline(always)]
    unsafe fn or(a: [u32; 16], b: [u32; 16]) -> [u32; 16] {
        zip(a, b, |a, b| a | b)
    }
    #[inline(always)]
    unsafe fn shr(a: [u32; 16], n: u32) -> [u32; 16] {
        map(a, |a| a >> n)
    }
    #[inline(always)]
    unsafe fn shl(a: [u32; 16], n: u32) -> [u32; 16] {
        map(a, |a| a << n)
    }
    #[inline(always)]
    unsafe fn byte(a: [u32; 16], k: u32) -> [i32; 16] {
        map(a, |a| ((a >> (8 * k)) & 0xff) as i32)
    }
    #[inline(always)]
    unsafe fn byte_signed(a: [u32; 16], k: u32) -> [i32; 16] {
        map(a, |a| i32::from((a >> (8 * k)) as i8))
    }
    #[inline(always)]
    unsafe fn lookup(table: &[i8; 16], indices: [u32; 16]) -> [u32; 16] {
        map(indices, |quad| u32::from_le_bytes(quad.to_le_bytes().map(|b| table[(b & 15) as usize] as u8)))
    }
    #[inline(always)]
    unsafe fn dot_u(acc: [i32; 16], w: [u32; 16], x: i32) -> [i32; 16] {
        let x = signed_bytes(x);
        std::array::from_fn(|r| {
            let w = w[r].to_le_bytes();
            acc[r] + (0..4).map(|j| i32::from(w[j]) * x[j]).sum::<i32>()
        })
    }
    #[inline(always)]
    unsafe fn dot_s(acc: [i32; 16], w: [u32; 16], x: i32) -> [i32; 16] {
        let x = signed_bytes(x);
        std::array::from_fn(|r| {
            let w = w[r].to_le_bytes();
            acc[r] + (0..4).map(|j| i32::from(w[j] as i8) * x[j]).sum::<i32>()
        })
    }
}
