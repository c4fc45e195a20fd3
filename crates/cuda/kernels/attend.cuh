// What both kernels of attention are made of, whatever the cache holds: tiles of queries, and one warp's walk over
// pages of the cache. kernels/attend has what differs: how queries are staged, how scores are made of a page's
// keys and how its values are added up.
//
// A tile is up to PAIRS pairs (row of the step, query head) that share a slot and a KV head. For a page of 32
// positions
//   S = Q · Kᵀ        on tensor cores, pairs are rows, four n-tiles of 8 positions
//   P = 2^(S - top)   top is the largest score so far, sum the sum of P: the softmax goes along; P and sum are
//                     2^LIFT times that
//   O = O · 2^(old top - top) + P · V
// The scores are in base 2: scale · log2 e is folded into the queries before they are rounded (with a cap,
// 2 · scale · log2 e / cap is).
//
// Column 2t + e of n-tile j is position 8t + 2j + e, so that lane (g = lane/4, t = lane%4) ends with the scores of
// positions 8t..8t+7 for pairs 8r + g, r < ROWS; they are, packed, operands of P · V, whose other operand the lane
// finds in 8 or 16 bytes of values of positions 8t..8t+7. No key or value passes through shared memory.
//
// A ring of DEPTH groups of LOADS 16-byte loads a lane keeps DEPTH * LOADS * 512 bytes under way in a warp, across
// pages; a page has GROUPS groups, one half of them keys.
#pragma once
#include "rope.cuh"

// Rows first.. of the step, all of one slot and at consecutive positions. 8 bytes.
struct QueryTile {
    u32 first, rows;
};

// Buffers of both kernels. attend: grid (splits, kv_heads * chunks, tiles), prefill: (ceil(tiles / 4),
// kv_heads * chunks); 128 threads; chunks = ceil(group / tile_heads), tile_heads = min(group, PAIRS),
// group = heads / kv_heads. tile_rows is at most PAIRS / tile_heads (at least 1).
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
    u32 pairs;             // rows * heads, at most PAIRS
    u32 slot, low, high;   // positions of the first and the last row
    u32 start;             // the first position anyone sees
    u32 span;              // positions a row sees, or more than there are
    u32 used;              // splits that have pages
};

constexpr u32 NOWHERE = 0xffffffffu;
constexpr u32 ALL = 0x80000000u; // a window wider than any context
constexpr float LOG2_E = 1.4426950408889634f;

