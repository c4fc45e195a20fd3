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

// Quantises 256 columns, eight a lane, into tile `tile`. All lanes of a warp take part.
DEVICE void quantise_tile(const Staged &at, u32 tile, const float (&x)[8]) {
    float most = 0.0f;
    UNROLL for (u32 i = 0; i < 8; i++) most = fmaxf(most, fabsf(x[i]));
    most = warp_max(most);
    float dx = most / 32512.0f;
    // A tile of zeros, or one so small that its inverse is not finite, is nothing.
    float inverse = most > 1e-30f ? 32512.0f / most : 0.0f;
    u32 high[2] = {0, 0}, low[2] = {0, 0};
    i32 sum_high = 0, sum_low = 0;
    UNROLL for (u32 i = 0; i < 8; i++) {
        i32 fixed = round_to_int(x[i] * inverse);
        i32 h = (fixed + 128) >> 8, l = fixed - 256 * h;
        high[i / 4] |= (static_cast<u32>(h) & 255) << 8 * (i % 4);
        low[i / 4] |= (static_cast<u32>(l) & 255) << 8 * (i % 4);
        sum_high += h, sum_low += l;
    }
    *shared<Words2>(at.high + tile * 256 + lane() * 8) = {high[0], high[1]};
    *shared<Words2>(at.low + tile * 256 + lane() * 8) = {low[0], low[1]};
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
    if (lane() == 0) *shared<float>(at.scale + tile * 4) = dx;
}

// This warp's share of the tiles, BATCH of them under way at once; gives this lane's sum of squares.
template <u32 WARPS, bool FLOATS, u32 BATCH, bool NORM>
DEVICE float stage_tiles(const Source &source, const Staged &at, u32 tiles, float factor) {
    float squares = 0.0f;
    NO_UNROLL for (u32 first = warp(); first < tiles; first += BATCH * WARPS) {
        Floats4 v[BATCH][2], w[BATCH][2];
        UNROLL for (u32 i = 0; i < BATCH; i++) {
            UNROLL for (u32 half = 0; half < 2; half++) {
                u32 col = (first + i * WARPS) * 256 + lane() * 8 + half * 4;
                v[i][half] = stage_four(source, col, factor);
                if (NORM) w[i][half] = col < source.cols ? *reinterpret_cast<const Floats4 *>(source.norm + col) : Floats4{0, 0, 0, 0};
            }
        }
        UNROLL for (u32 i = 0; i < BATCH; i++) {
            u32 tile = first + i * WARPS;
            if (tile >= tiles) break;
            float x[8];
            UNROLL for (u32 half = 0; half < 2; half++) {
                Floats4 a = v[i][half];
                squares += a.x * a.x + a.y * a.y + a.z * a.z + a.w * a.w;
                if (NORM) a = {a.x * w[i][half].x, a.y * w[i][half].y, a.z * w[i][half].z, a.w * w[i][half].w};
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

// Stages this warp's share of the input; gives what `stage_meet` wants. With FLOATS the input is kept as f32
// [tiles * 256] at offset 0 instead of fixed point. `scratch`: 32 floats.
template <u32 WARPS, bool FLOATS> DEVICE float stage(const Source &source, const Staged &at, u32 tiles, float *scratch) {
    float factor = 1.0f;
    if (source.o != nullptr && source.post != nullptr) {
        float squares = 0.0f;
        NO_UNROLL for (u32 col = 4 * tid(); col < source.cols; col += 128 * WARPS) {
            Floats4 o = load_fresh(reinterpret_cast<const Floats4 *>(source.o + col));
            squares += o.x * o.x + o.y * o.y + o.z * o.z + o.w * o.w;
        }
        factor = rsqrtf(block_sum<WARPS>(squares, scratch) / static_cast<float>(source.cols) + source.eps);
    }
    return source.norm != nullptr ? stage_tiles<WARPS, FLOATS, 1, true>(source, at, tiles, factor)
                                  : stage_tiles<WARPS, FLOATS, 2, false>(source, at, tiles, factor);
}

// Meets; leaves the factor that multiplies every product of the input (1/rms, or 1) in scratch[warp()], one
// for each warp: cheaper than a register for the whole kernel.
template <u32 WARPS> DEVICE void stage_meet(const Source &source, float squares, float *scratch) {
    float sum = block_sum<WARPS>(squares, scratch + 16);
    if (lane() == 0) scratch[warp()] = source.norm == nullptr ? 1.0f : rsqrtf(sum / static_cast<float>(source.cols) + source.eps);
    sync_warp();
}

// The step of a warp's stream after the one being computed: each register is filled again as soon as it has
// been used, so a whole step is always under way. After the last step some other tile is read for nothing:
// cheaper than asking.
struct Next {
    const u8 *tile;
    u32 step; // within the tile
};
