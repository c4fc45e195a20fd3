// A cache of bytes, as model::kv means it: code = round(x / scale), scale = f16(max|x| / 127) of a head.
//
// A block is 32 * WIDTH codes and 32 scales, f16, by position. Codes lie as tensor cores take them, 16 bytes a
// lane (g = lane/4, t = lane%4), 512 bytes a warp:
//   keys: [32 dimensions][half of the positions' groups of two][lane]: words 2i, 2i + 1 are dimensions 4t..4t+3
//     and 16+4t.. of position 8(g/2) + 2j + g%2, j = 2 * half + i: B of n-tile j for m16n8k32, as in attend.cuh;
//   values: [16 dimensions][lane]: word 2s + h is positions 8t+4s..8t+4s+3 of dimension 4(g/2) + g%2 + 2h, plus
//     128: what becomes halves is A of k-step s for m16n8k16, rows g (h = 0) and g + 8 (h = 1). A lane then ends
//     with dimensions two apart, which are neighbours in the order of matmul.
#pragma once
#include "../rope.cuh"

// f16(most / 127): IEEE division, which nothing may replace, for codes are compared with the host's.
DEVICE u16 int8_scale(float most) { return float_to_half(most / 127.0f); }

// What is not a number is 0, and so is everything where the scale is.
DEVICE i32 int8_code(float x, float scale) {
    float code = x / scale;
    return scale > 0.0f && code == code ? round_to_int(fminf(fmaxf(code, -127.0f), 127.0f)) : 0;
}

// The largest of nonnegative numbers of 32 lanes, whose order is that of their bits.
DEVICE float warp_largest(float value) { return bits_to_float(warp_most(float_to_bits(value))); }

struct Int8Cache {
    // Bytes of shared memory that a warp needs to store a head.
    template <u32 WIDTH> static METHOD constexpr u32 scratch() { return 0; }
    template <u32 WIDTH> static METHOD constexpr u32 block() { return PAGE * (WIDTH + 2); }
    template <u32 WIDTH> static METHOD u16 *scales(u8 *block) { return reinterpret_cast<u16 *>(block + PAGE * WIDTH); }

    static METHOD u32 key_at(u32 position, u32 d) {
        u32 j = position / 2 % 4, g = position / 8 * 2 + position % 2, t = d / 4 % 4;
        return ((d / 32 * 2 + j / 2) * 32 + 4 * g + t) * 16 + (j % 2 * 2 + d / 16 % 2) * 4 + d % 4;
    }
    static METHOD u32 value_at(u32 position, u32 d) {
        u32 g = d / 4 % 4 * 2 + d % 2, h = d / 2 % 2, t = position / 8, s = position / 4 % 2;
        return (d / 16 * 32 + 4 * g + t) * 16 + (2 * s + h) * 4 + position % 4;
    }

    template <u32 WIDTH, typename Put> static METHOD void store(u8 *block, u32 position, const Head<WIDTH> &head, Put put) {
        float most = 0.0f;
        head.each([&](u32, float value) { most = fmaxf(most, fabsf(value)); });
        u16 scale = int8_scale(warp_largest(most));
        if (lane() == 0) scales<WIDTH>(block)[position] = scale;
        head.each([&](u32 d, float value) { put(d, int8_code(value, half_to_float(scale))); });
    }
    template <u32 WIDTH> static METHOD void store_key(u8 *block, u32 position, const Head<WIDTH> &head, u32, float *) {
        position %= PAGE;
        store(block, position, head, [&](u32 d, i32 code) { block[key_at(position, d)] = static_cast<u8>(code); });
    }
    template <u32 WIDTH> static METHOD void store_value(u8 *block, u32 position, const Head<WIDTH> &head, u32, float *) {
        position %= PAGE;
        store(block, position, head, [&](u32 d, i32 code) { block[value_at(position, d)] = static_cast<u8>(code + 128); });
    }

    template <u32 WIDTH, typename Value> static METHOD void store_values(u8 *block, u32 position, u32 run, u32, Value value) {
        position %= PAGE;
        float scale[8];
        UNROLL for (u32 i = 0; i < 8; i++) {
            float most = 0.0f;
            UNROLL for (u32 j = 0; j < WIDTH / 32; j++) most = fmaxf(most, fabsf(value(i, lane() + 32 * j)));
            u16 bits = int8_scale(warp_largest(most));
            if (lane() == i && run >> i & 1) scales<WIDTH>(block)[position + i] = bits;
            scale[i] = half_to_float(bits);
        }
        NO_UNROLL for (u32 d = lane(); d < WIDTH; d += 32) {
            u32 code[8];
            UNROLL for (u32 i = 0; i < 8; i++) code[i] = static_cast<u32>(int8_code(value(i, d), scale[i]) + 128);
            u8 *to = block + value_at(position, d);
            if (run == 0xff) {
                *reinterpret_cast<u32 *>(to) = code[0] | code[1] << 8 | code[2] << 16 | code[3] << 24;
                *reinterpret_cast<u32 *>(to + 8) = code[4] | code[5] << 8 | code[6] << 16 | code[7] << 24;
            } else {
                UNROLL for (u32 i = 0; i < 8; i++) {
                    if (run >> i & 1) block[value_at(position + i, d)] = static_cast<u8>(code[i]);
                }
            }
        }
    }
};
