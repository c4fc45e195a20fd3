// Dot products of Q8_0 and Q4_0 tiles with one staged row: a half-precision scale for every 32 columns.
//   sum of w x = dx sum_s d_s (code_s . X_s), for Q4_0 with 8 (1 . X_s) taken off each
// Bounds: |256 h + l| <= 32 * 128 * 32512 < 2^27: one i32 a sub-block.
#pragma once
#include "../stage.cuh"

struct DotQ8_0 {
    static constexpr u32 FORMAT = Q8_0, STEPS = 2;
    static constexpr bool FLOATS = false;
    // Half a tile: sub-blocks 2j + parity for two j.
    struct Regs {
        Words4 codes[4];
        u32 d;
    };
    static METHOD void load(Regs &r, const u8 *tile, u32 step) {
        UNROLL for (u32 i = 0; i < 4; i++) r.codes[i] = codes(tile, step, i);
        r.d = scales(tile, step);
    }
    static METHOD Words4 codes(const u8 *tile, u32 step, u32 i) {
        const u8 *plane = tile + 256 + (lane() >> 4) * 512 + (lane() & 15) * 16 + step * 2048;
        return load_stream(reinterpret_cast<const Words4 *>(plane + i / 2 * 1024 + i % 2 * 256));
    }
    static METHOD u32 scales(const u8 *tile, u32 step) {
        return load_stream(reinterpret_cast<const u32 *>(tile + (lane() & 15) * 16 + (lane() >> 4) * 8 + step * 4));
    }
    static METHOD float dot(Regs &r, const Staged &at, u32 tile, u32 step, const Next &next) {
        float sum = 0.0f;
        u32 d = r.d;
        r.d = scales(next.tile, next.step);
        UNROLL for (u32 i = 0; i < 2; i++) {
            u32 x = tile * 256 + (4 * step + 2 * i + (lane() >> 4)) * 32;
            const Words4 first = r.codes[2 * i], second = r.codes[2 * i + 1];
            r.codes[2 * i] = codes(next.tile, next.step, 2 * i);
            r.codes[2 * i + 1] = codes(next.tile, next.step, 2 * i + 1);
            i32 planes[2];
            UNROLL for (u32 plane = 0; plane < 2; plane++) {
                u32 base = (plane ? at.low : at.high) + x;
                Words4 a = *shared<Words4>(base), b = *shared<Words4>(base + 16);
                                i32 s = dot4_ss(first.x, a.x, 0);
                s = dot4_ss(first.y, a.y, s), s = dot4_ss(first.z, a.z, s), s = dot4_ss(first.w, a.w, s);
                s = dot4_ss(second.x, b.x, s), s = dot4_ss(second.y, b.y, s), s = dot4_ss(second.z, b.z, s);
                planes[plane] = dot4_ss(second.w, b.w, s);
            }
            sum += static_cast<float>(256 * planes[0] + planes[1]) * (i ? half_high(d) : half_low(d));
        }
        return sum * *shared<float>(at.scale + tile * 4);
    }
};

struct DotQ4_0 {
    static constexpr u32 FORMAT = Q4_0, STEPS = 1;
    static constexpr bool FLOATS = false;
    struct Regs {
        Words4 codes[4];
        Words2 d;
    };
    static METHOD void load(Regs &r, const u8 *tile, u32) {
        r.d = scales(tile);
        UNROLL for (u32 j = 0; j < 4; j++) r.codes[j] = codes(tile, j);
    }
    static METHOD Words2 scales(const u8 *tile) { return load_stream(reinterpret_cast<const Words2 *>(tile + (lane() & 15) * 16 + (lane() >> 4) * 8)); }
    static METHOD Words4 codes(const u8 *tile, u32 j) { return load_stream(reinterpret_cast<const Words4 *>(tile + 256 + j * 512 + lane() * 16)); }
    static METHOD float dot(Regs &r, const Staged &at, u32 tile, u32, const Next &next) {
        float sum = 0.0f;
        Words2 d = r.d;
        r.d = scales(next.tile);
        Words4 sums = *shared<Words4>(at.sums32 + (tile * 2 + (lane() >> 4)) * 16);
        const i32 ones[4] = {static_cast<i32>(sums.x), static_cast<i32>(sums.y), static_cast<i32>(sums.z), static_cast<i32>(sums.w)};
        UNROLL for (u32 j = 0; j < 4; j++) {
            u32 x = tile * 256 + (2 * j + (lane() >> 4)) * 32;
            const u32 words[4] = {r.codes[j].x, r.codes[j].y, r.codes[j].z, r.codes[j].w};
            r.codes[j] = codes(next.tile, j);
            i32 planes[2];
            UNROLL for (u32 plane = 0; plane < 2; plane++) {
                u32 base = (plane ? at.low : at.high) + x;
                Words4 a = *shared<Words4>(base), b = *shared<Words4>(base + 16);
                i32 s = dot4_us(words[0] & 0xf0f0f0f0, b.x, 0);
                s = dot4_us(words[1] & 0xf0f0f0f0, b.y, s);
                s = dot4_us(words[2] & 0xf0f0f0f0, b.z, s);
                s = dot4_us(words[3] & 0xf0f0f0f0, b.w, s) >> 4;
                s = dot4_us(words[0] & 0x0f0f0f0f, a.x, s);
                s = dot4_us(words[1] & 0x0f0f0f0f, a.y, s);
                s = dot4_us(words[2] & 0x0f0f0f0f, a.z, s);
                planes[plane] = dot4_us(words[3] & 0x0f0f0f0f, a.w, s);
            }
            u32 pair = j < 2 ? d.x : d.y;
            sum += static_cast<float>(256 * planes[0] + planes[1] - 8 * ones[j]) * (j % 2 ? half_high(pair) : half_low(pair));
        }
        return sum * *shared<float>(at.scale + tile * 4);
    }
};
