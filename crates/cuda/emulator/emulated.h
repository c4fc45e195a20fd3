// The prelude's names on a machine without a GPU: every thread of a block is a fiber, warp collectives
// are meetings of 32 fibers (fibers.cpp). Slow, deterministic, and it notices threads that do not meet.
// It does not notice races: compute-sanitizer does, on a GPU.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#define DEVICE static inline
#define METHOD inline
#define UNROLL
#define NO_UNROLL
#define KERNEL(name, Args, threads, blocks)                                                                            \
    static void name(const Args &a);                                                                                   \
    static const emulated::Registered registered_##name{#name, sizeof(Args), threads,                                  \
                                                        [](const void *args) { name(*static_cast<const Args *>(args)); }}; \
    static void name(const Args &a)

namespace emulated {

// What 32 lanes lay down at a meeting.
struct Slot {
    alignas(16) unsigned char bytes[32];
};

struct Copy {
    void *to;
    const void *from;
    bool take;
};

struct Fiber {
    void *stack_pointer;
    u32 index;
    u32 meetings; // of its warp so far: parity chooses the set of slots
    bool done;
    std::vector<std::vector<Copy>> *copies; // groups of cp.async not yet waited for; the last is open
};

// Everything a fiber may ask for; one block runs at a time on a thread of the system.
struct Block {
    u32 x, y, z, gx, gy, gz, threads;
    unsigned char *shared;
    u32 shared_bytes;
};

extern thread_local Fiber *self;
extern thread_local Block block;

struct Registered {
    Registered(const char *name, unsigned args_bytes, unsigned threads, void (*run)(const void *));
};

void meet_block();
void meet_some(u32 id, u32 count);
// Lays `bytes` down, waits for the warp, and gives the slots of all 32 lanes.
const Slot *meet_warp(const void *bytes, size_t count);

template <typename T> const Slot *lay(const T &value) {
    static_assert(sizeof(T) <= sizeof(Slot), "fits a slot");
    return meet_warp(&value, sizeof(T));
}
template <typename T> T read(const Slot &slot) {
    T value;
    std::memcpy(&value, slot.bytes, sizeof(T));
    return value;
}

float half_value(u16 h);
u16 half_bits(float f);
[[noreturn]] void fail(const char *why);

} // namespace emulated

DEVICE u32 tid() { return emulated::self->index; }
DEVICE u32 threads() { return emulated::block.threads; }
DEVICE u32 lane() { return emulated::self->index & 31; }
DEVICE u32 warp() { return emulated::self->index >> 5; }
DEVICE u32 block_x() { return emulated::block.x; }
DEVICE u32 block_y() { return emulated::block.y; }
DEVICE u32 block_z() { return emulated::block.z; }
DEVICE u32 blocks_x() { return emulated::block.gx; }
DEVICE u32 blocks_y() { return emulated::block.gy; }
template <typename T> DEVICE T *shared(u32 offset) {
    if (offset > emulated::block.shared_bytes) emulated::fail("shared memory asked for beyond the launch's");
    return reinterpret_cast<T *>(emulated::block.shared + offset);
}

DEVICE void sync_block() { emulated::meet_block(); }
DEVICE void sync_some(u32 id, u32 count) { emulated::meet_some(id, count); }
DEVICE void sync_warp() { emulated::meet_warp(nullptr, 0); }
template <typename T> DEVICE T shfl_xor(T value, u32 mask) { return emulated::read<T>(emulated::lay(value)[lane() ^ mask]); }
template <typename T> DEVICE T shfl(T value, u32 from) { return emulated::read<T>(emulated::lay(value)[from & 31]); }
DEVICE u32 vote(bool value) {
    const emulated::Slot *slots = emulated::lay(value);
    u32 bits = 0;
    for (u32 i = 0; i < 32; i++) bits |= static_cast<u32>(emulated::read<bool>(slots[i])) << i;
    return bits;
}
DEVICE u32 warp_most(u32 value) {
    const emulated::Slot *slots = emulated::lay(value);
    u32 most = 0;
    for (u32 i = 0; i < 32; i++) most = std::max(most, emulated::read<u32>(slots[i]));
    return most;
}
DEVICE void thread_fence() {}
DEVICE u32 atomic_add(u32 *at, u32 value) {
    u32 old = *at;
    *at += value;
    return old;
}
DEVICE u64 atomic_max(u64 *at, u64 value) {
    u64 old = *at;
    if (value > old) *at = value;
    return old;
}
DEVICE void pdl_wait() {}
DEVICE void pdl_launch() {}

