// F16 tiles as A fragments: the halves lie in fragment order already; nothing is rounded, no instruction
// but one load for eight weights. Pieces of 16 bytes are [t][row]; four lanes t of a row would meet in the
// same banks, so the copy to shared memory turns them: piece (t, row) lies at row ^ 2t.
#pragma once
#include "../prelude.cuh"

struct DequantF16 {
    static constexpr u32 TILE = 8192, PLANES = 0, SUB = 1024;
    static constexpr u32 RAW_AT = 0, RAW = 0;
    static constexpr u32 HIGH_AT = 0, HIGH = 0, HIGH_CHUNKS = 4;

    static METHOD void scales(const u8 *, u32, u32, u32 *, u32) {}
    // Where piece `i` of a sub-block's plane goes.
    static METHOD u32 turned(u32 i) { return i ^ (i >> 3 & 6); }

    static METHOD Words4 row(const u8 *plane, const u8 *, u32, u32 row, u32 t, u32) {
        return reinterpret_cast<const Words4 *>(plane)[t * 16 + (row ^ 2 * t)];
    }
};
