// The input of a product of one row, put into shared memory by every block for itself: residual, norm and
// quantisation at once, so that no kernel of their own is needed.
//
// Fixed point: per 256 columns dx = max|x| / 32512, X = round(x / dx) in [-32512, 32512], kept as two planes
// of bytes h = (X + 128) >> 8 and l = X - 256 h, both signed. Error at most dx / 2: 2^-16 of the largest
// value of the 256. The factor 1/rms of a norm is common to all columns and multiplies the result instead,
// so quantising need not wait for the sum of squares.
#pragma once
#include "common.cuh"

// Byte offsets of the staged input in shared memory, for `tiles` column tiles.
struct Staged {
    u32 high, low; // i8 [tiles * 256]
    u32 pairs32;   // i16 [tiles][parity][h, l][4]: sums over sub-blocks 2j + parity
    u32 pairs16;   // i16 [tiles][parity][h, l][4][2]: sums over their halves of 16 columns
    u32 sums32;    // i32 [tiles][parity][4]: 256 h + l of pairs32
    u32 scale;     // f32 [tiles]: dx
    u32 rest;      // first byte behind
};
DEVICE constexpr Staged staged(u32 tiles) {
    return {0, tiles * 256, tiles * 512, tiles * 544, tiles * 608, tiles * 640, (tiles * 644 + 15) / 16 * 16};
}

// Sum over the block of one value a warp (lane 0's), through 16 floats at `scratch`.
template <u32 WARPS> DEVICE float block_sum(float value, float *scratch) {
    value = warp_sum(value);
    if (lane() == 0) scratch[warp()] = value;
    sync_block();
    return warp_sum(lane() < WARPS ? scratch[lane()] : 0.0f);
}

// Four values of x + o from column `col` on; zeros beyond the width. `factor` multiplies o before `post`.
DEVICE Floats4 stage_four(const Source &source, u32 col, float factor) {
    if (col >= source.cols) return {0, 0, 0, 0}; // widths are multiples of four
    Floats4 v = load_fresh(reinterpret_cast<const Floats4 *>(source.x + col));
    if (source.o != nullptr) {
        Floats4 o = load_fresh(reinterpret_cast<const Floats4 *>(source.o + col));
        if (source.post != nullptr) {
            Floats4 post = *reinterpret_cast<const Floats4 *>(source.post + col);
            o = {o.x * factor * post.x, o.y * factor * post.y, o.z * factor * post.z, o.w * factor * post.w};
        }
        v = {v.x + o.x, v.y + o.y, v.z + o.z, v.w + o.w};
        if (source.x_out != nullptr && block_x() == 0) *reinterpret_cast<Floats4 *>(source.x_out + col) = v;
    }
    return v;
}

// Four floats' fixed-point bits to one word of low and one of high bytes: X = 256 h + l with both signed is
// l = byte 0 of X, h = byte 1 of X + 128.
DEVICE void split_bytes(const u32 (&fixed)[8], u32 first, u32 &high, u32 &low) {
    u32 a = fixed[first], b = fixed[first + 1], c = fixed[first + 2], d = fixed[first + 3];
    low = pick_bytes(pick_bytes(a, b, 0x0040), pick_bytes(c, d, 0x0040), 0x5410);
    high = pick_bytes(pick_bytes(a + 128, b + 128, 0x0051), pick_bytes(c + 128, d + 128, 0x0051), 0x5410);
}

// Quantises 256 columns, eight a lane, into tile `tile`. All lanes of a warp take part.
DEVICE void quantise_tile(const Staged &at, u32 tile, const float (&x)[8]) {
    // Compared as integers: a NaN is the largest of all, makes dx NaN and so every product.
    u32 bits = 0;
    UNROLL for (u32 i = 0; i < 8; i++) {
        u32 magnitude = float_to_bits(x[i]) & 0x7fffffff;
        bits = magnitude > bits ? magnitude : bits;
    }
    float most = bits_to_float(warp_most(bits));
    // So small that its inverse is not finite, it is nothing.
    float inverse = most < 1e-30f ? 0.0f : 32512.0f * reciprocal_fast(most);
    u32 fixed[8], high[2], low[2];
    // The sum with 1.5 * 2^23 has the rounded integer in its low bits.
    UNROLL for (u32 i = 0; i < 8; i++) fixed[i] = float_to_bits(x[i] * inverse + 12582912.0f);
    split_bytes(fixed, 0, high[0], low[0]);
    split_bytes(fixed, 4, high[1], low[1]);
    *shared<Words2>(at.high + tile * 256 + lane() * 8) = {high[0], high[1]};
    *shared<Words2>(at.low + tile * 256 + lane() * 8) = {low[0], low[1]};
    constexpr u32 ONES = 0x01010101;
    i32 sum_high = dot4_ss(high[0], ONES, dot4_ss(high[1], ONES, 0)), sum_low = dot4_ss(low[0], ONES, dot4_ss(low[1], ONES, 0));
    sum_high += shfl_xor(sum_high, 1u), sum_low += shfl_xor(sum_low, 1u);
    u32 sub = lane() / 4, parity = sub % 2, j = sub / 2;
    if (lane() % 2 == 0) {
        i16 *pairs = shared<i16>(at.pairs16 + (tile * 2 + parity) * 32) + 2 * j + lane() / 2 % 2;
        pairs[0] = static_cast<i16>(sum_high), pairs[8] = static_cast<i16>(sum_low);
    }
    sum_high += shfl_xor(sum_high, 2u), sum_low += shfl_xor(sum_low, 2u);
    if (lane() % 4 == 0) {
        i16 *pairs = shared<i16>(at.pairs32 + (tile * 2 + parity) * 16) + j;
        pairs[0] = static_cast<i16>(sum_high), pairs[4] = static_cast<i16>(sum_low);
        shared<i32>(at.sums32 + (tile * 2 + parity) * 16)[j] = 256 * sum_high + sum_low;
    }
    if (lane() == 0) *shared<float>(at.scale + tile * 4) = most * (1.0f / 32512.0f);
}

