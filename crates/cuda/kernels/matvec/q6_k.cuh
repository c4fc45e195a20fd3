// Dot products of Q6_K tiles with one staged row: as k4.cuh, with two more bits from another plane, a signed
// scale for every 16 columns, and the offset 32 taken off once a tile through the sums of the input:
//   sum of w x = dx d (sum_i sc_i (code_i . X_i) - 32 sum_i sc_i (1 . X_i))
// Bounds: 8 * 127 * 16 * 63 * 127 < 2^28; 256 * 8 * 127 * 16 * 127 < 2^30.
#pragma once
#include "../stage.cuh"

struct DotQ6K {
    static constexpr u32 FORMAT = Q6_K, STEPS = 1;
    static constexpr bool FLOATS = false;
    struct Regs {
        Words4 low[4], high[2];
        Words2 scales;
        u16 d;
    };
    static METHOD Words4 low(const u8 *tile, u32 j) { return load_stream(reinterpret_cast<const Words4 *>(tile + j * 512 + lane() * 16)); }
    static METHOD Words4 high(const u8 *tile, u32 c) { return load_stream(reinterpret_cast<const Words4 *>(tile + 2048 + c * 512 + lane() * 16)); }
    static METHOD void factors(Regs &r, const u8 *tile) {
        r.scales = load_stream(reinterpret_cast<const Words2 *>(tile + 3072 + lane() * 8));
        r.d = load_stream(reinterpret_cast<const u16 *>(tile + 3328 + (lane() & 15) * 2));
    }
    static METHOD void load(Regs &r, const u8 *tile, u32) {
        UNROLL for (u32 j = 0; j < 4; j++) r.low[j] = low(tile, j);
        UNROLL for (u32 c = 0; c < 2; c++) r.high[c] = high(tile, c);
        factors(r, tile);
    }
    static METHOD float dot(Regs &r, const Staged &at, u32 tile, u32, const Next &next) {
        i32 sum_high = 0, sum_low = 0;
        UNROLL for (u32 j = 0; j < 4; j++) {
            u32 x = tile * 256 + (2 * j + (lane() >> 4)) * 32;
            const u32 codes[4] = {r.low[j].x, r.low[j].y, r.low[j].z, r.low[j].w};
            u32 bits_first = j % 2 ? r.high[j / 2].z : r.high[j / 2].x, bits_second = j % 2 ? r.high[j / 2].w : r.high[j / 2].y;
            r.low[j] = low(next.tile, j);
            if (j % 2) r.high[j / 2] = high(next.tile, j / 2);
            u32 first[4], second[4];
            UNROLL for (u32 t = 0; t < 4; t++) {
                u32 up_first = t < 2 ? bits_first << (4 - 2 * t) : bits_first >> (2 * t - 4);
                u32 up_second = t < 2 ? bits_second << (4 - 2 * t) : bits_second >> (2 * t - 4);
                first[t] = (codes[t] & 0x0f0f0f0f) | (up_first & 0x30303030);
                second[t] = (codes[t] >> 4 & 0x0f0f0f0f) | (up_second & 0x30303030);
            }
            u32 packed = j < 2 ? r.scales.x : r.scales.y;
            i32 scale_first = static_cast<i8>(packed >> 16 * (j % 2)), scale_second = static_cast<i8>(packed >> (16 * (j % 2) + 8));
            UNROLL for (u32 plane = 0; plane < 2; plane++) {
                u32 base = (plane ? at.low : at.high) + x;
                Words4 a = *shared<Words4>(base), b = *shared<Words4>(base + 16);
                i32 s = dot4_us(first[0], a.x, 0);
                s = dot4_us(first[1], a.y, s), s = dot4_us(first[2], a.z, s), s = dot4_us(first[3], a.w, s);
                i32 u = dot4_us(second[0], b.x, 0);
                u = dot4_us(second[1], b.y, u), u = dot4_us(second[2], b.z, u), u = dot4_us(second[3], b.w, u);
                i32 part = s * scale_first + u * scale_second;
                if (plane) sum_low += part;
                else sum_high += part;
            }
        }
        const u32 sums = at.pairs16 + (tile * 2 + (lane() >> 4)) * 32;
        Words4 h = *shared<Words4>(sums), l = *shared<Words4>(sums + 16);
        i32 all_high = dot2_ss_lo(h.x, r.scales.x, 0);
        all_high = dot2_ss_hi(h.y, r.scales.x, all_high);
        all_high = dot2_ss_lo(h.z, r.scales.y, all_high);
        all_high = dot2_ss_hi(h.w, r.scales.y, all_high);
        i32 all_low = dot2_ss_lo(l.x, r.scales.x, 0);
        all_low = dot2_ss_hi(l.y, r.scales.x, all_low);
        all_low = dot2_ss_lo(l.z, r.scales.y, all_low);
        all_low = dot2_ss_hi(l.w, r.scales.y, all_low);
        float product = 256.0f * static_cast<float>(sum_high - 32 * all_high) + static_cast<float>(sum_low - 32 * all_low);
        float d = half_to_float(r.d);
        factors(r, next.tile);
        return *shared<float>(at.scale + tile * 4) * d * product;
    }
};
