// What every kernel is written in: names for threads, warp collectives, loads, integer and half
// arithmetic. The only file with PTX; under EMULATED the same names come from emulator/emulated.h, so that
// every kernel also runs on a machine without a GPU. Header-free: NVRTC and nvcc compile it alike.
#pragma once

using i8 = signed char;
using u8 = unsigned char;
using u16 = unsigned short;
using i16 = short;
using u32 = unsigned int;
using i32 = int;
using u64 = unsigned long long;

// Four words, loaded and stored at once.
struct alignas(16) Words4 {
    u32 x, y, z, w;
};
struct alignas(8) Words2 {
    u32 x, y;
};
struct alignas(16) Floats4 {
    float x, y, z, w;
};
struct alignas(8) Floats2 {
    float x, y;
};
// Accumulators of one mma tile: (row g, columns 2t and 2t+1), (row g+8, the same columns), g = lane/4, t = lane%4.
struct F32x4 {
    float x, y, z, w;
};
struct I32x4 {
    i32 x, y, z, w;
};

#ifdef EMULATED
#include "emulated.h"
#else

#define DEVICE __device__ __forceinline__
// The same for members of a struct, where the emulator's DEVICE, which is static, has no place.
#define METHOD __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")
// A kernel of one by-value argument `a`; `threads` a block at most, `blocks` of them at least on one SM.
#define KERNEL(name, Args, threads, blocks)                                                                            \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ Args a)

// ---- who am I -------------------------------------------------------------------------------------------

DEVICE u32 tid() { return threadIdx.x; }
DEVICE u32 threads() { return blockDim.x; }
DEVICE u32 lane() { return threadIdx.x & 31; }
DEVICE u32 warp() { return threadIdx.x >> 5; }
DEVICE u32 block_x() { return blockIdx.x; }
DEVICE u32 block_y() { return blockIdx.y; }
DEVICE u32 block_z() { return blockIdx.z; }
DEVICE u32 blocks_x() { return gridDim.x; }
DEVICE u32 blocks_y() { return gridDim.y; }

// Dynamic shared memory at a byte offset; 16-byte aligned if the offset is.
extern __shared__ Words4 shared_words[];
template <typename T> DEVICE T *shared(u32 offset) { return reinterpret_cast<T *>(reinterpret_cast<u8 *>(shared_words) + offset); }

// ---- meeting --------------------------------------------------------------------------------------------

