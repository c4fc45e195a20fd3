// Both kernels of attention, over any cache K of kernels/attend: see attend.cu.
#pragma once
#include "../attend.cuh"

constexpr u32 WARPS = 4;

// ---- attend: few rows -----------------------------------------------------------------------------------

// Floats of one split's partial result: [pairs][WIDTH] sums, [pairs] tops, [pairs] sums of weights.
template <u32 WIDTH> DEVICE u32 partial_floats(u32 pairs) { return (pairs * (WIDTH + 2) + 3) / 4 * 4; }

// Columns merged at a time, and floats from one pair to the next in shared memory.
template <u32 WIDTH> DEVICE constexpr u32 pass_columns() { return WIDTH < 128 ? WIDTH : 128; }
template <u32 WIDTH> DEVICE constexpr u32 pass_stride() { return pass_columns<WIDTH>() + 8; }

DEVICE Floats4 scaled(Floats4 v, float by) { return {v.x * by, v.y * by, v.z * by, v.w * by}; }
DEVICE Floats4 added(Floats4 v, Floats4 w, float by) {
    return {fmaf(w.x, by, v.x), fmaf(w.y, by, v.y), fmaf(w.z, by, v.z), fmaf(w.w, by, v.w)};
}

// Columns column..column+3 of a pair's result, to where it is wanted.
DEVICE void write4(const AttendArgs &a, const Tile &tile, u32 pair, u32 column, Floats4 value) {
    u32 row = output_row(a, tile.first + pair / tile.heads);
    if (row == NOWHERE || column >= a.head_dim) return;
    u32 at = (tile.head + pair % tile.heads) * a.head_dim + column;
    if (a.out) *reinterpret_cast<Floats4 *>(a.out + static_cast<u64>(row) * a.heads * a.head_dim + at) = value;
    if (a.out_halves) {
        u16 *to = a.out_halves + static_cast<u64>(row) * a.halves_stride + at / 32 * 32;
        u32 half = at / 16 % 2, t = at / 4 % 4;
        *reinterpret_cast<u32 *>(to + 16 * half + 2 * t) = floats_to_halves(value.x, value.z);
        *reinterpret_cast<u32 *>(to + 16 * half + 8 + 2 * t) = floats_to_halves(value.y, value.w);
    }
}

// The partial results of all splits, by the last block of the tile; `factors`: shared, [used][pairs].
template <u32 WIDTH> DEVICE void merge_splits(const AttendArgs &a, const Tile &tile, const float *partials, float *factors) {
    u32 used = tile.used, size = partial_floats<WIDTH>(tile.pairs), tops = tile.pairs * WIDTH;
    for (u32 pair = warp(); pair < tile.pairs; pair += WARPS) {
        float top = -1e30f, sum = 0.0f;
        for (u32 split = lane(); split < used; split += 32) top = fmaxf(top, load_fresh(partials + split * size + tops + pair));
        top = warp_max(top);
        for (u32 split = lane(); split < used; split += 32) {
            const float *of = partials + split * size + tops + pair;
            sum = fmaf(exp2_fast(load_fresh(of) - top), load_fresh(of + tile.pairs), sum);
        }
        float whole = 1.0f / warp_sum(sum);
        for (u32 split = lane(); split < used; split += 32) {
            factors[split * tile.pairs + pair] = exp2_fast(load_fresh(partials + split * size + tops + pair) - top) * whole;
        }
    }
    sync_block();
    for (u32 item = tid(); item < tile.pairs * (WIDTH / 4); item += WARPS * 32) {
        u32 pair = item / (WIDTH / 4), column = item % (WIDTH / 4) * 4;
        Floats4 all = {0.0f, 0.0f, 0.0f, 0.0f};
        for (u32 split = 0; split < used; split++) {
            Floats4 part = load_fresh(reinterpret_cast<const Floats4 *>(partials + split * size + pair * WIDTH + column));
            all = added(all, part, factors[split * tile.pairs + pair]);
        }
        write4(a, tile, pair, column, all);
    }
}

