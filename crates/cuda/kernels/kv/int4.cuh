// A cache of nibbles, as model::kv means it: 32 dimensions of a head have a step and a least value, f16, and a code
// stands for least value + step * code; keys are rotated before, by Walsh and Hadamard's matrix, and queries with them.
//
// A block is 16 * WIDTH bytes of codes, then steps [WIDTH / 32][32 positions], then least values, as many. Codes
// lie as tensor cores take them, 16 bytes a lane (g = lane/4, t = lane%4), 512 bytes for 32 dimensions:
//   keys: word j is position 8(g/2) + 2j + g%2: byte i has dimension 4t + i in its low bits, 16 + 4t + i above;
//   values: word 2i + s is of sixteen dimensions i and positions 8t + 4s..: position q in byte 0, 2, 1, 3, low bits
//     are dimension 4(g/2) + g%2 of sixteen, high bits the one two further.
// Least values of keys lie in the order 4(2(p/8) + p%2) + p/2%4 of positions p, others by position.
#pragma once
#include "../rope.cuh"

struct Int4Cache {
    // Bytes of shared memory that a warp needs to store a head.
    template <u32 WIDTH> static METHOD constexpr u32 scratch() { return WIDTH * 4; }
    template <u32 WIDTH> static METHOD constexpr u32 block() { return PAGE * (WIDTH / 2 + WIDTH / 32 * 4); }
    template <u32 WIDTH> static METHOD constexpr u32 steps() { return PAGE * WIDTH / 2; }
    template <u32 WIDTH> static METHOD constexpr u32 leasts() { return steps<WIDTH>() + WIDTH / 32 * 64; }

    static METHOD u32 key_order(u32 position) { return position / 8 * 8 + position % 2 * 4 + position / 2 % 4; }
    // Bytes of dimensions d and d + 16, d < 16 of 32, and of d and d + 2.
    static METHOD u32 key_at(u32 position, u32 d) {
        return d / 32 * 512 + (key_order(position) / 4 * 4 + d / 4 % 4) * 16 + position / 2 % 4 * 4 + d % 4;
    }
    static METHOD u32 value_at(u32 position, u32 d) {
        u32 g = d / 4 % 4 * 2 + d % 2, t = position / 8, word = d / 16 % 2 * 2 + position / 4 % 2;
        return d / 32 * 512 + (4 * g + t) * 16 + word * 4 + position % 2 * 2 + position / 2 % 2;
    }

    // A head in order: lane has dimensions lane + 32c. `scratch`: shared, of the warp, WIDTH floats.
    template <u32 WIDTH> struct Row {
        float x[WIDTH / 32];
    };
    template <u32 WIDTH> static METHOD Row<WIDTH> ordered(const Head<WIDTH> &head, float *scratch) {
        head.each([&](u32 d, float value) { scratch[d] = value; });
        sync_warp();
        Row<WIDTH> row;
        UNROLL for (u32 c = 0; c < WIDTH / 32; c++) row.x[c] = scratch[lane() + 32 * c];
        sync_warp();
        return row;
    }

    // The rotation, in blocks of the largest power of two that divides head_dim; the same sums as model::kv's.
    template <u32 WIDTH> static METHOD void rotate(Row<WIDTH> &row, u32 head_dim) {
        constexpr u32 CHUNKS = WIDTH / 32;
        u32 block = head_dim & (0 - head_dim);
        UNROLL for (u32 stride = 1; stride < 32; stride *= 2) {
            if (stride < block) {
                UNROLL for (u32 c = 0; c < CHUNKS; c++) {
                    float other = shfl_xor(row.x[c], stride);
                    row.x[c] = lane() & stride ? other - row.x[c] : row.x[c] + other;
                }
            }
        }
        UNROLL for (u32 stride = 1; stride < CHUNKS; stride *= 2) {
            if (32 * stride < block) {
                UNROLL for (u32 c = 0; c < CHUNKS; c++) {
                    if ((c & stride) == 0 && c + stride < CHUNKS) {
                        float a = row.x[c], b = row.x[c + stride];
                        row.x[c] = a + b;
                        row.x[c + stride] = a - b;
                    }
                }
            }
        }
        float factor = 1.0f;
        for (; block >= 4; block /= 4) factor *= 0.5f;
        if (block == 2) factor *= 0.70710678118654752f;
        UNROLL for (u32 c = 0; c < CHUNKS; c++) row.x[c] = mul_rn(row.x[c], factor);
    }

    // Step, least value and the code of dimension 32c + lane of a head; what there is of them below head_dim.
    struct Coded {
        u16 step, least;
        u32 code;
    };