namespace emulated {
template <typename T> T aligned(const T *at) {
    if (reinterpret_cast<uintptr_t>(at) % alignof(T) != 0) fail("a load that is not aligned");
    return *at;
}
} // namespace emulated
DEVICE Words4 load_stream(const Words4 *at) { return emulated::aligned(at); }
DEVICE Words2 load_stream(const Words2 *at) { return emulated::aligned(at); }
DEVICE u32 load_stream(const u32 *at) { return emulated::aligned(at); }
DEVICE u16 load_stream(const u16 *at) { return emulated::aligned(at); }
DEVICE float load_fresh(const float *at) { return emulated::aligned(at); }
DEVICE Floats4 load_fresh(const Floats4 *at) { return emulated::aligned(at); }
DEVICE u32 opaque(u32 value) { return value; }

// Copies happen when they are waited for, so that a kernel that forgets to wait reads poison.
DEVICE void copy_async(void *to, const void *from, bool take = true) {
    if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || (take && reinterpret_cast<uintptr_t>(from) % 16 != 0))
        emulated::fail("cp.async of 16 bytes that are not aligned");
    emulated::self->copies->back().push_back({to, from, take});
}
DEVICE void copy_commit() { emulated::self->copies->emplace_back(); }
template <int N> DEVICE void copy_wait() {
    auto &groups = *emulated::self->copies;
    while (groups.size() > N + 1) {
        for (const emulated::Copy &copy : groups.front()) {
            if (copy.take) std::memcpy(copy.to, copy.from, 16);
            else std::memset(copy.to, 0, 16);
        }
        groups.erase(groups.begin());
    }
}
DEVICE Words4 load_matrices(const void *row) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) emulated::fail("ldmatrix of a row that is not aligned");
    const emulated::Slot *slots = emulated::lay(row);
    u32 g = lane() / 4, t = lane() % 4, v[4];
    for (u32 m = 0; m < 4; m++) {
        std::memcpy(&v[m], emulated::read<const unsigned char *>(slots[8 * m + g]) + 4 * t, 4);
    }
    return {v[0], v[1], v[2], v[3]};
}

DEVICE u32 shared_number(u32 offset) { return offset; }
DEVICE void copy_async(u32 to, const void *from) { copy_async(shared<u8>(to), from); }
DEVICE Words4 load_matrices(u32 row) { return load_matrices(shared<u8>(row)); }
template <typename T> DEVICE void load_number(u32 at, T &value) { value = emulated::aligned(shared<T>(at)); }

DEVICE i32 dot4_us(u32 a, u32 b, i32 c) {
    for (int i = 0; i < 4; i++) c += static_cast<i32>(a >> 8 * i & 255) * static_cast<i8>(b >> 8 * i);
    return c;
}
DEVICE i32 dot4_ss(u32 a, u32 b, i32 c) {
    for (int i = 0; i < 4; i++) c += static_cast<i8>(a >> 8 * i) * static_cast<i8>(b >> 8 * i);
    return c;
}
DEVICE i32 dot2_su_lo(u32 a, u32 b, i32 c) {
    return c + static_cast<i16>(a) * static_cast<i32>(b & 255) + static_cast<i16>(a >> 16) * static_cast<i32>(b >> 8 & 255);
}
DEVICE i32 dot2_su_hi(u32 a, u32 b, i32 c) { return dot2_su_lo(a, b >> 16, c); }
DEVICE i32 dot2_ss_lo(u32 a, u32 b, i32 c) {
    return c + static_cast<i16>(a) * static_cast<i8>(b) + static_cast<i16>(a >> 16) * static_cast<i8>(b >> 8);
}
DEVICE i32 dot2_ss_hi(u32 a, u32 b, i32 c) { return dot2_ss_lo(a, b >> 16, c); }
DEVICE u32 rotate_left(u32 word, u32 count) { return word << (count & 31) | word >> (-count & 31); }
DEVICE u32 and_or(u32 a, u32 mask, u32 more) { return (a & mask) | more; }
DEVICE u32 and_xor(u32 a, u32 mask, u32 more) { return (a & mask) ^ more; }
DEVICE u32 pick_bytes(u32 a, u32 b, u32 pick) {
    u64 both = static_cast<u64>(b) << 32 | a;
    u32 out = 0;
    for (int i = 0; i < 4; i++) out |= static_cast<u32>(both >> 8 * (pick >> 4 * i & 7) & 255) << 8 * i;
    return out;
}

