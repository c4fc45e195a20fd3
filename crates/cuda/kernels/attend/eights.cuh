// Attention over caches of small integers: eight pairs are the columns of what is summed.
//
// A query is 16-bit fixed point, X = round(q / dq) = 256 h + l with dq = max|q| / 32512, so that products with
// codes of keys are exact sums of integers: m16n8k32, eight pairs' h are rows 0..7 of A and their l rows 8..15.
// Eight pairs are all that decoding has of most models: half the products of sixteen rows of halves.
//
// P · V is the other way round, Oᵀ = Vᵀ · Pᵀ: sixteen dimensions of values are the rows of A, for those are what
// must be converted; the scores are, packed, B of both k-steps. Row g of sixteen is dimension 4(g/2) + g%2, row
// g + 8 the one two further: neighbours in the order of matmul.
#pragma once
#include "../attend.cuh"

template <u32 WIDTH_, u32 TALL> struct Eights {
    static constexpr u32 WIDTH = WIDTH_, CHUNKS = WIDTH / 32, PAIRS = 8 * TALL, ROWS = TALL;
    // Staged queries: codes of all pairs, then the factor of each.
    static constexpr u32 CODES = PAIRS * WIDTH * 2, FIXED = CODES + PAIRS * 4;
    static constexpr float LIFT = 7.0f;
    // Bytes of shared memory that a warp needs to store a head or to stage a query.
    static constexpr u32 SCRATCH = 0;

    struct Out {
        F32x4 o[TALL][WIDTH / 16];
    };

    // Codes are the A fragments they will be: [eight pairs][32 dimensions][lane] 16 bytes, words 0 and 2 of h,
    // 1 and 3 of l, dimensions 4t.. and 16+4t..
    static METHOD u32 query_byte(u32 pair, u32 d) {
        return ((pair / 8 * CHUNKS + d / 32) * 32 + pair % 8 * 4 + d / 4 % 4) * 16 + d / 16 % 2 * 8 + d % 4;
    }
    static METHOD i32 put_query(u8 *staged, u32 pair, u32 d, float value, float by) {
        i32 x = round_to_int(value * by), high = (x + 128) >> 8;
        u8 *to = staged + query_byte(pair, d);
        to[0] = static_cast<u8>(high);
        to[4] = static_cast<u8>(x - 256 * high);
        return x;
    }
    // 1 / dq for the largest magnitude of a query; what is too small for that is zero.
    static METHOD float query_steps(float most) { return most > 1e-30f ? 32512.0f / most : 0.0f; }
    static METHOD void put_factor(u8 *staged, u32 pair, float most, float factor) {
        if (lane() == 0) reinterpret_cast<float *>(staged + CODES)[pair] = most * (1.0f / 32512.0f) * factor;
    }

    static METHOD void clear(Out &out) {
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            UNROLL for (u32 n = 0; n < WIDTH / 16; n++) out.o[r][n] = {0.0f, 0.0f, 0.0f, 0.0f};
        }
    }

    // The numbers of pairs 2t and 2t + 1 of eight, of which this lane has pair g's.
    static METHOD Floats2 of_columns(float value) { return {shfl(value, lane() % 4 * 8), shfl(value, lane() % 4 * 8 + 4)}; }

    static METHOD void rescale(Out &out, const float (&keep)[ROWS]) {
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            Floats2 by = of_columns(keep[r]);
            UNROLL for (u32 n = 0; n < WIDTH / 16; n++) {
                out.o[r][n].x *= by.x;
                out.o[r][n].y *= by.y;
                out.o[r][n].z *= by.x;
                out.o[r][n].w *= by.y;
            }
        }
    }

    // The first of the lane's dimensions of sixteen; the other is two further.
    static METHOD u32 dimension() { return lane() / 8 * 4 + lane() / 4 % 2; }

    template <u32 COLUMNS, typename All> static METHOD void put(const All &sums, u32 first, u32 pairs, float *parts, u32 stride) {
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            u32 pair = 8 * r + 2 * (lane() % 4);
            float *to = parts + pair * stride + dimension();
            UNROLL for (u32 n = 0; n < COLUMNS / 16; n++) {
                const F32x4 &o = sums.o.o[r][first / 16 + n];
                if (pair < pairs) {
                    to[16 * n] = o.x;
                    to[16 * n + 2] = o.z;
                }
                if (pair + 1 < pairs) {
                    to[stride + 16 * n] = o.y;
                    to[stride + 16 * n + 2] = o.w;
                }
            }
        }
    }

    template <typename All> static METHOD void write(const AttendArgs &a, const Tile &tile, const All &sums) {
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            Floats2 whole = of_columns(1.0f / sums.sum[r]);
            UNROLL for (u32 e = 0; e < 2; e++) {
                u32 pair = 8 * r + 2 * (lane() % 4) + e;
                u32 row = pair < tile.pairs ? output_row(a, tile.first + pair / tile.heads) : NOWHERE;
                if (row == NOWHERE) continue;
                u32 start = (tile.head + pair % tile.heads) * a.head_dim + dimension();
                float *out = a.out + static_cast<u64>(row) * a.heads * a.head_dim + start;
                u16 *halves = a.out_halves + static_cast<u64>(row) * a.halves_stride;
                float by = e ? whole.y : whole.x;
                UNROLL for (u32 n = 0; n < WIDTH / 16; n++) {
                    const F32x4 &o = sums.o.o[r][n];
                    float x = (e ? o.y : o.x) * by, z = (e ? o.w : o.z) * by;
                    if (16 * n + dimension() >= a.head_dim) continue;
                    if (a.out) {
                        out[16 * n] = x;
                        out[16 * n + 2] = z;
                    }
                    if (a.out_halves) {
                        // Columns 4i + e and 4i + e + 2 are neighbours in the order of matmul.
                        u32 at = start + 16 * n;
                        u16 *to = halves + at / 32 * 32 + at / 16 % 2 * 16 + at % 2 * 8 + at / 4 % 4 * 2;
                        *reinterpret_cast<u32 *>(to) = floats_to_halves(x, z);
                    }
                }
            }
        }
    }
};