    // round((x - least) / step) within 0 and 15; what is not a number is 0.
    static METHOD float code_of(float above, float by) {
        return static_cast<float>(round_to_int(fminf(fmaxf(mul_rn(above, by), 0.0f), 15.0f)));
    }

    // Of nine pairs of least value and step the one with the least squared error: operation by operation what
    // model::kv::encode_int4 does, for codes are compared with the host's.
    static METHOD Coded encode(float x, u32 c, u32 head_dim) {
        constexpr float MOST = 3.40282347e38f;
        if (32 * c >= head_dim) return {0, 0, 0};
        bool there = 32 * c + lane() < head_dim;
        float least = -warp_max(-(there ? fminf(x, MOST) : MOST)), most = warp_max(there ? fmaxf(x, -MOST) : -MOST);
        float quarter = mul_rn(add_rn(most, -least), 1.0f / 60.0f), kept = 0.0f;
        Coded coded = {0, 0, 0};
        NO_UNROLL for (u32 i = 0; i < 3; i++) {
            u16 from = float_to_half(add_rn(least, mul_rn(static_cast<float>(i), quarter)));
            float m = half_to_float(from), above = add_rn(x, -m);
            UNROLL for (u32 j = 0; j < 3; j++) {
                float span = add_rn(add_rn(most, -mul_rn(static_cast<float>(j), quarter)), -m);
                u16 step = float_to_half(mul_rn(span, 1.0f / 15.0f));
                float s = half_to_float(step), code = code_of(above, s > 0.0f ? 1.0f / s : 0.0f);
                float off = add_rn(above, -mul_rn(s, code));
                float error = warp_sum(there ? mul_rn(off, off) : 0.0f);
                if ((i == 0 && j == 0) || error < kept) {
                    kept = error;
                    coded = {step, from, there ? static_cast<u32>(code) : 0};
                }
            }
        }
        return coded;
    }

    template <u32 WIDTH> static METHOD void put_key(u8 *block, u32 position, const Row<WIDTH> &row, u32 head_dim) {
        position %= PAGE;
        UNROLL for (u32 c = 0; c < WIDTH / 32; c++) {
            Coded coded = encode(row.x[c], c, head_dim);
            u32 byte = coded.code | shfl_xor(coded.code, 16) << 4;
            if (lane() < 16) block[key_at(position, 32 * c + lane())] = static_cast<u8>(byte);
            if (lane() == 0) {
                reinterpret_cast<u16 *>(block + steps<WIDTH>())[32 * c + position] = coded.step;
                reinterpret_cast<u16 *>(block + leasts<WIDTH>())[32 * c + key_order(position)] = coded.least;
            }
        }
    }
    template <u32 WIDTH> static METHOD void put_value(u8 *block, u32 position, const Row<WIDTH> &row, u32 head_dim) {
        position %= PAGE;
        UNROLL for (u32 c = 0; c < WIDTH / 32; c++) {
            Coded coded = encode(row.x[c], c, head_dim);
            u32 byte = coded.code | shfl_xor(coded.code, 2) << 4;
            if (lane() / 2 % 2 == 0) block[value_at(position, 32 * c + lane())] = static_cast<u8>(byte);
            if (lane() == 0) {
                reinterpret_cast<u16 *>(block + steps<WIDTH>())[32 * c + position] = coded.step;
                reinterpret_cast<u16 *>(block + leasts<WIDTH>())[32 * c + position] = coded.least;
            }
        }
    }

    template <u32 WIDTH> static METHOD void store_key(u8 *block, u32 position, const Head<WIDTH> &head, u32 head_dim, float *scratch) {
        Row<WIDTH> row = ordered(head, scratch);
        rotate(row, head_dim);
        put_key(block, position, row, head_dim);
    }
    template <u32 WIDTH> static METHOD void store_value(u8 *block, u32 position, const Head<WIDTH> &head, u32 head_dim, float *scratch) {
        put_value(block, position, ordered(head, scratch), head_dim);
    }
    template <u32 WIDTH, typename Value> static METHOD void store_values(u8 *block, u32 position, u32 run, u32 head_dim, Value value) {
        NO_UNROLL for (u32 i = 0; i < 8; i++) {
            if (!(run >> i & 1)) break;
            Row<WIDTH> row;
            UNROLL for (u32 c = 0; c < WIDTH / 32; c++) row.x[c] = value(i, lane() + 32 * c);
            put_value(block, position + i, row, head_dim);
        }
    }
};