// Four weights of the norm from column `col` on; they are no kernel's result and need no waiting.
DEVICE Floats4 norm_four(const Source &source, u32 col) {
    return col < source.cols ? *reinterpret_cast<const Floats4 *>(source.norm + col) : Floats4{0, 0, 0, 0};
}

// This warp's share of the tiles; gives this lane's sum of squares. `weights` are the norm's for the first of
// them. BATCH tiles are under way at once.
template <u32 WARPS, bool FLOATS, u32 BATCH, bool NORM>
DEVICE float stage_tiles(const Source &source, const Staged &at, u32 tiles, float factor, Floats4 (&weights)[2]) {
    float squares = 0.0f;
    NO_UNROLL for (u32 first = warp(); first < tiles; first += BATCH * WARPS) {
        Floats4 v[BATCH][2];
        UNROLL for (u32 i = 0; i < BATCH; i++) {
            UNROLL for (u32 half = 0; half < 2; half++) v[i][half] = stage_four(source, (first + i * WARPS) * 256 + lane() * 8 + half * 4, factor);
        }
        UNROLL for (u32 i = 0; i < BATCH; i++) {
            u32 tile = first + i * WARPS;
            if (tile >= tiles) break;
            float x[8];
            UNROLL for (u32 half = 0; half < 2; half++) {
                Floats4 a = v[i][half];
                squares += a.x * a.x + a.y * a.y + a.z * a.z + a.w * a.w;
                if (NORM) {
                    Floats4 w = weights[half];
                    a = {a.x * w.x, a.y * w.y, a.z * w.z, a.w * w.w};
                    weights[half] = norm_four(source, (tile + WARPS) * 256 + lane() * 8 + half * 4);
                }
                x[4 * half] = a.x, x[4 * half + 1] = a.y, x[4 * half + 2] = a.z, x[4 * half + 3] = a.w;
            }
            if (FLOATS) {
                u32 to = (tile * 256 + lane() * 8) * 4;
                *shared<Floats4>(to) = {x[0], x[1], x[2], x[3]};
                *shared<Floats4>(to + 16) = {x[4], x[5], x[6], x[7]};
            } else {
                quantise_tile(at, tile, x);
            }
        }
    }
    return squares;
}

// Stages the whole input and meets; leaves the factor that multiplies every product of it (1/rms, or 1) in
// scratch[warp()], one for each warp: cheaper than a register for the whole kernel. With FLOATS the input is
// kept as f32 [tiles * 256] at offset 0 instead of fixed point. `scratch`: 64 floats. Inputs without a norm are
// wide: BATCH of their tiles are under way at once.
template <u32 WARPS, bool FLOATS, u32 BATCH> DEVICE void stage(const Source &source, const Staged &at, u32 tiles, float *scratch) {
    Floats4 weights[2] = {};
    if (source.norm != nullptr) {
        UNROLL for (u32 half = 0; half < 2; half++) weights[half] = norm_four(source, warp() * 256 + lane() * 8 + half * 4);
    }
    pdl_wait();
    float factor = 1.0f;
    if (source.o != nullptr && source.post != nullptr) {
        float squares = 0.0f;
        NO_UNROLL for (u32 col = 4 * tid(); col < source.cols; col += 128 * WARPS) {
            Floats4 o = load_fresh(reinterpret_cast<const Floats4 *>(source.o + col));
            squares += o.x * o.x + o.y * o.y + o.z * o.z + o.w * o.w;
        }
        factor = rsqrtf(block_sum<WARPS>(squares, scratch) / static_cast<float>(source.cols) + source.eps);
    }
    if (source.norm == nullptr) {
        stage_tiles<WARPS, FLOATS, BATCH, false>(source, at, tiles, factor, weights);
        if (lane() == 0) scratch[warp()] = 1.0f;
        sync_block();
        return;
    }
    float squares = stage_tiles<WARPS, FLOATS, 1, true>(source, at, tiles, factor, weights);
    float sum = block_sum<WARPS>(squares, scratch + 32);
    if (lane() == 0) scratch[warp()] = rsqrtf(sum / static_cast<float>(source.cols) + source.eps);
    sync_warp();
}

// The step of a warp's stream after the one being computed: each register is filled again as soon as it has
// been used, so a whole step is always under way. After the last step some other tile is read for nothing:
// cheaper than asking.
struct Next {
    const u8 *tile;
    u32 step; // within the tile
};
