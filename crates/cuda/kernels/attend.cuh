// What both kernels of attention are made of: tiles of queries, and one warp's walk over pages of the cache.
//
// A tile is up to 16 * TALL pairs (row of the step, query head) that share a slot and a KV head; they are the
// rows of the products on tensor cores. For a page of 32 positions
//   S = Q · Kᵀ        4 n-tiles of 8 positions, WIDTH / 16 k-steps, m16n8k16 in f16 with sums in f32
//   P = 2^(S - top)   top is the largest score so far, sum the sum of P: the softmax goes along
//   O = O · 2^(old top - top) + P · V
// The scores are in base 2: scale · log2 e is folded into the queries before they are rounded to f16 (with a
// cap, 2 · scale · log2 e / cap is).
//
// Layout. Of a page's keys [32 positions][WIDTH], lane (g = lane/4, t = lane%4) takes the 16 bytes of
// dimensions 32c + 8t.. of position 8(g/2) + 2j + g%2 for n-tile j: two k-steps of B whose dimensions are the
// queries' 16 bytes at 32c + 8t, whatever their order. Column 2t + e of n-tile j is then position 8t + 2j + e,
// so that lane t ends with the scores of positions 8t..8t+7, and they are, packed, the A fragments of P · V;
// its B fragments are the 16 bytes of positions 8t..8t+7 of dimension 8n + g of the transposed values: 512
// bytes in a row for a warp. No key or value passes through shared memory.
//
// A ring of DEPTH groups of four 16-byte loads a lane keeps DEPTH * 2 KiB under way in a warp, across pages.
//
// Error: P and Q are rounded to f16, 2^-11 of each; sums are in f32. Against exact attention over the same
// f16 cache about 5e-4 of the root mean square of the output.
#pragma once
#include "rope.cuh"

// Rows first.. of the step, all of one slot and at consecutive positions. 8 bytes.
struct QueryTile {
    u32 first, rows;
};

// Buffers of both kernels. attend: grid (splits, kv_heads * chunks, tiles), prefill: (ceil(tiles / 4),
// kv_heads * chunks); 128 threads; chunks = ceil(group / tile_heads), tile_heads = min(group, 16 * TALL),
// group = heads / kv_heads. tile_rows is at most 16 * TALL / tile_heads (at least 1).
struct AttendArgs {
    const float *q;        // [rows][heads * head_dim]
    const float *k, *v;    // [rows][kv_heads * head_dim], read if fused
    float *out;            // [output rows][heads * head_dim] or null
    u16 *out_halves;       // [output rows][halves_stride], permuted within 32 columns for matmul, or null
    const u32 *position;   // [rows]
    const u32 *slot;       // [rows]
    const QueryTile *tiles; // [tile_count], or null: tile i is rows i * tile_rows..
    const u32 *output_row; // [rows]: where a row's result goes, ~0 for nowhere; or null: to the same row
    float *partials;       // attend, with more than one split: see partial_floats
    u32 *arrived;          // attend, with more than one split: [tiles][kv_heads * chunks], zero before and after
    Cache cache;
    Rope rope;             // used if fused
    u32 rows, tile_rows, tile_count, heads, kv_heads, head_dim;
    u32 halves_stride;
    u32 window;            // positions a row sees, itself included; 0: all
    u32 min_pages;         // attend: a split has at least so many pages, if there are
    u32 fused;             // attend: queries and keys are not turned yet, K and V not stored; tiles of one row
    float scale, cap;      // cap 0: none
};

// One warp of a prefill and all warps of an attend block work on one of these.
struct Tile {
    u32 first, rows;       // rows of the step
    u32 heads;             // query heads of a row in this tile
    u32 kv_head, head;     // the first query head
    u32 pairs;             // rows * heads, of at most 16 * TALL
    u32 slot, low, high;   // positions of the first and the last row
    u32 start;             // the first position anyone sees
    u32 span;              // positions a row sees, or more than there are
    u32 used;              // splits that have pages
};

constexpr u32 NOWHERE = 0xffffffffu;
constexpr u32 ALL = 0x80000000u; // a window wider than any context
constexpr float LOG2_E = 1.4426950408889634f;

