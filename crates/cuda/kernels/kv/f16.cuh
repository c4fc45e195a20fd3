// A cache of halves. A block is keys as [32 positions][WIDTH], values transposed, [WIDTH][32 positions].
#pragma once
#include "../rope.cuh"

struct F16Cache {
    // Bytes of shared memory that a warp needs to store a head.
    template <u32 WIDTH> static METHOD constexpr u32 scratch() { return 0; }
    template <u32 WIDTH> static METHOD constexpr u32 block() { return PAGE * WIDTH * 2; }

    // A head into its block, by a warp; the types that need them get head_dim and shared memory.
    template <u32 WIDTH> static METHOD void store_key(u8 *block, u32 position, const Head<WIDTH> &head, u32, float *) {
        u16 *to = reinterpret_cast<u16 *>(block) + position % PAGE * WIDTH;
        head.each([&](u32 d, float value) { to[d] = float_to_half(value); });
    }
    template <u32 WIDTH> static METHOD void store_value(u8 *block, u32 position, const Head<WIDTH> &head, u32, float *) {
        u16 *to = reinterpret_cast<u16 *>(block) + position % PAGE;
        head.each([&](u32 d, float value) { to[d * PAGE] = float_to_half(value); });
    }

    // The heads of up to eight positions, those that are set in `run`: `position` is the first, and position i
    // is value(i, d) in dimension d. Values lie transposed, 64 bytes a dimension: eight are stored at once.
    template <u32 WIDTH, typename Value> static METHOD void store_values(u8 *block, u32 position, u32 run, u32, Value value) {
        u16 *page = reinterpret_cast<u16 *>(block) + position % PAGE;
        UNROLL for (u32 j = 0; j < WIDTH / 32; j++) {
            u32 d = lane() + 32 * j;
            float x[8];
            UNROLL for (u32 i = 0; i < 8; i++) x[i] = value(i, d);
            u16 *to = page + d * PAGE;
            if (run == 0xff) {
                *reinterpret_cast<Words4 *>(to) = {floats_to_halves(x[0], x[1]), floats_to_halves(x[2], x[3]), floats_to_halves(x[4], x[5]),
                                                   floats_to_halves(x[6], x[7])};
            } else {
                UNROLL for (u32 i = 0; i < 8; i++) {
                    if (run >> i & 1) to[i] = float_to_half(x[i]);
                }
            }
        }
    }
};
