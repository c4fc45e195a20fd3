// Four bits to halves without rounding: bits put under the exponent of 1024 are the half 1024 + q, the same
// bits sixteen times higher are 1024 + 16q; one subtraction or one fused multiply and subtraction, both
// exact, leaves q - centre. A word of a tile holds eight columns of a row: bits 0..3 of byte i are column
// 4t+i, bits 4..7 are column 16+4t+i.
#pragma once
#include "../prelude.cuh"

constexpr u32 TWICE_1024 = 0x64006400, TWICE_SIXTEENTH = 0x2C002C00;

// 1024 + the bits of eight columns: (4t, 4t+2), (4t+1, 4t+3) as they are, (16+4t, ..), (16+4t+1, ..) sixteenfold.
DEVICE Words4 nibbles(u32 word) {
    u32 odd = word >> 8;
    return {and_or(word, 0x000F000F, TWICE_1024), and_or(odd, 0x000F000F, TWICE_1024),
            and_or(word, 0x00F000F0, TWICE_1024), and_or(odd, 0x00F000F0, TWICE_1024)};
}

// q - centre: LOW is the half -(1024 + centre) twice, HIGH the half -(64 + centre) twice.
template <u32 LOW, u32 HIGH> DEVICE Words4 centred(Words4 bits) {
    return {halves_add(bits.x, LOW), halves_add(bits.y, LOW),
            halves_fma(bits.z, TWICE_SIXTEENTH, HIGH), halves_fma(bits.w, TWICE_SIXTEENTH, HIGH)};
}

// An integer below 2^23 as a float, without the slow conversion unit.
DEVICE float small_to_float(u32 value) { return bits_to_float(0x4B000000 | value) - 8388608.0f; }