template <u32 TALL> DEVICE Tile tile_at(const AttendArgs &a, u32 index, u32 column) {
    Tile tile;
    tile.first = a.tiles ? a.tiles[index].first : index * a.tile_rows;
    u32 left = a.rows - tile.first;
    tile.rows = a.tiles ? a.tiles[index].rows : left < a.tile_rows ? left : a.tile_rows;
    u32 group = a.heads / a.kv_heads;
    u32 most = group < 16 * TALL ? group : 16 * TALL;
    u32 chunks = (group + most - 1) / most;
    tile.kv_head = column / chunks;
    u32 skipped = column % chunks * most;
    tile.head = tile.kv_head * group + skipped;
    tile.heads = group - skipped < most ? group - skipped : most;
    tile.pairs = tile.rows * tile.heads;
    tile.slot = a.slot[tile.first];
    tile.low = a.position[tile.first];
    tile.high = a.position[tile.first + tile.rows - 1];
    tile.span = a.window ? a.window : ALL;
    tile.start = tile.low >= tile.span ? tile.low + 1 - tile.span : 0;
    return tile;
}

DEVICE u32 output_row(const AttendArgs &a, u32 row) { return a.output_row ? a.output_row[row] : row; }

// Whether somebody wants a row of this tile; the same in all lanes.
DEVICE bool wanted(const AttendArgs &a, const Tile &tile) {
    if (!a.output_row) return true;
    bool mine = lane() < tile.rows && a.output_row[tile.first + lane()] != NOWHERE;
    return vote(mine) != 0;
}

// Queries in shared memory, as the A fragments they will be: [m-tile][32 dimensions][k-step][lane] 16 bytes,
// of which word i is of row g + 8 * (i % 2), dimensions 8t + 4 * k-step + 2 * (i / 2) and the one after.
template <u32 WIDTH> DEVICE u32 query_half(u32 pair, u32 d) {
    u32 m = pair / 16, g = pair % 8, high = pair / 8 % 2, t = d / 8 % 4, step = d / 4 % 2;
    return (((m * (WIDTH / 32) + d / 32) * 2 + step) * 32 + 4 * g + t) * 8 + (d / 2 % 2 * 2 + high) * 2 + d % 2;
}

DEVICE float query_factor(const AttendArgs &a) { return a.cap > 0.0f ? 2.0f * LOG2_E * a.scale / a.cap : LOG2_E * a.scale; }

// A tile in shared memory: its queries; the position of each pair's row, which only pages at the edge of what
// is seen ask for; the tile itself, read again after the walk. Registers are short in between.
template <u32 WIDTH, u32 TALL> DEVICE constexpr u32 staged_bytes() { return 16 * TALL * (2 * WIDTH + 4) + sizeof(Tile); }
template <u32 WIDTH, u32 TALL> DEVICE u32 *seen_of(u16 *queries) { return reinterpret_cast<u32 *>(queries + 16 * TALL * WIDTH); }
template <u32 WIDTH, u32 TALL> DEVICE Tile *tile_of(u16 *queries) {
    return reinterpret_cast<Tile *>(seen_of<WIDTH, TALL>(queries) + 16 * TALL);
}

// What the tile is and what its pair `pair` sees, by one lane; pairs beyond the tile's see what its first row
// sees.
template <u32 WIDTH, u32 TALL> DEVICE void stage_tile(const AttendArgs &a, const Tile &tile, u32 pair, u16 *queries) {
    seen_of<WIDTH, TALL>(queries)[pair] = pair < tile.pairs ? a.position[tile.first + pair / tile.heads] : tile.low;
    if (pair == 0) *tile_of<WIDTH, TALL>(queries) = tile;
}

DEVICE const float *query_at(const AttendArgs &a, const Tile &tile, u32 pair) {
    u32 row = tile.first + pair / tile.heads, head = tile.head + pair % tile.heads;
    return a.q + (static_cast<u64>(row) * a.heads + head) * a.head_dim;
}