template <u32 PAIRS> DEVICE Tile tile_at(const AttendArgs &a, u32 index, u32 column) {
    Tile tile;
    tile.first = a.tiles ? a.tiles[index].first : index * a.tile_rows;
    u32 left = a.rows - tile.first;
    tile.rows = a.tiles ? a.tiles[index].rows : left < a.tile_rows ? left : a.tile_rows;
    u32 group = a.heads / a.kv_heads;
    u32 most = group < PAIRS ? group : PAIRS;
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

DEVICE float query_factor(const AttendArgs &a) { return a.cap > 0.0f ? 2.0f * LOG2_E * a.scale / a.cap : LOG2_E * a.scale; }

// A tile in shared memory: its queries, as K (of kernels/attend) lays them; the position of each pair's row, which
// only pages at the edge of what is seen ask for; the tile itself, read again after the walk. Registers are short
// in between.
template <typename K> DEVICE constexpr u32 staged_bytes() { return K::QUERIES + 4 * K::PAIRS + sizeof(Tile); }
template <typename K> DEVICE const u32 *seen_of(const u8 *staged) { return reinterpret_cast<const u32 *>(staged + K::QUERIES); }
template <typename K> DEVICE const Tile *tile_of(const u8 *staged) { return reinterpret_cast<const Tile *>(seen_of<K>(staged) + K::PAIRS); }

// What the tile is and what its pair `pair` sees, by one lane; pairs beyond the tile's see what its first row
// sees.
template <typename K> DEVICE void stage_tile(const AttendArgs &a, const Tile &tile, u32 pair, u8 *staged) {
    reinterpret_cast<u32 *>(staged + K::QUERIES)[pair] = pair < tile.pairs ? a.position[tile.first + pair / tile.heads] : tile.low;
    if (pair == 0) *reinterpret_cast<Tile *>(staged + K::QUERIES + 4 * K::PAIRS) = tile;
}

DEVICE const float *query_at(const AttendArgs &a, const Tile &tile, u32 pair) {
    u32 row = tile.first + pair / tile.heads, head = tile.head + pair % tile.heads;
    return a.q + (static_cast<u64>(row) * a.heads + head) * a.head_dim;
}

// The query of a pair of the tile, turned if fused, by one warp.
template <u32 WIDTH> DEVICE Head<WIDTH> query_head(const AttendArgs &a, const Tile &tile, u32 pair) {
    u64 row = tile.first + pair / tile.heads;
    return turned_head<WIDTH>(query_at(a, tile, pair), a.fused ? a.rope.q_norm : nullptr, a.rope.turns + row * 2 * a.rope.half,
                              a.fused ? a.rope.half : 0, a.head_dim, a.rope.eps);
}

// Where a lane finds keys and values of page after page.
struct Pages {
    const u8 *keys;        // the lane's first 16 bytes in page 0 of the storage
    u32 values;            // bytes from the lane's keys to its values
    u32 beside;            // bytes from the lane's keys, or values, to their scales
    u32 table;             // the slot's first entry
    u32 whole, end;        // from page `whole` to before page `end` every row sees all positions
};

// The storage's number of the slot's page `page`, and the lane's keys there.
DEVICE u32 entry_at(const AttendArgs &a, const Pages &pages, u32 page) { return a.cache.table[pages.table + page]; }
DEVICE const u8 *keys_at(const AttendArgs &a, const Pages &pages, u32 entry) {
    return pages.keys + static_cast<u64>(entry) * a.cache.page_stride;
}

// A lane's keys are `keys` bytes into a block, its values `values`, and what lies beside both `beside`.
DEVICE Pages pages_of(const AttendArgs &a, const Tile &tile, u32 block, u32 keys, u32 values, u32 beside) {
    Pages pages;
    pages.keys = a.cache.pages + tile.kv_head * block + keys;
    pages.values = a.kv_heads * block + values - keys;
    pages.beside = beside - keys;
    pages.table = tile.slot * a.cache.table_stride;
    pages.whole = tile.high < tile.span ? 0 : (tile.high - tile.span) / PAGE + 1;
    pages.end = (tile.low + 1) / PAGE;
    return pages;
}

// What a warp has summed; index r of top and sum is pair 8r + g.
template <typename K> struct Sums {
    typename K::Out o;
    float top[K::ROWS], sum[K::ROWS];
};

template <typename K> DEVICE void clear(Sums<K> &sums) {
    K::clear(sums.o);
    UNROLL for (u32 r = 0; r < K::ROWS; r++) {
        // Below every score, yet -inf minus it is -inf: a row that sees nothing of a page needs no case.
        sums.top[r] = -1e30f;
        sums.sum[r] = 0.0f;
    }
}

// The first DEPTH groups of page `page`, and what lies beside its codes.
template <typename K> DEVICE void fill(const AttendArgs &a, typename K::Ring &ring, const Pages &pages, u32 page) {
    const u8 *keys = keys_at(a, pages, entry_at(a, pages, page));
    UNROLL for (u32 u = 0; u < K::DEPTH; u++) K::load_group(ring, u, keys, pages, u);
    K::load_beside_keys(ring, keys, pages);
    if (!K::LATE) K::load_beside_values(ring, keys, pages);
}

// Pages first, first + step, .. before `end`; the ring holds the beginning of the first, which is before `end`.
template <typename K>
DEVICE void walk(const AttendArgs &a, Sums<K> &sums, typename K::Ring &ring, const Pages &pages, u8 *staged, u32 first, u32 end, u32 step) {
    constexpr u32 ROWS = K::ROWS, GROUPS = K::GROUPS, DEPTH = K::DEPTH;
    static_assert(GROUPS % DEPTH == 0, "a group has the same place in the ring in every page");
    const u32 *seen = seen_of<K>(staged);
    const u8 *keys = keys_at(a, pages, entry_at(a, pages, first));
    u32 following = first + step < end ? entry_at(a, pages, first + step) : 0;
    NO_UNROLL for (u32 page = first; page < end; page += step) {
        bool more = page + step < end;
        // Group u is used up: the one that comes DEPTH later takes its place.
        auto refill = [&](u32 u) {
            if (u + DEPTH == GROUPS) {
                keys = keys_at(a, pages, following);
                following = page + 2 * step < end ? entry_at(a, pages, page + 2 * step) : 0;
            }
            if (u + DEPTH < GROUPS || more) K::load_group(ring, u % DEPTH, keys, pages, (u + DEPTH) % GROUPS);
        };

        float s[ROWS][8];
        K::scores(ring, staged, s, refill);
        // With half a page under way, or less, `keys` are still this page's.
        if (more) K::load_beside_keys(ring, DEPTH > GROUPS / 2 ? keys : keys_at(a, pages, following), pages);
        if (K::LATE) K::load_beside_values(ring, keys, pages);

        if (a.cap > 0.0f) {
            float all = a.cap * LOG2_E;
            UNROLL for (u32 r = 0; r < ROWS; r++) {
                // tanh(y) = 1 - 2 / (2^(2 y log2 e) + 1), exact at both ends.
                UNROLL for (u32 i = 0; i < 8; i++) s[r][i] = all - 2.0f * all * reciprocal_fast(exp2_fast(s[r][i]) + 1.0f);
            }
        }
        // A page that not every row sees all of; what is in the cache there may be anything, so that values
        // must be masked too: zero times NaN is not zero.
        bool edge = page < pages.whole || page >= pages.end;
        if (edge) {
            u32 at = page * PAGE + 8 * (lane() % 4), span = a.window ? a.window : ALL;
            UNROLL for (u32 r = 0; r < ROWS; r++) {
                // Positions after a row's own wrap to more than any span.
                u32 before = seen[8 * r + lane() / 4] - at;
                UNROLL for (u32 i = 0; i < 8; i++) s[r][i] = before - i < span ? s[r][i] : bits_to_float(0xff800000u);
            }
        }

        float keep[ROWS];
        bool moved = false;
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            float top = sums.top[r];
            UNROLL for (u32 i = 0; i < 8; i += 2) top = fmaxf(top, fmaxf(s[r][i], s[r][i + 1]));
            top = fmaxf(top, shfl_xor(top, 1));
            top = fmaxf(top, shfl_xor(top, 2));
            moved = moved || top != sums.top[r];
            keep[r] = sums.top[r] - top;
            sums.top[r] = top;
        }
        // After a few pages the largest score is rarely a new one.
        if (vote(moved)) {
            UNROLL for (u32 r = 0; r < ROWS; r++) {
                keep[r] = exp2_fast(keep[r]);
                sums.sum[r] *= keep[r];
            }
            K::rescale(sums.o, keep);
        }
        UNROLL for (u32 r = 0; r < ROWS; r++) {
            float base = sums.top[r] - K::LIFT;
            UNROLL for (u32 i = 0; i < 8; i += 2) {
                s[r][i] = exp2_fast(s[r][i] - base);
                s[r][i + 1] = exp2_fast(s[r][i + 1] - base);
                sums.sum[r] += s[r][i] + s[r][i + 1];
            }
        }
        K::add_values(ring, sums.o, s, edge, page, staged, refill);
        if (!K::LATE && more) K::load_beside_values(ring, keys, pages);
    }
    UNROLL for (u32 r = 0; r < ROWS; r++) {
        sums.sum[r] += shfl_xor(sums.sum[r], 1);
        sums.sum[r] += shfl_xor(sums.sum[r], 2);
    }
    K::finish(sums);
}