// K and V of the tile's only row into the page they belong to, by the last two warps.
template <typename K> DEVICE void store_row(const AttendArgs &a, const Tile &tile, float *scratch) {
    using Type = typename K::Type;
    constexpr u32 WIDTH = K::WIDTH, BLOCK = Type::template block<WIDTH>();
    u64 at = (static_cast<u64>(tile.first) * a.kv_heads + tile.kv_head) * a.head_dim;
    u8 *block = page_of(a.cache, tile.slot, tile.high, tile.kv_head, BLOCK);
    if (warp() == WARPS - 1) {
        const float *turns = a.rope.turns + static_cast<u64>(tile.first) * 2 * a.rope.half;
        Type::template store_key<WIDTH>(block, tile.high, turned_head<WIDTH>(a.k + at, a.rope.k_norm, turns, a.rope.half, a.head_dim, a.rope.eps), a.head_dim, scratch);
    } else if (warp() == WARPS - 2) {
        Type::template store_value<WIDTH>(block + a.kv_heads * BLOCK, tile.high, turned_head<WIDTH>(a.v + at, nullptr, nullptr, 0, a.head_dim, 0.0f), a.head_dim, scratch);
    }
}

// The walks of the block's warps over its split's pages; false if the block has none.
template <typename K> DEVICE bool attend_pages(const AttendArgs &a, Sums<K> &sums, u8 *staged) {
    Tile tile = tile_at<K::PAIRS>(a, block_z(), block_y());
    u32 first = tile.start / PAGE, count = tile.high / PAGE - first + 1;
    // A run of pages for each split, a multiple of the warps: other lengths would leave warps idle.
    u32 run = ((count + blocks_x() - 1) / blocks_x() + WARPS - 1) / WARPS * WARPS;
    if (run < a.min_pages) run = a.min_pages;
    tile.used = (count + run - 1) / run;
    if (block_x() >= tile.used || (!a.fused && !wanted(a, tile))) return false;
    bool last = block_x() == tile.used - 1;
    u32 end = first + (last ? count : (block_x() + 1) * run);
    first += block_x() * run + warp();

    typename K::Ring ring;
    Pages pages = K::pages(a, tile);
    bool stores = a.fused && last;
    float *scratch = shared<float>(staged_bytes<K>() + warp() * K::SCRATCH);
    if (stores) store_row<K>(a, tile, scratch);
    else if (first < end) fill<K>(a, ring, pages, first);
    float factor = query_factor(a);
    if (tid() < K::PAIRS) stage_tile<K>(a, tile, tid(), staged);
    NO_UNROLL for (u32 pair = warp(); pair < K::PAIRS; pair += WARPS) K::stage_query(a, tile, pair, factor, staged, scratch);
    sync_block();
    if (stores && first < end) fill<K>(a, ring, pages, first);

    clear(sums);
    if (first < end) walk<K>(a, sums, ring, pages, staged, first, end, WARPS);
    return true;
}

