// Q6_K tiles as A fragments: w = s·(q - 32), s = d·scale of 16 columns rounded to half once, the product
// once more: |error| <= 2^-10 |w|. Four low bits from the nibble planes, two high bits from their own.
// 20 instructions a word of eight weights.
#pragma once
#include "nibbles.cuh"

struct DequantQ6K {
    static constexpr u32 TILE = 3360, PLANES = 0, SUB = 256;
    static constexpr u32 RAW_AT = 3072, RAW = 288;
    // Two bits of 128 columns at a time: two chunks share them.
    static constexpr u32 HIGH_AT = 2048, HIGH = 512, HIGH_CHUNKS = 2, HIGH_STEP = 8;

    // A signed byte: with its sign turned it is 128 more; every step is exact.
    static METHOD float signed_to_float(u32 byte) { return bits_to_float(0x4B000080 ^ byte) - 8388736.0f; }

    // Scale words (columns 0..15, columns 16..31).
    static METHOD void scales(const u8 *raw, u32 row, u32 p, u32 *to, u32 step) {
        Words2 packed = reinterpret_cast<const Words2 *>(raw)[p * 16 + row];
        float d = half_to_float(reinterpret_cast<const u16 *>(raw + 256)[row]);
        UNROLL for (u32 j = 0; j < 4; j++) {
            u32 both = (j < 2 ? packed.x : packed.y) >> 16 * (j & 1);
            float low = signed_to_float(both & 255), high = signed_to_float(both >> 8 & 255);
            to[j * step] = floats_to_halves(d * low, d * high);
        }
    }

    static METHOD Words4 row(const u8 *plane, const u8 *high, u32 scale) {
        u32 t = lane() % 4, word = *reinterpret_cast<const u32 *>(plane);
        // Bits 2t..2t+1 of byte i: columns 4t+i in x, wanted at bit 4; columns 16+4t+i in y, wanted at bit 8.
        Words2 bits = *reinterpret_cast<const Words2 *>(high);
        u32 low = bits.x >> 2 * t, upper = bits.y >> 2 * t;
        Words4 q = nibbles(word);
        q = {and_or(low << 4, 0x00300030, q.x), and_or(low >> 4, 0x00300030, q.y),
             and_or(upper << 8, 0x03000300, q.z), and_or(upper, 0x03000300, q.w)};
        q = centred<0xE420E420, 0xD600D600>(q);
        u32 first = half_twice(scale), second = half_high_twice(scale);
        return {halves_mul(q.x, first), halves_mul(q.y, first), halves_mul(q.z, second), halves_mul(q.w, second)};
    }
};