// One query by one warp, turned if fused; pairs beyond the tile's are zeros.
template <u32 WIDTH> DEVICE void stage_query(const AttendArgs &a, const Tile &tile, u32 pair, float factor, u16 *queries) {
    if (pair >= tile.pairs) {
        UNROLL for (u32 d = 0; d < WIDTH; d += 32) queries[query_half<WIDTH>(pair, d + lane())] = 0;
        return;
    }
    u64 row = tile.first + pair / tile.heads;
    turn_head<WIDTH>(query_at(a, tile, pair), a.fused ? a.rope.q_norm : nullptr, a.rope.turns + row * 2 * a.rope.half,
                     a.fused ? a.rope.half : 0, a.head_dim, a.rope.eps,
                     [&](u32 d, float value) { queries[query_half<WIDTH>(pair, d)] = float_to_half(value * factor); });
}

// All queries of a tile by one warp, already turned: four dimensions a lane, eight loads under way.
template <u32 WIDTH, u32 TALL> DEVICE void stage_queries(const AttendArgs &a, const Tile &tile, float factor, u16 *queries) {
    constexpr u32 FOURS = WIDTH / 4, ITEMS = 16 * TALL * FOURS / 32, BATCH = 8;
    static_assert(ITEMS % BATCH == 0, "whole batches");
    NO_UNROLL for (u32 i = 0; i < ITEMS; i += BATCH) {
        Floats4 q[BATCH];
        UNROLL for (u32 j = 0; j < BATCH; j++) {
            u32 item = (i + j) * 32 + lane(), pair = item / FOURS, d = item % FOURS * 4;
            q[j] = {0.0f, 0.0f, 0.0f, 0.0f};
            if (pair < tile.pairs && d < a.head_dim) q[j] = *reinterpret_cast<const Floats4 *>(query_at(a, tile, pair) + d);
        }
        UNROLL for (u32 j = 0; j < BATCH; j++) {
            u32 item = (i + j) * 32 + lane();
            u32 *to = reinterpret_cast<u32 *>(queries + query_half<WIDTH>(item / FOURS, item % FOURS * 4));
            to[0] = floats_to_halves(q[j].x * factor, q[j].y * factor);
            to[2] = floats_to_halves(q[j].z * factor, q[j].w * factor);
        }
    }
}

// Where a lane finds keys and values of page after page.
struct Pages {
    const u8 *keys;        // the lane's first 16 bytes in page 0 of the storage
    u32 values;            // bytes from the lane's keys to its values
    u32 table;             // the slot's first entry
    u32 whole, end;        // from page `whole` to before page `end` every row sees all positions
};

// The storage's number of the slot's page `page`, and the lane's keys there.
DEVICE u32 entry_at(const AttendArgs &a, const Pages &pages, u32 page) { return a.cache.table[pages.table + page]; }
DEVICE const u8 *keys_at(const AttendArgs &a, const Pages &pages, u32 entry) {
    return pages.keys + static_cast<u64>(entry) * a.cache.page_stride * 2;
}

template <u32 WIDTH> DEVICE Pages pages_of(const AttendArgs &a, const Tile &tile) {
    u32 g = lane() / 4, t = lane() % 4;
    u32 keys = (8 * (g / 2) + g % 2) * 2 * WIDTH + 16 * t, values = 64 * g + 16 * t;
    Pages pages;
    pages.keys = reinterpret_cast<const u8 *>(a.cache.pages) + tile.kv_head * PAGE * WIDTH * 2 + keys;
    pages.values = a.kv_heads * PAGE * WIDTH * 2 + values - keys;
    pages.table = tile.slot * a.cache.table_stride;
    pages.whole = tile.high < tile.span ? 0 : (tile.high - tile.span) / PAGE + 1;
    pages.end = (tile.low + 1) / PAGE;
    return pages;
}

template <u32 DEPTH> struct Ring {
    Words4 words[DEPTH][4];
};

// Group `group` of a page: four n-tiles of 32 dimensions of the keys, then four n-tiles of the values.
template <u32 WIDTH> DEVICE void load_group(Words4 (&to)[4], const u8 *keys, u32 values, u32 group) {
    constexpr u32 CHUNKS = WIDTH / 32;
    UNROLL for (u32 j = 0; j < 4; j++) {
        const u8 *at = group < CHUNKS ? keys + group * 64 + j * 4 * WIDTH : keys + values + ((group - CHUNKS) * 4 + j) * 512;
        to[j] = *reinterpret_cast<const Words4 *>(at);
    }
}

