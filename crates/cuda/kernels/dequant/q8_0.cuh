// Q8_0 tiles as A fragments: w = d·q, d as it is in the file, q exact by the exponent of 1024 (a byte with
// its sign bit turned is q + 128), the product rounded once: |error| <= 2^-11 |w|.
// 14 instructions for eight weights.
#pragma once
#include "nibbles.cuh"

struct DequantQ8 {
    static constexpr u32 TILE = 4352, PLANES = 256, SUB = 512;
    static constexpr u32 RAW_AT = 0, RAW = 256;
    static constexpr u32 HIGH_AT = 0, HIGH = 0, HIGH_CHUNKS = 4, HIGH_STEP = 0;

    // Scale words (d, d).
    static METHOD void scales(const u8 *raw, u32 row, u32 p, u32 *to, u32 step) {
        Words2 four = reinterpret_cast<const Words2 *>(raw)[row * 2 + p];
        to[0] = half_twice(four.x);
        to[step] = half_high_twice(four.x);
        to[2 * step] = half_twice(four.y);
        to[3 * step] = half_high_twice(four.y);
    }

    static METHOD Words4 row(const u8 *plane, const u8 *, u32 scale) {
        const u32 *words = reinterpret_cast<const u32 *>(plane);
        Words2 first = pairs(words[0]), second = pairs(words[64]);
        return {halves_mul(first.x, scale), halves_mul(first.y, scale), halves_mul(second.x, scale), halves_mul(second.y, scale)};
    }

    // Bytes (0, 2) and (1, 3) as halves.
    static METHOD Words2 pairs(u32 word) {
        constexpr u32 TURN = 0x64806480, LESS_1152 = 0xE480E480;
        return {halves_add(and_xor(word, 0x00FF00FF, TURN), LESS_1152), halves_add(and_xor(word >> 8, 0x00FF00FF, TURN), LESS_1152)};
    }
};
