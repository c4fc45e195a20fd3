// Q4_K tiles as A fragments of m16n8k16. w = d·sc·q - dmin·m = s·(q - 8) + c with s = d·sc and
// c = 8s - dmin·m, both formed in float and rounded to half once; q - 8 is exact and one fused multiply and
// addition rounds once more: |error| <= 2^-11 (|s (q - 8)| + |c| + |w|). Halves that small are multiples of
// 2^-24, and so are d, s and w: nothing is lost to denormals. 13 instructions a word of eight weights.
#pragma once
#include "nibbles.cuh"

struct DequantQ4K {
    static constexpr u32 TILE = 2304, PLANES = 256, SUB = 256;
    static constexpr u32 RAW_AT = 0, RAW = 256; // bytes of scales in a tile
    static constexpr u32 HIGH_AT = 0, HIGH = 0, HIGH_CHUNKS = 4, HIGH_STEP = 0;

    // Scale words (s, c) of the four sub-blocks 2j + p of one row, `step` words apart.
    static METHOD void scales(const u8 *raw, u32 row, u32 p, u32 *to, u32 step) { decode(raw, row, p, to, step, 8.0f); }

    static METHOD void decode(const u8 *raw, u32 row, u32 p, u32 *to, u32 step, float centre) {
        Words4 head = reinterpret_cast<const Words4 *>(raw)[row];
        float d = half_low(head.x), least = half_high(head.x);
        u32 packed = p == 0 ? head.y : head.z, low_bits = head.w >> 4 * p;
        UNROLL for (u32 j = 0; j < 4; j++) {
            u32 byte = packed >> 8 * j;
            float s = d * small_to_float(byte & 63);
            float m = small_to_float((byte >> 2 & 0x30) | (low_bits >> 8 * j & 15));
            to[j * step] = floats_to_halves(s, centre * s - least * m);
        }
    }

    // One row: the four registers of columns (4t, 4t+2), (4t+1, 4t+3), (16+4t, ..), (16+4t+1, ..).
    static METHOD Words4 row(const u8 *plane, const u8 *, u32 scale) {
        u32 word = *reinterpret_cast<const u32 *>(plane);
        Words4 q = centred<0xE408E408, 0xD480D480>(nibbles(word));
        u32 s = half_twice(scale), c = half_high_twice(scale);
        return {halves_fma(q.x, s, c), halves_fma(q.y, s, c), halves_fma(q.z, s, c), halves_fma(q.w, s, c)};
    }
};