// What a warp has summed; index 0 of the pairs of numbers is row g, 1 is row g + 8.
template <u32 WIDTH, u32 TALL> struct Sums {
    F32x4 o[TALL][WIDTH / 8];
    float top[TALL][2], sum[TALL][2];
};

template <u32 WIDTH, u32 TALL> DEVICE void clear(Sums<WIDTH, TALL> &sums) {
    UNROLL for (u32 m = 0; m < TALL; m++) {
        UNROLL for (u32 n = 0; n < WIDTH / 8; n++) sums.o[m][n] = {0.0f, 0.0f, 0.0f, 0.0f};
        // Below every score, yet -inf minus it is -inf: a row that sees nothing of a page needs no case.
        sums.top[m][0] = sums.top[m][1] = -1e30f;
        sums.sum[m][0] = sums.sum[m][1] = 0.0f;
    }
}

// The first DEPTH groups of page `page`.
template <u32 WIDTH, u32 DEPTH> DEVICE void fill(const AttendArgs &a, Ring<DEPTH> &ring, const Pages &pages, u32 page) {
    const u8 *keys = keys_at(a, pages, entry_at(a, pages, page));
    UNROLL for (u32 u = 0; u < DEPTH; u++) load_group<WIDTH>(ring.words[u], keys, pages.values, u);
}

