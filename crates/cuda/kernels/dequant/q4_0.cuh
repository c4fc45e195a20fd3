// Q4_0 tiles as A fragments: w = d·(q - 8), rounded once: |error| <= 2^-11 |w|. Header as Q8_0's, nibbles
// as Q4_K's. 13 instructions a word of eight weights.
#pragma once
#include "q8_0.cuh"

struct DequantQ4 {
    static constexpr u32 TILE = 2304, PLANES = 256, SUB = 256;
    static constexpr u32 RAW_AT = 0, RAW = 256;
    static constexpr u32 HIGH_AT = 0, HIGH = 0, HIGH_CHUNKS = 4, HIGH_STEP = 0;

    static METHOD void scales(const u8 *raw, u32 row, u32 p, u32 *to, u32 step) { DequantQ8::scales(raw, row, p, to, step); }

    static METHOD Words4 row(const u8 *plane, const u8 *, u32 scale) {
        u32 word = *reinterpret_cast<const u32 *>(plane);
        Words4 q = centred<0xE408E408, 0xD480D480>(nibbles(word));
        return {halves_mul(q.x, scale), halves_mul(q.y, scale), halves_mul(q.z, scale), halves_mul(q.w, scale)};
    }
};
