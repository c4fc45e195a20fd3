//! Sixteen lanes, whatever the machine calls them.
//!
//! Every kernel of this crate is written once, over [`Simd`]: sixteen 32-bit lanes, one a weight row
//! of a tile (see `tile`). AVX-512 holds them in one register, AVX2 in two, NEON in four, the scalar
//! fallback in arrays. Floating-point results are the same bits on every implementation with fused
//! multiply-add, because lanes never mix except in [`Simd::sum`], whose order is fixed.
//!
//! A kernel is instantiated inside a function that enables the instruction set
//! (`#[target_feature]`); the trait's methods are `inline(always)` so that they take it over.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;

/// How far before its use a byte of weights is asked for. Decode is one pass over all weights, and the
/// processor's own prefetching stops at every 4 KiB page. Asking twice, first for a line that is not
/// to stay (it then does not push others down through the caches), was the fastest of what was
/// measured on a Zen 5 (`bench/NOTES.md`); the distances are not critical.
const NEAR: usize = 3 << 10;
/// The same for the first time of asking.
const FAR: usize = 8 << 10;

/// Sixteen lanes. All methods are unsafe for one common reason: the processor must have the
/// instruction set, which [`crate::Isa::detect`] has established before any kernel is chosen.
/// Methods that take pointers also need them valid for the bytes named.
pub(crate) trait Simd: Copy + 'static {
    /// 16 × f32.
    type F: Copy;
    /// 16 × i32.
    type I: Copy;
    /// 16 × 4 bytes.
    type B: Copy;
    /// What [`Simd::dot_s`] adds to a lane for each unit of the activations' sum: instruction sets
    /// that only multiply unsigned by signed bytes shift the weights by 128.
    const SIGNED_BIAS: i32;

    unsafe fn splat(value: f32) -> Self::F;
    /// 64 bytes.
    unsafe fn load(from: *const f32) -> Self::F;
    /// 64 bytes.
    unsafe fn store(to: *mut f32, value: Self::F);
    /// 16 half floats.
    unsafe fn load_f16(from: *const u16) -> Self::F;
    /// 16 brain floats.
    unsafe fn load_bf16(from: *const u16) -> Self::F;
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// a · b + c, rounded once where the machine can.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `b` where either is a quiet NaN.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// `b` where either is a quiet NaN.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn abs(a: Self::F) -> Self::F;
    /// 2^n for integral n in −126..=127.
    unsafe fn exp2i(n: Self::I) -> Self::F;

    unsafe fn splat_i(value: i32) -> Self::I;
    unsafe fn load_i(from: *const i32) -> Self::I;
    unsafe fn store_i(to: *mut i32, value: Self::I);
    /// The lowest byte of each lane: 16 bytes.
    unsafe fn store_low(to: *mut u8, value: Self::I);
    unsafe fn add_i(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn mul_i(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn to_f(a: Self::I) -> Self::F;
    /// Rounds to nearest even. What lies beyond an i32 becomes another number on every machine.
    unsafe fn to_i(a: Self::F) -> Self::I;

    /// 64 bytes.
    unsafe fn load_b(from: *const u8) -> Self::B;
    /// 64 bytes.
    unsafe fn store_b(to: *mut u8, value: Self::B);
    unsafe fn splat_b(value: u8) -> Self::B;
    unsafe fn and(a: Self::B, b: Self::B) -> Self::B;
    unsafe fn or(a: Self::B, b: Self::B) -> Self::B;
    /// Shifts each 32-bit lane right by `n`; bits cross byte borders, the caller masks.
    unsafe fn shr(a: Self::B, n: u32) -> Self::B;
    /// Shifts each 32-bit lane left by `n`; bits cross byte borders, the caller masks.
    unsafe fn shl(a: Self::B, n: u32) -> Self::B;
    /// Byte `k` (0..4) of each lane, zero-extended.
    unsafe fn byte(a: Self::B, k: u32) -> Self::I;
    /// Byte `k` (0..4) of each lane, sign-extended.
    unsafe fn byte_signed(a: Self::B, k: u32) -> Self::I;
    /// table\[b\] for bytes b < 16.
    unsafe fn lookup(table: &[i8; 16], indices: Self::B) -> Self::B;
    /// acc + Σⱼ w\[4r+j\] · x\[j\]: weights are bytes 0..=127 (unsigned), `x` four signed bytes, the
    /// same for all lanes.
    unsafe fn dot_u(acc: Self::I, w: Self::B, x: i32) -> Self::I;
    /// The same with signed weights, −127..=127 with −128 allowed. Adds
    /// −[`Simd::SIGNED_BIAS`] · Σⱼ x\[j\] too many: the caller starts the accumulator with
    /// `SIGNED_BIAS` · Σ x.
    unsafe fn dot_s(acc: Self::I, w: Self::B, x: i32) -> Self::I;

    /// Asks for the 64 bytes [`NEAR`] and those [`FAR`] after `at`, the latter as read once; any address
    /// is fine.
    #[inline(always)]
    fn prefetch(at: *const u8) {
        let (near, far) = (at.wrapping_add(NEAR), at.wrapping_add(FAR));
        #[cfg(target_arch = "x86_64")]
        // SAFETY: hints; they read nothing and SSE is part of the architecture.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_NTA, _MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(near.cast());
            _mm_prefetch::<_MM_HINT_NTA>(far.cast());
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: hints; they read nothing.
        unsafe {
            std::arch::asm!(
                "prfm pldl1strm, [{0}]",
                "prfm pldl2strm, [{1}]",
                in(reg) near,
                in(reg) far,
                options(nostack, readonly, preserves_flags)
            );
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let _ = (near, far);
    }

    /// Sum of the lanes: halves are added until one is left.
    #[inline(always)]
    unsafe fn sum(a: Self::F) -> f32 {
        let mut lanes = [0.0f32; 16];
        // SAFETY: the array holds 64 bytes.
        unsafe { Self::store(lanes.as_mut_ptr(), a) };
        let mut width = 8;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    }

    /// Largest of the lanes.
    #[inline(always)]
    unsafe fn largest(a: Self::F) -> f32 {
        let mut lanes = [0.0f32; 16];
        // SAFETY: the array holds 64 bytes.
        unsafe { Self::store(lanes.as_mut_ptr(), a) };
        lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    /// Lanes k and k + `STRIDE`, for k without that bit, become their sum and their difference; 1, 2, 4 or 8.
    #[inline(always)]
    unsafe fn butterfly<const STRIDE: usize>(a: Self::F) -> Self::F {
        let (mut before, mut lanes) = ([0.0f32; 16], [0.0f32; 16]);
        // SAFETY: the arrays hold 64 bytes.
        unsafe {
            Self::store(before.as_mut_ptr(), a);
            for (k, lane) in lanes.iter_mut().enumerate() {
                let (low, high) = (before[k & !STRIDE], before[k | STRIDE]);
                *lane = if k & STRIDE == 0 { low + high } else { low - high };
            }
            Self::load(lanes.as_ptr())
        }
    }

    /// eˣ with a relative error below 2e-7, for x in −87..=88; smaller gives e⁻⁸⁷ at most, larger e⁸⁸.
    ///
    /// x = n·ln 2 + r with |r| ≤ ½ ln 2 (n ln 2 subtracted in two parts, after Cody and Waite), eʳ by
    /// its Taylor polynomial of degree 7, times 2ⁿ.
    #[inline(always)]
    unsafe fn exp(x: Self::F) -> Self::F {
        // SAFETY: lanes only; see the trait.
        unsafe {
            let x = Self::min(Self::max(x, Self::splat(-87.0)), Self::splat(88.0));
            let n = Self::to_i(Self::mul(x, Self::splat(std::f32::consts::LOG2_E)));
            let nf = Self::to_f(n);
            let r = Self::fma(nf, Self::splat(-0.693_359_4), x);
            let r = Self::fma(nf, Self::splat(2.121_944_4e-4), r);
            let mut p = Self::splat(1.0 / 5040.0);
            for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
                p = Self::fma(p, r, Self::splat(c));
            }
            Self::mul(p, Self::exp2i(n))
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the same bits are what is promised")]
mod tests {
    use super::Simd;

    /// Every implementation the machine has, against plain arithmetic.
    #[test]
    fn implementations_agree() {
        check::<super::scalar::Scalar>();
        #[cfg(target_arch = "x86_64")]
        {
            if crate::Isa::Avx2.available() {
                check::<super::avx2::Avx2>();
                if is_x86_feature_detected!("avxvnni") {
                    check::<super::avx2::Avx2<true>>();
                }
            }
            if crate::Isa::Avx512.available() {
                check::<super::avx512::Avx512>();
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            check::<super::neon::Neon<false>>();
            if crate::Isa::NeonDot.available() {
                check::<super::neon::Neon<true>>();
            }
        }
    }

    /// The same pseudo-random program of trait calls on every implementation, against plain
    /// arithmetic with `mul_add`: the same bits, on this processor and on every other.
    #[test]
    fn programs_agree() {
        fn fused(a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        }
        for seed in 1..=40 {
            let want = program::<super::scalar::Scalar>(seed, fused);
            #[cfg(target_arch = "x86_64")]
            {
                use super::{avx2::Avx2, avx512::Avx512};
                if crate::Isa::Avx2.available() {
                    assert_eq!(program::<Avx2>(seed, <Avx2>::fma), want);
                    if is_x86_feature_detected!("avxvnni") {
                        assert_eq!(program::<Avx2<true>>(seed, Avx2::<true>::fma), want);
                    }
                }
                if crate::Isa::Avx512.available() {
                    assert_eq!(program::<Avx512>(seed, Avx512::fma), want);
                }
            }
            #[cfg(target_arch = "aarch64")]
            {
                use super::neon::Neon;
                assert_eq!(program::<Neon<false>>(seed, Neon::<false>::fma), want);
                if crate::Isa::NeonDot.available() {
                    assert_eq!(program::<Neon<true>>(seed, Neon::<true>::fma), want);
                }
            }
        }
    }

    /// Six hundred calls on four registers of each kind; the bits of what each call gave.
    fn program<V: Simd>(seed: u64, fma: unsafe fn(V::F, V::F, V::F) -> V::F) -> Vec<u32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u32
        };
        let table: [i8; 16] = std::array::from_fn(|_| random() as i8);
        // SAFETY: arrays of the sizes named; the caller checked the processor.
        unsafe {
            let clamp = |a: V::F, to: f32| V::min(V::max(a, V::splat(-to)), V::splat(to));
            let (mut f, mut i, mut b) = ([V::splat(1.5); 4], [V::splat_i(3); 4], [V::splat_b(7); 4]);
            let mut out = Vec::new();
            let mut memory = [0u32; 16];
            for _ in 0..600 {
                let (r, s, t) = (random() as usize % 4, random() as usize % 4, random() as usize % 4);
                let (lane, bits) = (random() % 4, random() % 25);
                let x: [i8; 4] = std::array::from_fn(|_| (random() as i8).max(-127));
                let packed = i32::from_le_bytes(x.map(|x| x as u8));
                // Fresh numbers now and then: without them all lanes end at the clamp.
                let fresh: [u32; 16] = std::array::from_fn(|_| random());
                match random() % 32 {
                    0 => f[r] = V::add(f[s], f[t]),
                    1 => f[r] = V::sub(f[s], f[t]),
                    2 => f[r] = V::mul(f[s], f[t]),
                    // 0 / 0 is the only NaN there can be.
                    3 => f[r] = V::div(f[s], f[t]),
                    4..=6 => f[r] = fma(f[r], f[s], f[t]),
                    7 => f[r] = V::max(f[s], f[t]),
                    8 => f[r] = V::min(f[s], f[t]),
                    9 => f[r] = V::abs(f[s]),
                    10 => f[r] = V::mul(f[r], V::exp2i(V::to_i(clamp(f[s], 126.0)))),
                    11 => f[r] = V::splat(V::sum(f[s])),
                    12 => f[r] = V::splat(V::largest(f[s])),
                    13 => {
                        // Without the highest bit of exponents there are no NaNs.
                        V::store_b(memory.as_mut_ptr().cast(), V::and(b[s], V::splat_b(0xbf)));
                        f[r] = V::load_f16(memory.as_ptr().cast());
                    }
                    14 => {
                        V::store(memory.as_mut_ptr().cast(), f[s]);
                        // Added to zero, a signalling NaN becomes a quiet one. The others are not
                        // promised anything: LLVM makes FMAXNM of a comparison with a constant.
                        f[r] = clamp(V::add(V::load_bf16(memory.as_ptr().cast()), V::splat(0.0)), 8.0);
                    }
                    15 => f[r] = V::mul(V::to_f(i[s]), V::splat(1e-6)),
                    16 => i[r] = V::to_i(f[s]),
                    17 => i[r] = V::add_i(i[s], i[t]),
                    18 => i[r] = V::mul_i(i[s], i[t]),
                    19 => {
                        let w = V::and(b[s], V::splat_b(127));
                        i[r] = V::dot_u(V::to_i(f[t]), w, packed);
                    }
                    20 => {
                        let total: i32 = x.iter().map(|&x| i32::from(x)).sum();
                        i[r] = V::add_i(V::to_i(f[t]), V::splat_i(V::SIGNED_BIAS * total));
                        i[r] = V::dot_s(i[r], b[s], packed);
                    }
                    21 => i[r] = V::byte(b[s], lane),
                    22 => i[r] = V::byte_signed(b[s], lane),
                    23 => b[r] = V::or(V::shr(b[s], bits), V::shl(b[t], 24 - bits)),
                    24 => b[r] = V::lookup(&table, V::and(b[s], V::splat_b(15))),
                    25 => {
                        V::store_i(memory.as_mut_ptr().cast(), i[s]);
                        b[r] = V::load_b(memory.as_ptr().cast());
                    }
                    26 | 27 => b[r] = V::load_b(fresh.as_ptr().cast()),
                    _ => {
                        let small = V::mul(V::to_f(V::load_i(fresh.as_ptr().cast())), V::splat(1e-8));
                        f[r] = V::div(small, V::exp2i(V::splat_i(random() as i32 % 12)));
                    }
                }
                f[r] = clamp(f[r], 1e6);
                V::store(memory.as_mut_ptr().cast(), f[r]);
                out.extend(memory);
                V::store_i(memory.as_mut_ptr().cast(), i[r]);
                out.extend(memory);
                V::store_b(memory.as_mut_ptr().cast(), b[r]);
                out.extend(memory);
            }
            out
        }
    }

    fn floats<V: Simd>(f: impl Fn() -> V::F) -> [f32; 16] {
        let mut out = [0.0; 16];
        // SAFETY: 64 bytes; the caller checked the processor.
        unsafe { V::store(out.as_mut_ptr(), f()) };
        out
    }

    fn ints<V: Simd>(f: impl Fn() -> V::I) -> [i32; 16] {
        let mut out = [0; 16];
        // SAFETY: 64 bytes; the caller checked the processor.
        unsafe { V::store_i(out.as_mut_ptr(), f()) };
        out
    }

    fn bytes<V: Simd>(f: impl Fn() -> V::B) -> [u8; 64] {
        let mut out = [0; 64];
        // SAFETY: 64 bytes; the caller checked the processor.
        unsafe { V::store_b(out.as_mut_ptr(), f()) };
        out
    }

    fn check<V: Simd>() {
        let w: [u8; 64] = std::array::from_fn(|i| ((i * 37 + 11) % 128) as u8);
        let s: [u8; 64] = std::array::from_fn(|i| (i * 91 + 130) as u8);
        let n: [u8; 64] = std::array::from_fn(|i| (i * 7 % 16) as u8);
        let f: [f32; 16] = std::array::from_fn(|i| (i as f32 - 7.3) * 1.37);
        let g: [f32; 16] = std::array::from_fn(|i| (i as f32 * 0.71 - 2.0).powi(3));
        let table: [i8; 16] = std::array::from_fn(|i| (i as i32 * 17 - 128) as i8);
        // SAFETY: arrays of the sizes named; the caller checked the processor.
        unsafe {
            let (vw, vs, vn) = (V::load_b(w.as_ptr()), V::load_b(s.as_ptr()), V::load_b(n.as_ptr()));
            let (vf, vg) = (V::load(f.as_ptr()), V::load(g.as_ptr()));
            for x in [[1i8, -2, 3, -127], [127, 127, 127, 127], [-127, -127, -127, -127], [0, 5, 0, -9]] {
                let packed = i32::from_le_bytes(x.map(|b| b as u8));
                let total: i32 = x.iter().map(|&b| i32::from(b)).sum();
                let want: [i32; 16] = std::array::from_fn(|r| {
                    100 + (0..4).map(|j| i32::from(w[4 * r + j]) * i32::from(x[j])).sum::<i32>()
                });
                assert_eq!(ints::<V>(|| V::dot_u(V::splat_i(100), vw, packed)), want);
                let want: [i32; 16] = std::array::from_fn(|r| {
                    (0..4).map(|j| i32::from(s[4 * r + j] as i8) * i32::from(x[j])).sum::<i32>()
                });
                let start = V::splat_i(V::SIGNED_BIAS * total);
                assert_eq!(ints::<V>(|| V::dot_s(start, vs, packed)), want);
            }
            for k in 0..4 {
                let want: [i32; 16] = std::array::from_fn(|r| i32::from(s[4 * r + k]));
                assert_eq!(ints::<V>(|| V::byte(vs, k as u32)), want);
                let want: [i32; 16] = std::array::from_fn(|r| i32::from(s[4 * r + k] as i8));
                assert_eq!(ints::<V>(|| V::byte_signed(vs, k as u32)), want);
            }
            let lane = |b: &[u8; 64], r: usize| {
                u32::from_le_bytes([b[4 * r], b[4 * r + 1], b[4 * r + 2], b[4 * r + 3]])
            };
            for shift in [0, 1, 2, 4, 6] {
                let right = bytes::<V>(|| V::shr(vs, shift));
                let left = bytes::<V>(|| V::shl(vs, shift));
                for r in 0..16 {
                    assert_eq!(lane(&right, r), lane(&s, r) >> shift);
                    assert_eq!(lane(&left, r), lane(&s, r) << shift);
                }
            }
            assert_eq!(bytes::<V>(|| V::and(vw, vs)), std::array::from_fn(|i| w[i] & s[i]));
            assert_eq!(bytes::<V>(|| V::or(vw, vs)), std::array::from_fn(|i| w[i] | s[i]));
            assert_eq!(bytes::<V>(|| V::splat_b(0x5a)), [0x5a; 64]);
            assert_eq!(
                bytes::<V>(|| V::lookup(&table, vn)),
                std::array::from_fn(|i| table[n[i] as usize] as u8)
            );
            assert_eq!(floats::<V>(|| V::add(vf, vg)), std::array::from_fn(|i| f[i] + g[i]));
            assert_eq!(floats::<V>(|| V::sub(vf, vg)), std::array::from_fn(|i| f[i] - g[i]));
            assert_eq!(floats::<V>(|| V::mul(vf, vg)), std::array::from_fn(|i| f[i] * g[i]));
            assert_eq!(floats::<V>(|| V::div(vf, vg)), std::array::from_fn(|i| f[i] / g[i]));
            assert_eq!(floats::<V>(|| V::max(vf, vg)), std::array::from_fn(|i| f[i].max(g[i])));
            assert_eq!(floats::<V>(|| V::min(vf, vg)), std::array::from_fn(|i| f[i].min(g[i])));
            assert_eq!(floats::<V>(|| V::abs(vf)), std::array::from_fn(|i| f[i].abs()));
            assert_eq!(floats::<V>(|| V::splat(2.5)), [2.5; 16]);
            let fused = floats::<V>(|| V::fma(vf, vg, V::splat(0.1)));
            for i in 0..16 {
                assert!((fused[i] - f[i].mul_add(g[i], 0.1)).abs() <= 1e-6 * (1.0 + fused[i].abs()));
            }
            let halves = [
                0.5f32, 1.5, 2.5, -0.5, -1.5, -2.5, 3.49, -3.51, 0.0, 126.5, -126.5, 1e3, -1e3, 7.0, 8.5, 9.5,
            ];
            let want: [i32; 16] = std::array::from_fn(|i| halves[i].round_ties_even() as i32);
            assert_eq!(ints::<V>(|| V::to_i(V::load(halves.as_ptr()))), want);
            let i: [i32; 16] = std::array::from_fn(|i| i as i32 * 16 - 120);
            let vi = V::load_i(i.as_ptr());
            assert_eq!(floats::<V>(|| V::to_f(vi)), std::array::from_fn(|k| i[k] as f32));
            assert_eq!(floats::<V>(|| V::exp2i(vi)), std::array::from_fn(|k| 2f32.powi(i[k])));
            assert_eq!(ints::<V>(|| V::add_i(vi, V::splat_i(3))), std::array::from_fn(|k| i[k] + 3));
            assert_eq!(ints::<V>(|| V::mul_i(vi, vi)), std::array::from_fn(|k| i[k] * i[k]));
            let mut low = [7u8; 17];
            V::store_low(low.as_mut_ptr(), V::load_i(i.map(|i| i * 0x0101_0101).as_ptr()));
            assert_eq!(low[..16], i.map(|i| i as u8));
            assert_eq!(low[16], 7, "more than sixteen bytes");
            let pairs =
                |stride: usize| -> [f32; 16] {
                    std::array::from_fn(|k| {
                        if k & stride == 0 { f[k] + f[k + stride] } else { f[k - stride] - f[k] }
                    })
                };
            assert_eq!(floats::<V>(|| V::butterfly::<1>(vf)), pairs(1));
            assert_eq!(floats::<V>(|| V::butterfly::<2>(vf)), pairs(2));
            assert_eq!(floats::<V>(|| V::butterfly::<4>(vf)), pairs(4));
            assert_eq!(floats::<V>(|| V::butterfly::<8>(vf)), pairs(8));
            let h: [u16; 16] = std::array::from_fn(|k| half::f16::from_f32(g[k]).to_bits());
            let back = floats::<V>(|| V::load_f16(h.as_ptr()));
            assert_eq!(back, std::array::from_fn(|k| half::f16::from_bits(h[k]).to_f32()));
            let back = floats::<V>(|| V::load_bf16(h.as_ptr()));
            assert_eq!(back, std::array::from_fn(|k| half::bf16::from_bits(h[k]).to_f32()));
            let mut tree = g;
            for width in [8, 4, 2, 1] {
                for k in 0..width {
                    tree[k] += tree[k + width];
                }
            }
            assert_eq!(V::sum(vg), tree[0]);
            assert_eq!(V::largest(vg), g.iter().copied().fold(f32::MIN, f32::max));
            for step in -870..=880 {
                let x = step as f32 / 10.0;
                let (got, want) = (floats::<V>(|| V::exp(V::splat(x)))[3], f64::from(x).exp());
                assert!((f64::from(got) / want - 1.0).abs() < 3e-7, "exp({x}) = {got}, not {want}");
            }
        }
    }
}
