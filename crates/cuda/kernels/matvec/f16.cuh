// Dot products of F16 tiles with one staged row in f32: halves become floats exactly, products and sums are
// f32. Per 16 bytes of weights: 8 conversions, 8 multiply-adds.
#pragma once
#include "../stage.cuh"

struct DotF16 {
    static constexpr u32 FORMAT = F16, STEPS = 4;
    static constexpr bool FLOATS = true;
    // One sub-block of 32 columns: words t = 0..3, each columns 4t, 4t+2, 4t+1, 4t+3 and the same 16 on.
    struct Regs {
        Words4 w[4];
    };
    static METHOD void load(Regs &r, const u8 *tile, u32 step) {
        UNROLL for (u32 t = 0; t < 4; t++) r.w[t] = words(tile, step, t);
    }
    static METHOD Words4 words(const u8 *tile, u32 step, u32 t) {
        return load_stream(reinterpret_cast<const Words4 *>(tile + (2 * step + (lane() >> 4)) * 1024 + (lane() & 15) * 16 + t * 256));
    }
    static METHOD float dot(Regs &r, const Staged &, u32 tile, u32 step, const Next &next) {
        u32 x = (tile * 256 + (2 * step + (lane() >> 4)) * 32) * 4;
        float sum = 0.0f;
        UNROLL for (u32 t = 0; t < 4; t++) {
            const Words4 w = r.w[t];
            r.w[t] = words(next.tile, next.step, t);
            Floats4 a = *shared<Floats4>(x + 16 * t), b = *shared<Floats4>(x + 64 + 16 * t);
            sum += half_low(w.x) * a.x + half_high(w.x) * a.z;
            sum += half_low(w.y) * a.y + half_high(w.y) * a.w;
            sum += half_low(w.z) * b.x + half_high(w.z) * b.z;
            sum += half_low(w.w) * b.y + half_high(w.w) * b.w;
        }
        return sum;
    }
};
