// Q5_K tiles as A fragments: Q4_K's scales, centre 16, and a fifth bit from its own plane.
// 19 instructions a word of eight weights; the error bound is Q4_K's with q - 16.
#pragma once
#include "q4_k.cuh"

struct DequantQ5K {
    static constexpr u32 TILE = 2816, PLANES = 256, SUB = 256;
    static constexpr u32 RAW_AT = 0, RAW = 256;
    // Bits of all 256 columns at once: four chunks share them.
    static constexpr u32 HIGH_AT = 2304, HIGH = 512, HIGH_CHUNKS = 4, HIGH_STEP = 4;

    static METHOD void scales(const u8 *raw, u32 row, u32 p, u32 *to, u32 step) {
        DequantQ4K::decode(raw, row, p, to, step, 16.0f);
    }

    static METHOD Words4 row(const u8 *plane, const u8 *high, u32 scale) {
        u32 t = lane() % 4, word = *reinterpret_cast<const u32 *>(plane);
        // Byte i: bit t is column 4t+i, bit 4+t column 16+4t+i; wanted at bit 4 and bit 8.
        u32 bits = *reinterpret_cast<const u32 *>(high);
        u32 even = bits << (4 - t), odd = bits >> (4 + t);
        Words4 q = nibbles(word);
        q = {and_or(even, 0x00100010, q.x), and_or(odd, 0x00100010, q.y), and_or(even, 0x01000100, q.z), and_or(odd, 0x01000100, q.w)};
        q = centred<0xE410E410, 0xD500D500>(q);
        u32 s = half_twice(scale), c = half_high_twice(scale);
        return {halves_fma(q.x, s, c), halves_fma(q.y, s, c), halves_fma(q.z, s, c), halves_fma(q.w, s, c)};
    }
};