DEVICE void sync_block() { __syncthreads(); }
DEVICE void sync_warp() { __syncwarp(); }
// Meeting of some of a block's warps: `id` from 1 to 15, `count` threads in all.
DEVICE void sync_some(u32 id, u32 count) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory"); }
template <typename T> DEVICE T shfl_xor(T value, u32 mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
template <typename T> DEVICE T shfl(T value, u32 from) { return __shfl_sync(0xffffffffu, value, from); }
DEVICE u32 vote(bool value) { return __ballot_sync(0xffffffffu, value); }
// The largest of 32 lanes' numbers, in one instruction.
DEVICE u32 warp_most(u32 value) {
    u32 most;
    asm volatile("redux.sync.max.u32 %0, %1, 0xffffffff;" : "=r"(most) : "r"(value));
    return most;
}
DEVICE void thread_fence() { __threadfence(); }
DEVICE u32 atomic_add(u32 *at, u32 value) { return atomicAdd(at, value); }
DEVICE u64 atomic_max(u64 *at, u64 value) { return atomicMax(at, value); }

// Programmatic dependent launch: wait for the kernel before this one; let the one behind start. On parts
// older than sm_90 kernels of a stream follow each other anyway.
DEVICE void pdl_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
DEVICE void pdl_launch() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- loads ----------------------------------------------------------------------------------------------

// Weights: read once, never written by a kernel, not kept in L1.
DEVICE Words4 load_stream(const Words4 *at) {
    Words4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(at));
    return v;
}
DEVICE Words2 load_stream(const Words2 *at) {
    Words2 v;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(at));
    return v;
}
DEVICE u32 load_stream(const u32 *at) {
    u32 v;
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(at));
    return v;
}
DEVICE u16 load_stream(const u16 *at) {
    u16 v;
    asm volatile("ld.global.nc.L1::no_allocate.u16 %0, [%1];" : "=h"(v) : "l"(at));
    return v;
}
// Written by other blocks of the same launch: past the L1.
DEVICE float load_fresh(const float *at) {
    float v;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(at) : "memory");
    return v;
}
DEVICE Floats4 load_fresh(const Floats4 *at) {
    Floats4 v;
    asm volatile("ld.global.cg.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(at) : "memory");
    return v;
}

// The value, of which the compiler forgets everything: what is added to it stays an offset of loads and stores
// instead of becoming a register of its own.
DEVICE u32 opaque(u32 value) {
    asm volatile("" : "+r"(value));
    return value;
}
DEVICE u32 shared_address(const void *at) { return static_cast<u32>(__cvta_generic_to_shared(at)); }
// Sixteen bytes from global to shared memory, in the background; zeros if `take` is false.
DEVICE void copy_async(void *to, const void *from, bool take = true) {
    u32 bytes = take ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most N of this thread's groups are under way.
template <int N> DEVICE void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// Four 8x8 matrices of halves; lane 8m+r gives the address of row r of matrix m (16 bytes).
DEVICE Words4 load_matrices(const void *row) {
    Words4 v;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(shared_address(row))
                 : "memory");
    return v;
}

// The same by number: what shared memory's byte `offset` is called, and accesses to it. Sums with constants
// then become offsets of the instruction, see `opaque`.
DEVICE u32 shared_number(u32 offset) { return shared_address(shared_words) + offset; }
DEVICE void copy_async(u32 to, const void *from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
DEVICE Words4 load_matrices(u32 row) {
    Words4 v;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(row)
                 : "memory");
    return v;
}
DEVICE void load_number(u32 at, Words4 &v) {
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(at) : "memory");
}
DEVICE void load_number(u32 at, Words2 &v) {
    asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(at) : "memory");
}
DEVICE void load_number(u32 at, u16 &v) { asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(at) : "memory"); }

// ---- integers -------------------------------------------------------------------------------------------

