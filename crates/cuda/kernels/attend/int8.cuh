// Attention over a cache of bytes: what the walk of attend.cuh asks of a cache.
//
// The codes of keys are multiplied as they are: score = (256 · sum h + sum l) · dq ·
// scale of the key. A value's byte, plus 128, becomes a half by 0x64 above it (1024 + 128 + code), from which 1152
// is taken. Its scale is folded into P, both rounded to f16; P is lifted by 128, so that the product is about P
// times the head's largest value, which f16 holds wherever an f16 cache would hold it.
//
// Error, beside that of the cache: queries 2^-16 of the largest, P twice 2^-11. Against exact attention over the
// same codes about 3e-4 of the root mean square of the output.
#pragma once
#include "../kv/int8.cuh"
#include "eights.cuh"

template <u32 WIDTH_, u32 TALL, u32 DEPTH_> struct Int8Walk : Eights<WIDTH_, TALL> {
    using Type = Int8Cache;
    using Base = Eights<WIDTH_, TALL>;
    using Base::CHUNKS;
    using Base::CODES;
    using Base::PAIRS;
    using Base::ROWS;
    using Base::WIDTH;
    using typename Base::Out;
    static constexpr u32 DEPTH = DEPTH_, GROUPS = 2 * CHUNKS;
    // Whether scales of values are loaded only when the page's scores are there, to save registers.
    static constexpr bool LATE = TALL > 1;
    static_assert(!LATE || DEPTH <= CHUNKS, "what is loaded late is still of the same page");
    // ABOVE after the factors: given a constant, the assembler would make copies of the other one for every
    // instruction that has both.
    static constexpr u32 QUERIES = Base::FIXED + 16, ABOVE = 0x64646464;

    struct Ring {
        Words4 words[DEPTH][2];
        Words4 keys, values; // scales of positions 8t..8t+7
    };

    static METHOD void put_factor(u8 *staged, u32 pair, float most, float factor) {
        Base::put_factor(staged, pair, most, factor);
        if (pair == 0 && lane() == 0) reinterpret_cast<u32 *>(staged + CODES)[PAIRS] = ABOVE;
    }

    // One query by one warp, turned if fused; pairs beyond the tile's are zeros.
    static METHOD void stage_query(const AttendArgs &a, const Tile &tile, u32 pair, float factor, u8 *staged, float *) {
        if (pair >= tile.pairs) {
            UNROLL for (u32 d = 0; d < WIDTH; d += 32) Base::put_query(staged, pair, d + lane(), 0.0f, 0.0f);
            put_factor(staged, pair, 0.0f, 0.0f);
            return;
        }
        Head<WIDTH> head = query_head<WIDTH>(a, tile, pair);
        float most = 0.0f;
        head.each([&](u32, float value) { most = fmaxf(most, fabsf(value)); });
        most = warp_largest(most);
        float by = Base::query_steps(most);
        head.each([&](u32 d, float value) { Base::put_query(staged, pair, d, value, by); });
        put_factor(staged, pair, most, factor);
    }

    // All queries of a tile by one warp, already turned, four at a time.
    static METHOD void stage_queries(const AttendArgs &a, const Tile &tile, float factor, u8 *staged) {
        constexpr u32 BATCH = 4;
        NO_UNROLL for (u32 first = 0; first < PAIRS; first += BATCH) {
            float q[BATCH][CHUNKS], most[BATCH];
            UNROLL for (u32 i = 0; i < BATCH; i++) {
                bool there = first + i < tile.pairs;
                const float *from = query_at(a, tile, there ? first + i : 0);
                UNROLL for (u32 c = 0; c < CHUNKS; c++) {
                    u32 d = 32 * c + lane();
                    q[i][c] = there && d < a.head_dim ? from[d] : 0.0f;
                }
            }
            UNROLL for (u32 i = 0; i < BATCH; i++) {
                most[i] = 0.0f;
                UNROLL for (u32 c = 0; c < CHUNKS; c++) most[i] = fmaxf(most[i], fabsf(q[i][c]));
                most[i] = warp_largest(most[i]);
                float by = Base::query_steps(most[i]);
                UNROLL for (u32 c = 0; c < CHUNKS; c++) Base::put_query(staged, first + i, 32 * c + lane(), q[i][c], by);
                put_factor(staged, first + i, most[i], factor);
            }
        }
    }

    static METHOD Pages pages(const AttendArgs &a, const Tile &tile) {
        return pages_of(a, tile, Type::block<WIDTH>(), 16 * lane(), 16 * lane(), PAGE * WIDTH + 16 * (lane() % 4));
    }

    // Group `group` of a page: 32 dimensions of the keys of all positions, then 32 dimensions of the values.
    static METHOD void load_group(Ring &ring, u32 place, const u8 *keys, const Pages &pages, u32 group) {
        const u8 *at = group < CHUNKS ? keys + group * 1024 : keys + pages.values + (group - CHUNKS) * 1024;
        ring.words[place][0] = *reinterpret_cast<const Words4 *>(at);
        ring.words[place][1] = *reinterpret_cast<const Words4 *>(at + 512);
    }
    static METHOD void load_beside_keys(Ring &ring, const u8 *keys, const Pages &pages) {
        ring.keys = *reinterpret_cast<const Words4 *>(keys + pages.beside);
    }
    static METHOD void load_beside_values(Ring &ring, const u8 *keys, const Pages &pages) {
        ring.values = *reinterpret_cast<const Words4 *>(keys + pages.values + pages.beside);
    }

    template <typename Refill> static METHOD void scores(Ring &ring, const u8 *staged, float (&scores)[ROWS][8], Refill refill) {
        const Words4 *queries = reinterpret_cast<const Words4 *>(staged) + lane();
        const float *factors = reinterpret_cast<const float *>(staged + CODES) + lane() / 4;
        I32x4 s[ROWS][4];
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            UNROLL for (u32 j = 0; j < 4; j++) s[r][j] = {0, 0, 0, 0};
        }
        UNROLL for (u32 u = 0; u < CHUNKS; u++) {
            Words4(&k)[2] = ring.words[u % DEPTH];
            UNROLL for (u32 r = 0; r < ROWS; r++) {
                Words4 q = queries[(r * CHUNKS + u) * 32];
                mma_ss(s[r][0], q.x, q.y, q.z, q.w, k[0].x, k[0].y);
                mma_ss(s[r][1], q.x, q.y, q.z, q.w, k[0].z, k[0].w);
                mma_ss(s[r][2], q.x, q.y, q.z, q.w, k[1].x, k[1].y);
                mma_ss(s[r][3], q.x, q.y, q.z, q.w, k[1].z, k[1].w);
            }
            refill(u);
        }
        const u32 words[4] = {ring.keys.x, ring.keys.y, ring.keys.z, ring.keys.w};
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            float factor = factors[8 * r];
            UNROLL for (u32 j = 0; j < 4; j++) {
                scores[r][2 * j] = static_cast<float>(256 * s[r][j].x + s[r][j].z) * (half_low(words[j]) * factor);
                scores[r][2 * j + 1] = static_cast<float>(256 * s[r][j].y + s[r][j].w) * (half_high(words[j]) * factor);
            }
        }
    }

    // Two codes of a word, of bytes given by `pick`, as halves; `above` is their other bytes.
    static METHOD u32 halves(u32 word, u32 above, u32 pick) { return halves_add(pick_bytes(word, above, pick), 0xe480e480u); }

    template <typename Refill>
    static METHOD void add_values(Ring &ring, Out &out, const float (&weights)[ROWS][8], bool edge, u32 page, const u8 *staged, Refill refill) {
        u32 words[4] = {ring.values.x, ring.values.y, ring.values.z, ring.values.w};
        if (edge) {
            const Tile *tile = tile_of<Int8Walk>(staged);
            u32 start = tile->start, count = tile->high - start + 1;
            UNROLL for (u32 j = 0; j < 4; j++) {
                u32 here = page * PAGE + 8 * (lane() % 4) + 2 * j - start;
                words[j] &= (here < count ? 0xffffu : 0) | (here + 1 < count ? 0xffff0000u : 0);
            }
        }
        u32 p[ROWS][4];
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            UNROLL for (u32 j = 0; j < 4; j++) {
                p[r][j] = halves_mul(floats_to_halves(weights[r][2 * j], weights[r][2 * j + 1]), words[j]);
            }
        }
        u32 above = reinterpret_cast<const u32 *>(staged + CODES)[PAIRS];
        UNROLL for (u32 u = CHUNKS; u < GROUPS; u++) {
            UNROLL for (u32 i = 0; i < 2; i++) {
                Words4 v = ring.words[u % DEPTH][i];
                u32 low[4] = {halves(v.x, above, 0x4140), halves(v.y, above, 0x4140), halves(v.x, above, 0x4342), halves(v.y, above, 0x4342)};
                u32 high[4] = {halves(v.z, above, 0x4140), halves(v.w, above, 0x4140), halves(v.z, above, 0x4342), halves(v.w, above, 0x4342)};
                UNROLL for (u32 r = 0; r < ROWS; r++) {
                    F32x4 &o = out.o[r][2 * (u - CHUNKS) + i];
                    mma_f16(o, low[0], low[1], low[2], low[3], p[r][0], p[r][1]);
                    mma_f16(o, high[0], high[1], high[2], high[3], p[r][2], p[r][3]);
                }
            }
            refill(u);
        }
    }

    static METHOD void finish(Sums<Int8Walk> &) {}
};
