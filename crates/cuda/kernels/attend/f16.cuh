// Attention over a cache of halves: what the walk of attend.cuh asks of a cache.
//
// Pairs are the 16 rows of A: m16n8k16 in f16 with sums in f32, S = Q · Kᵀ in WIDTH / 16 k-steps, O = P · V.
// Of a page's keys [32 positions][WIDTH], lane (g, t) takes the 16 bytes of dimensions 32c + 8t.. of position
// 8(g/2) + 2j + g%2 for n-tile j: two k-steps of B whose dimensions are the queries' 16 bytes at 32c + 8t,
// whatever their order. The scores are, packed, the A fragments of P · V; its B fragments are the 16 bytes of
// positions 8t..8t+7 of dimension 8n + g of the transposed values: 512 bytes in a row for a warp.
//
// Error: P and Q are rounded to f16, 2^-11 of each; sums are in f32. Against exact attention over the same
// f16 cache about 5e-4 of the root mean square of the output.
#pragma once
#include "../attend.cuh"
#include "../kv/f16.cuh"

template <u32 WIDTH_, u32 TALL, u32 DEPTH_> struct F16Walk {
    using Type = F16Cache;
    static constexpr u32 WIDTH = WIDTH_, DEPTH = DEPTH_, CHUNKS = WIDTH / 32, GROUPS = 2 * CHUNKS;
    static constexpr bool LATE = false;
    static constexpr float LIFT = 0.0f;
    static constexpr u32 PAIRS = 16 * TALL, ROWS = 2 * TALL, QUERIES = PAIRS * WIDTH * 2, SCRATCH = 0;

    struct Ring {
        Words4 words[DEPTH][4];
    };
    struct Out {
        F32x4 o[TALL][WIDTH / 8];
    };

    // Queries are the A fragments they will be: [m-tile][32 dimensions][k-step][lane] 16 bytes, of which word i
    // is of row g + 8 * (i % 2), dimensions 8t + 4 * k-step + 2 * (i / 2) and the one after.
    static METHOD u32 query_half(u32 pair, u32 d) {
        u32 m = pair / 16, g = pair % 8, high = pair / 8 % 2, t = d / 8 % 4, step = d / 4 % 2;
        return (((m * (WIDTH / 32) + d / 32) * 2 + step) * 32 + 4 * g + t) * 8 + (d / 2 % 2 * 2 + high) * 2 + d % 2;
    }

    // One query by one warp, turned if fused; pairs beyond the tile's are zeros.
    static METHOD void stage_query(const AttendArgs &a, const Tile &tile, u32 pair, float factor, u8 *staged, float *) {
        u16 *queries = reinterpret_cast<u16 *>(staged);
        if (pair >= tile.pairs) {
            UNROLL for (u32 d = 0; d < WIDTH; d += 32) queries[query_half(pair, d + lane())] = 0;
            return;
        }
        query_head<WIDTH>(a, tile, pair).each([&](u32 d, float value) { queries[query_half(pair, d)] = float_to_half(value * factor); });
    }

    // All queries of a tile by one warp, already turned: four dimensions a lane, eight loads under way.
    static METHOD void stage_queries(const AttendArgs &a, const Tile &tile, float factor, u8 *staged) {
        constexpr u32 FOURS = WIDTH / 4, ITEMS = PAIRS * FOURS / 32, BATCH = 8;
        static_assert(ITEMS % BATCH == 0, "whole batches");
        u16 *queries = reinterpret_cast<u16 *>(staged);
        NO_UNROLL for (u32 i = 0; i < ITEMS; i += BATCH) {
            Floats4 q[BATCH];
            UNROLL for (u32 j = 0; j < BATCH; j++) {
                u32 item = (i + j) * 32 + lane(), pair = item / FOURS, d = item % FOURS * 4;
                q[j] = {0.0f, 0.0f, 0.0f, 0.0f};
                if (pair < tile.pairs && d < a.head_dim) q[j] = *reinterpret_cast<const Floats4 *>(query_at(a, tile, pair) + d);
            }
            UNROLL for (u32 j = 0; j < BATCH; j++) {
                u32 item = (i + j) * 32 + lane();
                u32 *to = reinterpret_cast<u32 *>(queries + query_half(item / FOURS, item % FOURS * 4));
                to[0] = floats_to_halves(q[j].x * factor, q[j].y * factor);
                to[2] = floats_to_halves(q[j].z * factor, q[j].w * factor);
            }
        }
    }

    static METHOD Pages pages(const AttendArgs &a, const Tile &tile) {
        u32 g = lane() / 4, t = lane() % 4;
        u32 keys = (8 * (g / 2) + g % 2) * 2 * WIDTH + 16 * t, values = 64 * g + 16 * t;
        return pages_of(a, tile, Type::block<WIDTH>(), keys, values, keys);
    }

    // Group `group` of a page: four n-tiles of 32 dimensions of the keys, then four n-tiles of the values.
    static METHOD void load_group(Ring &ring, u32 place, const u8 *keys, const Pages &pages, u32 group) {
        UNROLL for (u32 j = 0; j < 4; j++) {
            const u8 *at = group < CHUNKS ? keys + group * 64 + j * 4 * WIDTH : keys + pages.values + ((group - CHUNKS) * 4 + j) * 512;
            ring.words[place][j] = *reinterpret_cast<const Words4 *>(at);
        }
    }
    static METHOD void load_beside_keys(Ring &, const u8 *, const Pages &) {}
    static METHOD void load_beside_values(Ring &, const u8 *, const Pages &) {}

    static METHOD void clear(Out &out) {
        UNROLL for (u32 m = 0; m < TALL; m++) {
            UNROLL for (u32 n = 0; n < WIDTH / 8; n++) out.o[m][n] = {0.0f, 0.0f, 0.0f, 0.0f};
        }
    }

    template <typename Refill> static METHOD void scores(Ring &ring, const u8 *staged, float (&scores)[ROWS][8], Refill refill) {
        const Words4 *queries = reinterpret_cast<const Words4 *>(staged) + lane();
        F32x4 s[TALL][4];
        UNROLL for (u32 m = 0; m < TALL; m++) {
            UNROLL for (u32 j = 0; j < 4; j++) s[m][j] = {0.0f, 0.0f, 0.0f, 0.0f};
        }
        UNROLL for (u32 u = 0; u < CHUNKS; u++) {
            Words4(&k)[4] = ring.words[u % DEPTH];
            UNROLL for (u32 m = 0; m < TALL; m++) {
                Words4 q = queries[(m * CHUNKS + u) * 64], r = queries[(m * CHUNKS + u) * 64 + 32];
                UNROLL for (u32 j = 0; j < 4; j++) mma_f16(s[m][j], q.x, q.y, q.z, q.w, k[j].x, k[j].y);
                UNROLL for (u32 j = 0; j < 4; j++) mma_f16(s[m][j], r.x, r.y, r.z, r.w, k[j].z, k[j].w);
            }
            refill(u);
        }
        UNROLL for (u32 m = 0; m < TALL; m++) {
            UNROLL for (u32 j = 0; j < 4; j++) {
                scores[2 * m][2 * j] = s[m][j].x;
                scores[2 * m][2 * j + 1] = s[m][j].y;
                scores[2 * m + 1][2 * j] = s[m][j].z;
                scores[2 * m + 1][2 * j + 1] = s[m][j].w;
            }
        }
    }

    static METHOD void rescale(Out &out, const float (&keep)[ROWS]) {
        UNROLL for (u32 m = 0; m < TALL; m++) {
            UNROLL for (u32 n = 0; n < WIDTH / 8; n++) {
                out.o[m][n].x *= keep[2 * m];
                out.o[m][n].y *= keep[2 * m];
                out.o[m][n].z *= keep[2 * m + 1];
                out.o[m][n].w *= keep[2 * m + 1];
            }
        }
    }

    template <typename Refill>
    static METHOD void add_values(Ring &ring, Out &out, const float (&weights)[ROWS][8], bool edge, u32 page, const u8 *staged, Refill refill) {
        u32 p[TALL][2][4];
        UNROLL for (u32 m = 0; m < TALL; m++) {
            UNROLL for (u32 j = 0; j < 4; j++) {
                p[m][j / 2][j % 2 * 2] = floats_to_halves(weights[2 * m][2 * j], weights[2 * m][2 * j + 1]);
                p[m][j / 2][j % 2 * 2 + 1] = floats_to_halves(weights[2 * m + 1][2 * j], weights[2 * m + 1][2 * j + 1]);
            }
        }
        UNROLL for (u32 u = CHUNKS; u < 2 * CHUNKS; u++) {
            Words4(&v)[4] = ring.words[u % DEPTH];
            if (edge) {
                const Tile *tile = tile_of<F16Walk>(staged);
                u32 take[4], start = tile->start, count = tile->high - start + 1;
                UNROLL for (u32 j = 0; j < 4; j++) {
                    u32 here = page * PAGE + 8 * (lane() % 4) + 2 * j - start;
                    take[j] = (here < count ? 0xffffu : 0) | (here + 1 < count ? 0xffff0000u : 0);
                }
                UNROLL for (u32 j = 0; j < 4; j++) v[j] = {v[j].x & take[0], v[j].y & take[1], v[j].z & take[2], v[j].w & take[3]};
            }
            UNROLL for (u32 m = 0; m < TALL; m++) {
                F32x4 *o = &out.o[m][4 * (u - CHUNKS)];
                UNROLL for (u32 j = 0; j < 4; j++) mma_f16(o[j], p[m][0][0], p[m][0][1], p[m][0][2], p[m][0][3], v[j].x, v[j].y);
                UNROLL for (u32 j = 0; j < 4; j++) mma_f16(o[j], p[m][1][0], p[m][1][1], p[m][1][2], p[m][1][3], v[j].z, v[j].w);
            }
            refill(u);
        }
    }

    static METHOD void finish(Sums<F16Walk> &) {}

    // Columns first.. to before first + COLUMNS of the tile's pairs, to parts[pair * stride + column - first].
    template <u32 COLUMNS> static METHOD void put(const Sums<F16Walk> &sums, u32 first, u32 pairs, float *parts, u32 stride) {
        u32 g = lane() / 4, t = lane() % 4;
        parts += 2 * t;
        UNROLL for (u32 n = 0; n < COLUMNS / 8; n++) {
            const F32x4 &o = sums.o.o[0][first / 8 + n];
            if (g < pairs) *reinterpret_cast<Floats2 *>(parts + g * stride + 8 * n) = {o.x, o.y};
            if (g + 8 < pairs) *reinterpret_cast<Floats2 *>(parts + (g + 8) * stride + 8 * n) = {o.z, o.w};
        }
    }

    // Each pair's result to where it is wanted.
    static METHOD void write(const AttendArgs &a, const Tile &tile, const Sums<F16Walk> &sums) {
        u32 g = lane() / 4, t = lane() % 4;
        UNROLL for (u32 m = 0; m < TALL; m++) {
            UNROLL for (u32 h = 0; h < 2; h++) {
                u32 pair = 16 * m + 8 * h + g;
                bool mine = pair < tile.pairs;
                u32 row = mine ? output_row(a, tile.first + pair / tile.heads) : NOWHERE;
                mine = row != NOWHERE;
                u32 start = (tile.head + pair % tile.heads) * a.head_dim;
                float *out = a.out + static_cast<u64>(row) * a.heads * a.head_dim + start + 2 * t;
                float whole = 1.0f / sums.sum[2 * m + h];
                UNROLL for (u32 n = 0; n < WIDTH / 8; n++) {
                    const F32x4 &o = sums.o.o[m][n];
                    float x = (h ? o.z : o.x) * whole, y = (h ? o.w : o.y) * whole;
                    bool take = mine && 8 * n < a.head_dim;
                    if (take && a.out) *reinterpret_cast<Floats2 *>(out + 8 * n) = {x, y};
                    if (a.out_halves) {
                        // Columns 4i and 4i + 2 are neighbours in the order of matmul: two lanes exchange one each.
                        float other = shfl_xor(t % 2 ? x : y, 1);
                        u32 at = start + 8 * n;
                        u32 *to = reinterpret_cast<u32 *>(a.out_halves + static_cast<u64>(row) * a.halves_stride + at / 32 * 32);
                        u32 word = at / 16 % 2 * 8 + at / 8 % 2 * 2 + t / 2 + t % 2 * 4;
                        if (take) to[word] = t % 2 ? floats_to_halves(other, y) : floats_to_halves(x, other);
                    }
                }
            }
        }
    }
};
