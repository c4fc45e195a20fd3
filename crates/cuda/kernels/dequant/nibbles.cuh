// Four bits to halves without rounding: bits put under the exponent of 1024 are the half 1024 + q, the same
// bits sixteen times higher are 1024 + 16q; one subtraction or one fused multiply and subtraction, both
// exact, leaves q - centre. A word of a tile holds eight columns of a row: bits 0..3 of byte i are column
// 4t+i, bits 4..7 are column 16+4t+i.
#pragma once
#include "../prelude.cuh"

constexpr u32 TWICE_1024 = 0x64006400, TWICE_SIXTEENTH = 0x2C002C00;

// q - centre of eight columns: (4t, 4t+2), (4t+1, 4t+3), (16+4t, 16+4t+2), (16+4t+1, 16+4t+3).
// LOW is the half -(1024 + centre) twice, HIGH the half -(64 + centre) twice; `extra` is what bits 4 and
// above add, already in place and under its mask.
template <u32 LOW, u32 HIGH> DEVICE Words4 centred(u32 word, Words4 extra) {
    u32 odd = word >> 8;
    return {halves_add((word & 0x000F000F) | TWICE_1024 | extra.x, LOW),
            halves_add((odd & 0x000F000F) | TWICE_1024 | extra.y, LOW),
            halves_fma((word & 0x00F000F0) | TWICE_1024 | extra.z, TWICE_SIXTEENTH, HIGH),
            halves_fma((odd & 0x00F000F0) | TWICE_1024 | extra.w, TWICE_SIXTEENTH, HIGH)};
}

// An integer below 2^23 as a float, without the slow conversion unit.
DEVICE float small_to_float(u32 value) { return bits_to_float(0x4B000000 | value) - 8388608.0f; }