namespace emulated {
struct Fragments {
    u32 a[4], b[2];
};
template <bool SIGNED> void mma_bytes(I32x4 &d, const Fragments &mine) {
    const Slot *slots = lay(mine);
    u32 g = ::lane() / 4, t = ::lane() % 4;
    i32 *out[4] = {&d.x, &d.y, &d.z, &d.w};
    for (u32 o = 0; o < 4; o++) {
        u32 high = o / 2, column = 2 * t + o % 2;
        for (u32 lane = 0; lane < 4; lane++) {
            Fragments row = read<Fragments>(slots[4 * g + lane]), col = read<Fragments>(slots[4 * column + lane]);
            for (u32 part = 0; part < 2; part++) {
                u32 a = row.a[2 * part + high];
                *out[o] = SIGNED ? dot4_ss(a, col.b[part], *out[o]) : dot4_us(a, col.b[part], *out[o]);
            }
        }
    }
}
} // namespace emulated
DEVICE void mma_us(I32x4 &d, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) { emulated::mma_bytes<false>(d, {{a0, a1, a2, a3}, {b0, b1}}); }
DEVICE void mma_ss(I32x4 &d, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) { emulated::mma_bytes<true>(d, {{a0, a1, a2, a3}, {b0, b1}}); }
// The half of 16 columns of which the others are zero.
DEVICE void mma_ss_k16(I32x4 &d, u32 a0, u32 a1, u32 b0) { emulated::mma_bytes<true>(d, {{a0, a1, 0, 0}, {b0, 0}}); }
DEVICE void mma_f16(F32x4 &d, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    using namespace emulated;
    const Slot *slots = lay(Fragments{{a0, a1, a2, a3}, {b0, b1}});
    u32 g = lane() / 4, t = lane() % 4;
    float *out[4] = {&d.x, &d.y, &d.z, &d.w};
    for (u32 o = 0; o < 4; o++) {
        u32 high = o / 2, column = 2 * t + o % 2;
        for (u32 lane = 0; lane < 4; lane++) {
            Fragments row = read<Fragments>(slots[4 * g + lane]), col = read<Fragments>(slots[4 * column + lane]);
            for (u32 part = 0; part < 2; part++) {
                u32 a = row.a[2 * part + high], b = col.b[part];
                *out[o] += half_value(a) * half_value(b) + half_value(a >> 16) * half_value(b >> 16);
            }
        }
    }
}

DEVICE float half_to_float(u16 h) { return emulated::half_value(h); }
DEVICE u16 float_to_half(float f) { return emulated::half_bits(f); }
DEVICE u32 floats_to_halves(float lo, float hi) { return emulated::half_bits(lo) | static_cast<u32>(emulated::half_bits(hi)) << 16; }
// The product of two halves is exact in a float; the sum is rounded once more than by fma.f16x2, rarely seen.
DEVICE u32 halves_fma(u32 a, u32 b, u32 c) {
    auto one = [](u16 a, u16 b, u16 c) {
        return static_cast<float>(static_cast<double>(half_to_float(a)) * half_to_float(b) + half_to_float(c));
    };
    return floats_to_halves(one(a, b, c), one(a >> 16, b >> 16, c >> 16));
}
DEVICE u32 halves_add(u32 a, u32 b) {
    return floats_to_halves(half_to_float(a) + half_to_float(b), half_to_float(a >> 16) + half_to_float(b >> 16));
}
DEVICE u32 halves_mul(u32 a, u32 b) {
    return floats_to_halves(half_to_float(a) * half_to_float(b), half_to_float(a >> 16) * half_to_float(b >> 16));
}
DEVICE u32 half_twice(u32 pair) { return (pair & 0xFFFF) * 0x10001; }
DEVICE u32 half_high_twice(u32 pair) { return (pair >> 16) * 0x10001; }

DEVICE float bits_to_float(u32 bits) {
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}
DEVICE u32 float_to_bits(float f) {
    u32 bits;
    std::memcpy(&bits, &f, 4);
    return bits;
}
DEVICE float exp2_fast(float x) { return std::exp2(x); }
DEVICE float reciprocal_fast(float x) { return 1.0f / x; }
DEVICE i32 round_to_int(float x) { return static_cast<i32>(std::nearbyint(x)); }
DEVICE float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

// The store in between keeps compilers from contracting.
DEVICE float mul_rn(float a, float b) {
    volatile float product = a * b;
    return product;
}
DEVICE float add_rn(float a, float b) {
    volatile float sum = a + b;
    return sum;
}
DEVICE u64 mul_high(u64 a, u64 b) { return static_cast<u64>(static_cast<unsigned __int128>(a) * b >> 64); }
DEVICE u32 load_fresh(const u32 *at) { return emulated::aligned(at); }
DEVICE u64 load_fresh(const u64 *at) { return emulated::aligned(at); }
DEVICE u64 atomic_add(u64 *at, u64 value) {
    u64 old = *at;
    *at += value;
    return old;
}
DEVICE u32 atomic_max(u32 *at, u32 value) {
    u32 old = *at;
    if (value > old) *at = value;
    return old;
}
DEVICE void publish(u64 *at, u64 value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }
