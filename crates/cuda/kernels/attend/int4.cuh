// Attention over a cache of nibbles: what the walk of attend.cuh asks of a cache.
//
// With step and least value of every 32 dimensions c of a key,
//   score = (sum over c of step · (256 · sum h + sum l) + least · sum X) · dq
// where the first sums are integers of tensor cores and the rest of the second is one more product of theirs in
// f16, whose A has sum X of c as two halves and whose B the least values of eight positions. Values likewise: P is
// multiplied by the step of 32 dimensions and their codes are halves as they are, the smallest there are: code ·
// 2^-24, in rows 8..15 16 · code · 2^-24; least values times P are sixteen rows of a product for the whole head.
//
// Error, beside that of the cache: queries 2^-16 of the largest, P twice 2^-11. Against exact attention over the
// same codes about 4e-4 of the root mean square of the output.
#pragma once
#include "../kv/int4.cuh"
#include "eights.cuh"

template <u32 WIDTH_, u32 TALL, u32 DEPTH_> struct Int4Walk : Eights<WIDTH_, TALL> {
    using Type = Int4Cache;
    using Base = Eights<WIDTH_, TALL>;
    using Base::CHUNKS;
    using Base::FIXED;
    using Base::PAIRS;
    using Base::ROWS;
    using Base::WIDTH;
    static constexpr u32 DEPTH = DEPTH_, GROUPS = 2 * CHUNKS;
    // Whether least values of values are loaded only when the page's scores are there, to save registers.
    static constexpr bool LATE = TALL > 1;
    static_assert(!LATE || DEPTH <= CHUNKS, "what is loaded late is still of the same page");
    // Sums of X as A fragments, eight bytes a lane: halves of 32 dimensions 2t and 2t + 1, high parts and low ones.
    static constexpr u32 QUERIES = FIXED + PAIRS * 32, SCRATCH = Type::scratch<WIDTH>();

    struct Ring {
        Words4 words[DEPTH][2]; // codes; steps of positions 8t..8t+7
        Words2 keys[2];         // least values of 32 dimensions 2t and 2t + 1, of the lane's four columns
        Words4 values;          // of 32 dimensions g, positions 8t..8t+7
    };
    struct Out : Base::Out {
        F32x4 least[TALL]; // row g: of 32 dimensions g
    };

    static METHOD void stage_row(const Int4Cache::Row<WIDTH> &row, u32 pair, float factor, u8 *staged) {
        float most = 0.0f;
        UNROLL for (u32 c = 0; c < CHUNKS; c++) most = fmaxf(most, fabsf(row.x[c]));
        most = warp_max(most);
        float by = Base::query_steps(most);
        u16 *sums = reinterpret_cast<u16 *>(staged + FIXED) + (pair / 8 * 32 + pair % 8 * 4) * 4;
        UNROLL for (u32 c = 0; c < 8; c++) {
            float sum = 0.0f;
            if (c < CHUNKS) sum = warp_sum(static_cast<float>(Base::put_query(staged, pair, 32 * c + lane(), row.x[c < CHUNKS ? c : 0], by)));
            sum *= 1.0f / 32.0f;
            u16 high = float_to_half(sum);
            if (lane() == 0) {
                sums[c / 2 * 4 + c % 2] = high;
                sums[c / 2 * 4 + 2 + c % 2] = float_to_half(sum - half_to_float(high));
            }
        }
        Base::put_factor(staged, pair, most, factor);
    }

    // One query by one warp, turned if fused; pairs beyond the tile's are zeros.
    static METHOD void stage_query(const AttendArgs &a, const Tile &tile, u32 pair, float factor, u8 *staged, float *scratch) {
        Int4Cache::Row<WIDTH> row;
        if (pair < tile.pairs) {
            row = Int4Cache::ordered(query_head<WIDTH>(a, tile, pair), scratch);
            Int4Cache::rotate(row, a.head_dim);
        } else {
            UNROLL for (u32 c = 0; c < CHUNKS; c++) row.x[c] = 0.0f;
        }
        stage_row(row, pair, factor, staged);
    }

    // All queries of a tile by one warp, already turned.
    static METHOD void stage_queries(const AttendArgs &a, const Tile &tile, float factor, u8 *staged) {
        NO_UNROLL for (u32 pair = 0; pair < PAIRS; pair++) {
            bool there = pair < tile.pairs;
            const float *from = query_at(a, tile, there ? pair : 0);
            Int4Cache::Row<WIDTH> row;
            UNROLL for (u32 c = 0; c < CHUNKS; c++) {
                u32 d = 32 * c + lane();
                row.x[c] = there && d < a.head_dim ? from[d] : 0.0f;
            }
            Int4Cache::rotate(row, a.head_dim);
            stage_row(row, pair, factor, staged);
        }
    }

    static METHOD Pages pages(const AttendArgs &a, const Tile &tile) {
        return pages_of(a, tile, Type::block<WIDTH>(), 16 * lane(), 16 * lane(), Type::steps<WIDTH>() + 16 * (lane() % 4));
    }

    // Group `group` of a page: 32 dimensions of the keys of all positions, then 32 dimensions of the values.
    static METHOD void load_group(Ring &ring, u32 place, const u8 *keys, const Pages &pages, u32 group) {
        const u8 *at = group < CHUNKS ? keys : keys + pages.values;
        ring.words[place][0] = *reinterpret_cast<const Words4 *>(at + group % CHUNKS * 512);
        ring.words[place][1] = *reinterpret_cast<const Words4 *>(at + pages.beside + group % CHUNKS * 64);
    }
    static METHOD void load_beside_keys(Ring &ring, const u8 *keys, const Pages &) {
        u32 g = lane() / 4, t = lane() % 4;
        const u8 *at = keys + (Type::leasts<WIDTH>() + 128 * t + 8 * g - 16 * lane());
        UNROLL for (u32 e = 0; e < 2; e++) {
            ring.keys[e] = {0, 0};
            if (2 * t + e < CHUNKS) ring.keys[e] = *reinterpret_cast<const Words2 *>(at + 64 * e);
        }
    }
    static METHOD void load_beside_values(Ring &ring, const u8 *keys, const Pages &pages) {
        u32 g = lane() / 4, t = lane() % 4;
        ring.values = {0, 0, 0, 0};
        if (g < CHUNKS) ring.values = *reinterpret_cast<const Words4 *>(keys + pages.values + (Type::leasts<WIDTH>() + 64 * g + 16 * t - 16 * lane()));
    }

    static METHOD void clear(Out &out) {
        Base::clear(out);
        UNROLL for (u32 r = 0; r < ROWS; r++) out.least[r] = {0.0f, 0.0f, 0.0f, 0.0f};
    }

    template <typename Refill> static METHOD void scores(Ring &ring, const u8 *staged, float (&scores)[ROWS][8], Refill refill) {
        const Words4 *queries = reinterpret_cast<const Words4 *>(staged) + lane();
        const Words2 *sums = reinterpret_cast<const Words2 *>(staged + FIXED) + lane();
        const float *factors = reinterpret_cast<const float *>(staged + Base::CODES) + lane() / 4;
        u32 least[4] = {pick_bytes(ring.keys[0].x, ring.keys[1].x, 0x5410), pick_bytes(ring.keys[0].x, ring.keys[1].x, 0x7632),
                        pick_bytes(ring.keys[0].y, ring.keys[1].y, 0x5410), pick_bytes(ring.keys[0].y, ring.keys[1].y, 0x7632)};
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            Words2 sum = sums[r * 32];
            UNROLL for (u32 j = 0; j < 4; j++) {
                F32x4 s = {0.0f, 0.0f, 0.0f, 0.0f};
                mma_f16(s, sum.x, 0, sum.y, 0, least[j], least[j]);
                scores[r][2 * j] = s.x * 32.0f;
                scores[r][2 * j + 1] = s.y * 32.0f;
            }
        }
        UNROLL for (u32 u = 0; u < CHUNKS; u++) {
            Words4 k = ring.words[u % DEPTH][0], step = ring.words[u % DEPTH][1];
            const u32 codes[4] = {k.x, k.y, k.z, k.w}, steps[4] = {step.x, step.y, step.z, step.w};
            UNROLL for (u32 r = 0; r < ROWS; r++) {
                Words4 q = queries[(r * CHUNKS + u) * 32];
                UNROLL for (u32 j = 0; j < 4; j++) {
                    I32x4 s = {0, 0, 0, 0};
                    mma_ss(s, q.x, q.y, q.z, q.w, codes[j] & 0x0f0f0f0fu, codes[j] >> 4 & 0x0f0f0f0fu);
                    scores[r][2 * j] = fmaf(half_low(steps[j]), static_cast<float>(256 * s.x + s.z), scores[r][2 * j]);
                    scores[r][2 * j + 1] = fmaf(half_high(steps[j]), static_cast<float>(256 * s.y + s.w), scores[r][2 * j + 1]);
                }
            }
            refill(u);
        }
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            float factor = factors[8 * r];
            UNROLL for (u32 i = 0; i < 8; i++) scores[r][i] *= factor;
        }
    }

    static METHOD void rescale(Out &out, const float (&keep)[ROWS]) {
        Base::rescale(out, keep);
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            Floats2 by = Base::of_columns(keep[r]);
            out.least[r].x *= by.x;
            out.least[r].y *= by.y;
        }
    }

    template <typename Refill>
    static METHOD void add_values(Ring &ring, Out &out, const float (&weights)[ROWS][8], bool edge, u32 page, const u8 *staged, Refill refill) {
        u32 take[4] = {~0u, ~0u, ~0u, ~0u};
        if (edge) {
            const Tile *tile = tile_of<Int4Walk>(staged);
            u32 start = tile->start, count = tile->high - start + 1;
            UNROLL for (u32 j = 0; j < 4; j++) {
                u32 here = page * PAGE + 8 * (lane() % 4) + 2 * j - start;
                take[j] = (here < count ? 0xffffu : 0) | (here + 1 < count ? 0xffff0000u : 0);
            }
        }
        u32 p[ROWS][4];
        Words4 least = ring.values;
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            UNROLL for (u32 j = 0; j < 4; j++) p[r][j] = floats_to_halves(weights[r][2 * j], weights[r][2 * j + 1]);
            mma_f16(out.least[r], least.x & take[0], 0, least.y & take[1], 0, p[r][0], p[r][1]);
            mma_f16(out.least[r], least.z & take[2], 0, least.w & take[3], 0, p[r][2], p[r][3]);
        }
        UNROLL for (u32 u = CHUNKS; u < GROUPS; u++) {
            Words4 v = ring.words[u % DEPTH][0], step = ring.words[u % DEPTH][1];
            const u32 codes[4] = {v.x, v.y, v.z, v.w};
            const u32 steps[4] = {step.x & take[0], step.y & take[1], step.z & take[2], step.w & take[3]};
            UNROLL for (u32 r = 0; r < ROWS; r++) {
                u32 scaled[4];
                UNROLL for (u32 j = 0; j < 4; j++) scaled[j] = halves_mul(p[r][j], steps[j]);
                UNROLL for (u32 i = 0; i < 4; i++) {
                    F32x4 &o = out.o[r][2 * (u - CHUNKS) + i / 2];
                    u32 low = codes[i], high = codes[i] >> 8;
                    mma_f16(o, low & 0x000f000fu, low & 0x00f000f0u, high & 0x000f000fu, high & 0x00f000f0u, scaled[i % 2 * 2], scaled[i % 2 * 2 + 1]);
                }
            }
            refill(u);
        }
    }

    static METHOD void finish(Sums<Int4Walk> &sums) {
        constexpr float UNIT = 1.0f / 16777216.0f;
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            sums.sum[r] *= UNIT;
            UNROLL for (u32 c = 0; c < CHUNKS; c++) {
                u32 from = 4 * c + lane() % 4;
                float x = shfl(sums.o.least[r].x, from) * UNIT, y = shfl(sums.o.least[r].y, from) * UNIT;
                UNROLL for (u32 i = 0; i < 2; i++) {
                    F32x4 &o = sums.o.o[r][2 * c + i];
                    o = {o.x + x, o.y + y, fmaf(o.z, 1.0f / 16.0f, x), fmaf(o.w, 1.0f / 16.0f, y)};
                }
            }
        }
    }
};