// The sums of the block's warps, through shared memory from `tops` on: the tile's result if there is one split,
// else this split's at `partial`.
template <typename K> DEVICE void merge_warps(const AttendArgs &a, const Tile &tile, const Sums<K> &sums, float *tops, float *partial) {
    constexpr u32 WIDTH = K::WIDTH, COLUMNS = pass_columns<WIDTH>(), STRIDE = pass_stride<WIDTH>();
    float *weights = tops + WARPS * 16, *parts = weights + WARPS * 16;
    if (lane() % 4 == 0) {
        UNROLL for (u32 r = 0; r < K::ROWS; r++) {
            tops[warp() * 16 + 8 * r + lane() / 4] = sums.top[r];
            weights[warp() * 16 + 8 * r + lane() / 4] = sums.sum[r];
        }
    }
    UNROLL for (u32 pass = 0; pass < WIDTH / COLUMNS; pass++) {
        K::template put<COLUMNS>(sums, pass * COLUMNS, tile.pairs, parts + warp() * tile.pairs * STRIDE, STRIDE);
        sync_block();
        for (u32 item = tid(); item < tile.pairs * (COLUMNS / 4); item += WARPS * 32) {
            u32 pair = item / (COLUMNS / 4), at = item % (COLUMNS / 4) * 4;
            float top = tops[pair], sum = 0.0f;
            UNROLL for (u32 w = 1; w < WARPS; w++) top = fmaxf(top, tops[w * 16 + pair]);
            Floats4 all = {0.0f, 0.0f, 0.0f, 0.0f};
            UNROLL for (u32 w = 0; w < WARPS; w++) {
                float by = exp2_fast(tops[w * 16 + pair] - top);
                sum = fmaf(weights[w * 16 + pair], by, sum);
                all = added(all, *reinterpret_cast<const Floats4 *>(parts + (w * tile.pairs + pair) * STRIDE + at), by);
            }
            if (tile.used == 1) {
                write4(a, tile, pair, pass * COLUMNS + at, scaled(all, 1.0f / sum));
            } else {
                *reinterpret_cast<Floats4 *>(partial + pair * WIDTH + pass * COLUMNS + at) = all;
                if (pass == 0 && at == 0) {
                    partial[tile.pairs * WIDTH + pair] = top;
                    partial[tile.pairs * WIDTH + tile.pairs + pair] = sum;
                }
            }
        }
        sync_block();
    }
}

template <typename K> DEVICE void attend(const AttendArgs &a) {
    constexpr u32 WIDTH = K::WIDTH;
    pdl_launch();
    pdl_wait();
    u8 *staged = shared<u8>(0);
    Sums<K> sums;
    if (!attend_pages<K>(a, sums, staged)) return;
    Tile tile = *tile_of<K>(staged);
    // What was staged is no longer needed.
    sync_block();
    u64 column = static_cast<u64>(block_z()) * blocks_y() + block_y();
    // Tiles of fewer pairs than others use the beginning of their place.
    u32 group = a.heads / a.kv_heads, most = group < K::PAIRS ? group * a.tile_rows : K::PAIRS;
    float *partials = a.partials + column * blocks_x() * partial_floats<WIDTH>(most);
    merge_warps<K>(a, tile, sums, shared<float>(0), partials + block_x() * partial_floats<WIDTH>(tile.pairs));
    if (tile.used == 1) return;

    u32 *ticket = shared<u32>(0);
    thread_fence();
    sync_block();
    if (tid() == 0) {
        *ticket = atomic_add(a.arrived + column, 1);
        if (*ticket == tile.used - 1) a.arrived[column] = 0;
    }
    sync_block();
    if (*ticket != tile.used - 1) return;
    thread_fence();
    merge_splits<WIDTH>(a, tile, partials, shared<float>(16));
}

// ---- prefill: many rows ---------------------------------------------------------------------------------

template <typename K> DEVICE bool prefill_pages(const AttendArgs &a, Sums<K> &sums, u32 index, u8 *staged) {
    Tile tile = tile_at<K::PAIRS>(a, index, block_y());
    if (!wanted(a, tile)) return false;
    typename K::Ring ring;
    Pages pages = K::pages(a, tile);
    u32 first = tile.start / PAGE, end = tile.high / PAGE + 1;
    fill<K>(a, ring, pages, first);
    if (lane() < K::PAIRS) stage_tile<K>(a, tile, lane(), staged);
    K::stage_queries(a, tile, query_factor(a), staged);
    sync_warp();
    clear(sums);
    walk<K>(a, sums, ring, pages, staged, first, end, 1);
    return true;
}

template <typename K> DEVICE void prefill(const AttendArgs &a) {
    pdl_launch();
    pdl_wait();
    // The last tiles see most: they begin first.
    u32 index = (blocks_x() - 1 - block_x()) * WARPS + warp();
    if (index >= a.tile_count) return;
    u8 *staged = shared<u8>(warp() * staged_bytes<K>());
    Sums<K> sums;
    if (!prefill_pages<K>(a, sums, index, staged)) return;
    K::write(a, *tile_of<K>(staged), sums);
}