// c + four products of unsigned bytes of a and signed bytes of b.
DEVICE i32 dot4_us(u32 a, u32 b, i32 c) {
    i32 d;
    asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
// c + four products of signed bytes.
DEVICE i32 dot4_ss(u32 a, u32 b, i32 c) {
    i32 d;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
// c + a.lo·b.byte0 + a.hi·b.byte1: signed 16-bit halves of a, unsigned bytes of b.
DEVICE i32 dot2_su_lo(u32 a, u32 b, i32 c) {
    i32 d;
    asm("dp2a.lo.s32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
// c + a.lo·b.byte2 + a.hi·b.byte3.
DEVICE i32 dot2_su_hi(u32 a, u32 b, i32 c) {
    i32 d;
    asm("dp2a.hi.s32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
// c + a.lo·b.byte0 + a.hi·b.byte1, bytes signed too.
DEVICE i32 dot2_ss_lo(u32 a, u32 b, i32 c) {
    i32 d;
    asm("dp2a.lo.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
DEVICE i32 dot2_ss_hi(u32 a, u32 b, i32 c) {
    i32 d;
    asm("dp2a.hi.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
// The word turned left by `count` bits (modulo 32).
DEVICE u32 rotate_left(u32 word, u32 count) { return __funnelshift_l(word, word, count); }
// Bytes picked from the eight of a (0..3) and b (4..7) by the nibbles of `pick`.
DEVICE u32 pick_bytes(u32 a, u32 b, u32 pick) { return __byte_perm(a, b, pick); }

// (a & mask) | more and (a & mask) ^ more as one instruction each: with two constants the compiler makes two.
DEVICE u32 and_or(u32 a, u32 mask, u32 more) {
    u32 d;
    asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(d) : "r"(a), "r"(mask), "r"(more));
    return d;
}
DEVICE u32 and_xor(u32 a, u32 mask, u32 more) {
    u32 d;
    asm("lop3.b32 %0, %1, %2, %3, 0x6A;" : "=r"(d) : "r"(a), "r"(mask), "r"(more));
    return d;
}

// d = A·B + d for 16 rows of 32 unsigned bytes and 8 columns of 32 signed bytes.
DEVICE void mma_us(I32x4 &d, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(d.x), "+r"(d.y), "+r"(d.z), "+r"(d.w)
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
DEVICE void mma_ss(I32x4 &d, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(d.x), "+r"(d.y), "+r"(d.z), "+r"(d.w)
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// d = A·B + d for 16 rows of 16 signed bytes (a0: row g, a1: row g+8) and 8 columns of 16 signed bytes.
DEVICE void mma_ss_k16(I32x4 &d, u32 a0, u32 a1, u32 b0) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+r"(d.x), "+r"(d.y), "+r"(d.z), "+r"(d.w)
                 : "r"(a0), "r"(a1), "r"(b0));
}
// d = A·B + d for 16 rows and 8 columns of 16 halves.
DEVICE void mma_f16(F32x4 &d, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d.x), "+f"(d.y), "+f"(d.z), "+f"(d.w)
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// ---- halves: u16 holds one, u32 two (first in the low bits) --------------------------------------------

DEVICE float half_to_float(u16 h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}
DEVICE u16 float_to_half(float f) {
    u16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}
DEVICE u32 floats_to_halves(float lo, float hi) {
    u32 d;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
    return d;
}
DEVICE u32 halves_fma(u32 a, u32 b, u32 c) {
    u32 d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
DEVICE u32 halves_add(u32 a, u32 b) {
    u32 d;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}
DEVICE u32 halves_mul(u32 a, u32 b) {
    u32 d;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}
// One half of a pair twice. Written as moves: arithmetic on halves then reads the half where it is.
DEVICE u32 half_twice(u32 pair) {
    u32 d;
    asm("{.reg .b16 lo, hi; mov.b32 {lo, hi}, %1; mov.b32 %0, {lo, lo};}" : "=r"(d) : "r"(pair));
    return d;
}
DEVICE u32 half_high_twice(u32 pair) {
    u32 d;
    asm("{.reg .b16 lo, hi; mov.b32 {lo, hi}, %1; mov.b32 %0, {hi, hi};}" : "=r"(d) : "r"(pair));
    return d;
}

// ---- floats ---------------------------------------------------------------------------------------------

DEVICE float bits_to_float(u32 bits) { return __uint_as_float(bits); }
DEVICE u32 float_to_bits(float f) { return __float_as_uint(f); }
// 2^x to about two units in the last place.
DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// 1/x to about one unit in the last place.
DEVICE float reciprocal_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// The nearest integer, ties to even.
DEVICE i32 round_to_int(float x) { return __float2int_rn(x); }

// ---- what must come out the same everywhere -------------------------------------------------------------

// Product and sum, each rounded to nearest: never contracted into one rounding.
DEVICE float mul_rn(float a, float b) { return __fmul_rn(a, b); }
DEVICE float add_rn(float a, float b) { return __fadd_rn(a, b); }
// Upper half of the 128-bit product.
DEVICE u64 mul_high(u64 a, u64 b) { return __umul64hi(a, b); }
DEVICE u32 load_fresh(const u32 *at) {
    u32 v;
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(v) : "l"(at) : "memory");
    return v;
}
DEVICE u64 load_fresh(const u64 *at) {
    u64 v;
    asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(v) : "l"(at) : "memory");
    return v;
}
DEVICE u64 atomic_add(u64 *at, u64 value) { return atomicAdd(at, value); }
DEVICE u32 atomic_max(u32 *at, u32 value) { return atomicMax(at, value); }
// Writes where the host reads, after everything this thread wrote before.
DEVICE void publish(u64 *at, u64 value) {
    __threadfence_system();
    asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(at), "l"(value) : "memory");
}

#endif // EMULATED

// ---- built from the above -------------------------------------------------------------------------------

DEVICE float half_low(u32 pair) { return half_to_float(static_cast<u16>(pair)); }
DEVICE float half_high(u32 pair) { return half_to_float(static_cast<u16>(pair >> 16)); }

// Sum and maximum over the 32 lanes; every lane gets the same.
DEVICE float warp_sum(float value) {
    UNROLL for (u32 mask = 16; mask > 0; mask >>= 1) value += shfl_xor(value, mask);
    return value;
}
DEVICE float warp_max(float value) {
    UNROLL for (u32 mask = 16; mask > 0; mask >>= 1) {
        float other = shfl_xor(value, mask);
        value = other > value ? other : value;
    }
    return value;
}