// Pages first, first + step, .. before `end`; the ring holds the beginning of the first, which is before `end`.
template <u32 WIDTH, u32 TALL, u32 DEPTH>
DEVICE void walk(const AttendArgs &a, Sums<WIDTH, TALL> &sums, Ring<DEPTH> &ring, const Pages &pages, u16 *staged, u32 first, u32 end, u32 step) {
    constexpr u32 CHUNKS = WIDTH / 32;
    const Words4 *queries = reinterpret_cast<const Words4 *>(staged) + lane();
    const u32 *seen = seen_of<WIDTH, TALL>(staged);
    const Tile *tile = tile_of<WIDTH, TALL>(staged);
    const u8 *keys = keys_at(a, pages, entry_at(a, pages, first));
    u32 following = first + step < end ? entry_at(a, pages, first + step) : 0;
    NO_UNROLL for (u32 page = first; page < end; page += step) {
        bool more = page + step < end;
        // Group u is used up: the one that comes DEPTH later takes its place.
        auto refill = [&](u32 u) {
            if (u + DEPTH == 2 * CHUNKS) {
                keys = keys_at(a, pages, following);
                following = page + 2 * step < end ? entry_at(a, pages, page + 2 * step) : 0;
            }
            if (u + DEPTH < 2 * CHUNKS || more) load_group<WIDTH>(ring.words[u % DEPTH], keys, pages.values, (u + DEPTH) % (2 * CHUNKS));
        };

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

        if (a.cap > 0.0f) {
            float all = a.cap * LOG2_E;
            UNROLL for (u32 m = 0; m < TALL; m++) {
                UNROLL for (u32 j = 0; j < 4; j++) {
                    F32x4 &x = s[m][j];
                    // tanh(y) = 1 - 2 / (2^(2 y log2 e) + 1), exact at both ends.
                    x.x = all - 2.0f * all * reciprocal_fast(exp2_fast(x.x) + 1.0f);
                    x.y = all - 2.0f * all * reciprocal_fast(exp2_fast(x.y) + 1.0f);
                    x.z = all - 2.0f * all * reciprocal_fast(exp2_fast(x.z) + 1.0f);
                    x.w = all - 2.0f * all * reciprocal_fast(exp2_fast(x.w) + 1.0f);
                }
            }
        }
        // A page that not every row sees all of; what is in the cache there may be anything, so that values
        // must be masked too: zero times NaN is not zero.
        bool edge = page < pages.whole || page >= pages.end;
        if (edge) {
            u32 at = page * PAGE + 8 * (lane() % 4), span = a.window ? a.window : ALL;
            UNROLL for (u32 m = 0; m < TALL; m++) {
                u32 row = 16 * m + lane() / 4, before = seen[row] - at, above = seen[row + 8] - at;
                UNROLL for (u32 j = 0; j < 4; j++) {
                    // Positions after a row's own wrap to more than any span.
                    u32 low = before - 2 * j, high = above - 2 * j;
                    float hidden = bits_to_float(0xff800000u);
                    s[m][j].x = low < span ? s[m][j].x : hidden;
                    s[m][j].y = low - 1 < span ? s[m][j].y : hidden;
                    s[m][j].z = high < span ? s[m][j].z : hidden;
                    s[m][j].w = high - 1 < span ? s[m][j].w : hidden;
                }
            }
        }

        u32 p[TALL][2][4];
        float keep[TALL][2];
        bool moved = false;
        UNROLL for (u32 m = 0; m < TALL; m++) {
            float low = sums.top[m][0], high = sums.top[m][1];
            UNROLL for (u32 j = 0; j < 4; j++) {
                low = fmaxf(low, fmaxf(s[m][j].x, s[m][j].y));
                high = fmaxf(high, fmaxf(s[m][j].z, s[m][j].w));
            }
            low = fmaxf(low, shfl_xor(low, 1));
            high = fmaxf(high, shfl_xor(high, 1));
            low = fmaxf(low, shfl_xor(low, 2));
            high = fmaxf(high, shfl_xor(high, 2));
            moved = moved || low != sums.top[m][0] || high != sums.top[m][1];
            keep[m][0] = sums.top[m][0] - low;
            keep[m][1] = sums.top[m][1] - high;
            sums.top[m][0] = low;
            sums.top[m][1] = high;
        }
        // After a few pages the largest score is rarely a new one.
        if (vote(moved)) {
            UNROLL for (u32 m = 0; m < TALL; m++) {
                float low = exp2_fast(keep[m][0]), high = exp2_fast(keep[m][1]);
                sums.sum[m][0] *= low;
                sums.sum[m][1] *= high;
                UNROLL for (u32 n = 0; n < WIDTH / 8; n++) {
                    sums.o[m][n].x *= low;
                    sums.o[m][n].y *= low;
                    sums.o[m][n].z *= high;
                    sums.o[m][n].w *= high;
                }
            }
        }
        UNROLL for (u32 m = 0; m < TALL; m++) {
            UNROLL for (u32 j = 0; j < 4; j++) {
                float x = exp2_fast(s[m][j].x - sums.top[m][0]), y = exp2_fast(s[m][j].y - sums.top[m][0]);
                float z = exp2_fast(s[m][j].z - sums.top[m][1]), w = exp2_fast(s[m][j].w - sums.top[m][1]);
                sums.sum[m][0] += x + y;
                sums.sum[m][1] += z + w;
                p[m][j / 2][j % 2 * 2] = floats_to_halves(x, y);
                p[m][j / 2][j % 2 * 2 + 1] = floats_to_halves(z, w);
            }
        }

        UNROLL for (u32 u = CHUNKS; u < 2 * CHUNKS; u++) {
            Words4(&v)[4] = ring.words[u % DEPTH];
            if (edge) {
                u32 take[4], start = tile->start, count = tile->high - start + 1;
                UNROLL for (u32 j = 0; j < 4; j++) {
                    u32 here = page * PAGE + 8 * (lane() % 4) + 2 * j - start;
                    take[j] = (here < count ? 0xffffu : 0) | (here + 1 < count ? 0xffff0000u : 0);
                }
                UNROLL for (u32 j = 0; j < 4; j++) v[j] = {v[j].x & take[0], v[j].y & take[1], v[j].z & take[2], v[j].w & take[3]};
            }
            UNROLL for (u32 m = 0; m < TALL; m++) {
                F32x4 *o = &sums.o[m][4 * (u - CHUNKS)];
                UNROLL for (u32 j = 0; j < 4; j++) mma_f16(o[j], p[m][0][0], p[m][0][1], p[m][0][2], p[m][0][3], v[j].x, v[j].y);
                UNROLL for (u32 j = 0; j < 4; j++) mma_f16(o[j], p[m][1][0], p[m][1][1], p[m][1][2], p[m][1][3], v[j].z, v[j].w);
            }
            refill(u);
        }
    }
    UNROLL for (u32 m = 0; m < TALL; m++) {
        UNROLL for (u32 h = 0; h < 2; h++) {
            sums.sum[m][h] += shfl_xor(sums.sum[m][h], 1);
            sums.sum[m][h] += shfl_xor(sums.sum[m][h], 2);
        }
    }
}
