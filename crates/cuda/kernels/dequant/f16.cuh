// F16 tiles as A fragments: the halves lie in fragment order already; nothing is rounded, one load
// and four moves for eight weights. Pieces of 16 bytes are [t][row]; four lanes t of a row would meet in the
// same banks, so the copy to shared memory turns them: piece (t, row) lies at row ^ 2t.
#pragma once
#include "../prelude.cuh"

struct DequantF16 {
    static constexpr u32 TILE = 8192, PLANES = 0, SUB = 1024;
    static constexpr u32 RAW_AT = 0, RAW = 0;
    static constexpr u32 HIGH_AT = 0, HIGH = 0, HIGH_CHUNKS = 4, HIGH_STEP = 0;

    static METHOD void scales(const u8 *, u32, u32, u32 *, u32) {}
    // Where piece `i` of a sub-block's plane goes.
    static METHOD constexpr u32 turned(u32 i) { return i ^ (i >> 3 & 6); }

    // `zero` is one: a fragment's four registers come from two rows, and without an operation on each the
    // compiler moves them anew for every mma.
    static METHOD Words4 row(const u8 *plane, const u8 *, u32 zero) {
        Words4 w = *reinterpret_cast<const Words4 *>(plane);
        return {w.x | zero, w.y | zero, w.z | zero, w.w | zero};
    }
};
