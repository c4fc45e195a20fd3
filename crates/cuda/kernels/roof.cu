// What the memory gives when nothing is computed, and a kernel that only takes time: for profiles.
#include "prelude.cuh"

// Adds up 32-bit words: sums[block][warp] of what that warp read.
struct RoofArgs {
    const Words4 *from; // [count], larger than the second-level cache
    u32 *sums;          // [blocks][16]
    u64 count;          // of sixteen bytes
};

// Eight loads of sixteen bytes a thread are under way at a time, 512 contiguous bytes a warp each: with two
// blocks of 512 threads 128 KiB an SM, more than latency times bandwidth of an Orin or an H200 asks for.
// 50 instructions of a warp for 4096 bytes; the sum keeps the loads and shows that every word was read once.
KERNEL(roof, RoofArgs, 512, 2) {
    u64 stride = static_cast<u64>(blocks_x()) * threads();
    u64 i = static_cast<u64>(block_x()) * threads() + tid();
    u32 sum = 0;
    NO_UNROLL
    for (; i + 7 * stride < a.count; i += 8 * stride) {
        Words4 v[8];
        UNROLL for (u32 k = 0; k < 8; k++) v[k] = load_stream(a.from + i + k * stride);
        UNROLL for (u32 k = 0; k < 8; k++) sum += v[k].x + v[k].y + v[k].z + v[k].w;
    }
    NO_UNROLL
    for (; i < a.count; i += stride) {
        Words4 v = load_stream(a.from + i);
        sum += v.x + v.y + v.z + v.w;
    }
    UNROLL for (u32 mask = 16; mask > 0; mask >>= 1) sum += shfl_xor(sum, mask);
    if (lane() == 0) a.sums[block_x() * 16 + warp()] = sum;
}

struct HoldArgs {
    u32 *to; // where the last number goes, or null
    u32 turns;
    u32 seed;
};

// One warp that takes `turns` dependent multiplications, at least 4 clocks each, and leaves the memory alone.
// What is launched behind it waits in the stream until the host is far ahead, so that events between launches
// tell the device's time and not the host's. x = 1664525 x + 1013904223 (Knuth).
KERNEL(hold, HoldArgs, 32, 1) {
    u32 x = a.seed;
    NO_UNROLL
    for (u32 i = 0; i < a.turns; i++) x = opaque(x * 1664525u + 1013904223u);
    if (a.to && lane() == 0) *a.to = x;
}
