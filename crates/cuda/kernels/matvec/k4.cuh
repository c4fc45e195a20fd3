// Dot products of Q4_K and Q5_K tiles with one staged row.
//
// Lane L = parity * 16 + row has sub-blocks 2j + parity of its row, j = 0..3: one 16-byte load each, 512
// contiguous bytes a warp. Per sub-block: unpack 8 words of 4 codes, 16 dp4a (both planes of the input), then
// the 6-bit scale as an integer product; d, dmin and dx once a tile.
//   sum over columns of w x = dx (d sum_j sc_j (code_j . X_j) - dmin sum_j m_j (1 . X_j))
// Bounds: |sum_j sc (code . h)| <= 4 * 63 * 32 * 31 * 127 < 2^25: exact in i32; 256 of it is added in f32.
#pragma once
#include "../stage.cuh"

struct K4 {
    Words4 header, codes[4];
};

DEVICE Words4 k4_header(const u8 *tile) { return load_stream(reinterpret_cast<const Words4 *>(tile + (lane() & 15) * 16)); }
DEVICE Words4 k4_codes(const u8 *tile, u32 j) { return load_stream(reinterpret_cast<const Words4 *>(tile + 256 + j * 512 + lane() * 16)); }
DEVICE void k4_load(K4 &r, const u8 *tile) {
    r.header = k4_header(tile);
    UNROLL for (u32 j = 0; j < 4; j++) r.codes[j] = k4_codes(tile, j);
}

// Scales and mins of this lane's four sub-blocks, one a byte.
DEVICE void k4_scales(const Words4 &header, u32 &scales, u32 &mins) {
    u32 parity = lane() >> 4;
    u32 packed = parity ? header.z : header.y;
    scales = packed & 0x3f3f3f3f;
    mins = (header.w >> 4 * parity & 0x0f0f0f0f) | (packed >> 2 & 0x30303030);
}

// The tile's part of the product: integers of both planes, the mins' share, and the factors.
DEVICE float k4_finish(u32 factors, const Staged &at, u32 tile, u32 mins, i32 high, i32 low) {
    Words4 sums = *shared<Words4>(at.pairs32 + tile * 32 + (lane() >> 4) * 16);
    i32 min_high = dot2_su_hi(sums.y, mins, dot2_su_lo(sums.x, mins, 0));
    i32 min_low = dot2_su_hi(sums.w, mins, dot2_su_lo(sums.z, mins, 0));
    float product = 256.0f * static_cast<float>(high) + static_cast<float>(low);
    float offset = static_cast<float>(256 * min_high + min_low);
    return *shared<float>(at.scale + tile * 4) * (half_low(factors) * product - half_high(factors) * offset);
}

struct DotQ4K {
    static constexpr u32 FORMAT = Q4_K, STEPS = 1;
    static constexpr bool FLOATS = false;
    using Regs = K4;
    static METHOD void load(Regs &r, const u8 *tile, u32) { k4_load(r, tile); }
    static METHOD float dot(Regs &r, const Staged &at, u32 tile, u32, const Next &next) {
        u32 scales, mins, factors = r.header.x;
        k4_scales(r.header, scales, mins);
        r.header = k4_header(next.tile);
        i32 high = 0, low = 0;
        UNROLL for (u32 j = 0; j < 4; j++) {
            u32 x = tile * 256 + (2 * j + (lane() >> 4)) * 32;
            const u32 codes[4] = {r.codes[j].x, r.codes[j].y, r.codes[j].z, r.codes[j].w};
            r.codes[j] = k4_codes(next.tile, j);
            i32 sum[2];
            UNROLL for (u32 plane = 0; plane < 2; plane++) {
                u32 base = (plane ? at.low : at.high) + x;
                Words4 first = *shared<Words4>(base), second = *shared<Words4>(base + 16);
                // High codes are left sixteen times too large, which saves their shifts.
                i32 s = dot4_us(codes[0] & 0xf0f0f0f0, second.x, 0);
                s = dot4_us(codes[1] & 0xf0f0f0f0, second.y, s);
                s = dot4_us(codes[2] & 0xf0f0f0f0, second.z, s);
                s = dot4_us(codes[3] & 0xf0f0f0f0, second.w, s) >> 4;
                s = dot4_us(codes[0] & 0x0f0f0f0f, first.x, s);
                s = dot4_us(codes[1] & 0x0f0f0f0f, first.y, s);
                s = dot4_us(codes[2] & 0x0f0f0f0f, first.z, s);
                sum[plane] = dot4_us(codes[3] & 0x0f0f0f0f, first.w, s);
            }
            i32 scale = static_cast<i32>(scales >> 8 * j & 255);
            high += sum[0] * scale, low += sum[1] * scale;
        }
        return k4_finish(factors, at, tile, mins, high, low);
    }
};

struct DotQ5K {
    static constexpr u32 FORMAT = Q5_K, STEPS = 1;
    static constexpr bool FLOATS = false;
    struct Regs {
        K4 k4;
        Words4 fifth;
    };
    static METHOD void load(Regs &r, const u8 *tile, u32) {
        k4_load(r.k4, tile);
        r.fifth = load_stream(reinterpret_cast<const Words4 *>(tile + 2304 + lane() * 16));
    }
    static METHOD float dot(Regs &r, const Staged &at, u32 tile, u32, const Next &next) {
        u32 scales, mins, factors = r.k4.header.x;
        k4_scales(r.k4.header, scales, mins);
        i32 high = 0, low = 0;
        const u32 fifths[4] = {r.fifth.x, r.fifth.y, r.fifth.z, r.fifth.w};
        r.k4.header = k4_header(next.tile);
        r.fifth = load_stream(reinterpret_cast<const Words4 *>(next.tile + 2304 + lane() * 16));
        UNROLL for (u32 j = 0; j < 4; j++) {
            u32 x = tile * 256 + (2 * j + (lane() >> 4)) * 32;
            const u32 codes[4] = {r.k4.codes[j].x, r.k4.codes[j].y, r.k4.codes[j].z, r.k4.codes[j].w};
            r.k4.codes[j] = k4_codes(next.tile, j);
            u32 first[4], second[4];
            UNROLL for (u32 t = 0; t < 4; t++) {
                first[t] = (codes[t] & 0x0f0f0f0f) | (fifths[j] << (4 - t) & 0x10101010);
                second[t] = (codes[t] >> 4 & 0x0f0f0f0f) | (fifths[j] >> t & 0x10101010);
            }
            i32 sum[2];
            UNROLL for (u32 plane = 0; plane < 2; plane++) {
                u32 base = (plane ? at.low : at.high) + x;
                Words4 a = *shared<Words4>(base), b = *shared<Words4>(base + 16);
                i32 s = dot4_us(first[0], a.x, 0);
                s = dot4_us(first[1], a.y, s), s = dot4_us(first[2], a.z, s), s = dot4_us(first[3], a.w, s);
                s = dot4_us(second[0], b.x, s), s = dot4_us(second[1], b.y, s), s = dot4_us(second[2], b.z, s);
                sum[plane] = dot4_us(second[3], b.w, s);
            }
            i32 scale = static_cast<i32>(scales >> 8 * j & 255);
            high += sum[0] * scale, low += sum[1] * scale;
        }
        return k4_finish(factors, at, tile, mins, high, low);
    }
};
