// A = softmax(cap(Q·Kᵀ · scale)) · V over the cached positions p of a row's slot with
// position - window < p <= position. See attend.cuh for the walk over pages.
//
// attend_W: few rows. All warps of a block work on one tile of 16 pairs and take turns at its pages; the
// splits of a tile (grid.x) share the pages in runs, told by the positions on the device, so that one graph
// serves every length. The last block of a tile to arrive adds the partial results in the order of splits.
// Fused, a row's K and V are turned and stored by the block that reads their page.
// prefill_W: many rows. A warp has a tile of its own and walks all its pages; four tiles of a block follow
// each other, so that the L1 serves most of what they read.
//
// A page of one KV head in a warp, away from edges, without a cap or a new maximum; sm_87, NVRTC 12.6 (sm_90
// and nvcc 13 differ by 3 % at most). Bytes of cache per clock of an SM are at four instructions a clock, as
// fast as they issue; tensor cores of 1024 products a clock allow 128 for attend, 64 for prefill of two m-tiles.
//
//   width                    32    64    96   128   256
//   bytes of a page        4096  8192 12288 16384 32768
//   attend: instructions    146   178   208   238   366
//           registers       103   149   151   182   255
//           bytes per clock 112   184   236   275   358
//           under way, KiB    4     8     6     8     8   a warp
//   prefill: m-tiles          2     2     2     2     1
//           instructions    249   305   348   398   365
//           registers       154   217   226   255   255
#include "attend.cuh"

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
template <u32 WIDTH> DEVICE void store_row(const AttendArgs &a, const Tile &tile) {
    u64 at = (static_cast<u64>(tile.first) * a.kv_heads + tile.kv_head) * a.head_dim;
    u16 *page = page_of(a.cache, tile.slot, tile.high, tile.kv_head, WIDTH);
    if (warp() == WARPS - 1) {
        u16 *to = page + tile.high % PAGE * WIDTH;
        turn_head<WIDTH>(a.k + at, a.rope.k_norm, a.rope.turns + static_cast<u64>(tile.first) * 2 * a.rope.half, a.rope.half, a.head_dim,
                         a.rope.eps, [&](u32 d, float value) { to[d] = float_to_half(value); });
    } else if (warp() == WARPS - 2) {
        u16 *to = page + a.kv_heads * PAGE * WIDTH + tile.high % PAGE;
        turn_head<WIDTH>(a.v + at, nullptr, nullptr, 0, a.head_dim, 0.0f, [&](u32 d, float value) { to[d * PAGE] = float_to_half(value); });
    }
}

// The walks of the block's warps over its split's pages; false if the block has none.
template <u32 WIDTH, u32 DEPTH> DEVICE bool attend_pages(const AttendArgs &a, Sums<WIDTH, 1> &sums, u16 *queries) {
    Tile tile = tile_at<1>(a, block_z(), block_y());
    u32 first = tile.start / PAGE, count = tile.high / PAGE - first + 1;
    // A run of pages for each split, a multiple of the warps: other lengths would leave warps idle.
    u32 run = ((count + blocks_x() - 1) / blocks_x() + WARPS - 1) / WARPS * WARPS;
    if (run < a.min_pages) run = a.min_pages;
    tile.used = (count + run - 1) / run;
    if (block_x() >= tile.used || (!a.fused && !wanted(a, tile))) return false;
    bool last = block_x() == tile.used - 1;
    u32 end = first + (last ? count : (block_x() + 1) * run);
    first += block_x() * run + warp();

    Ring<DEPTH> ring;
    Pages pages = pages_of<WIDTH>(a, tile);
    bool stores = a.fused && last;
    if (stores) store_row<WIDTH>(a, tile);
    else if (first < end) fill<WIDTH>(a, ring, pages, first);
    float factor = query_factor(a);
    if (tid() < 16) stage_tile<WIDTH, 1>(a, tile, tid(), queries);
    NO_UNROLL for (u32 pair = warp(); pair < 16; pair += WARPS) stage_query<WIDTH>(a, tile, pair, factor, queries);
    sync_block();
    if (stores && first < end) fill<WIDTH>(a, ring, pages, first);

    clear(sums);
    if (first < end) walk<WIDTH, 1, DEPTH>(a, sums, ring, pages, queries, first, end, WARPS);
    return true;
}

// The sums of the block's warps, through shared memory from `tops` on: the tile's result if there is one split,
// else this split's at `partial`.
template <u32 WIDTH> DEVICE void merge_warps(const AttendArgs &a, const Tile &tile, const Sums<WIDTH, 1> &sums, float *tops, float *partial) {
    constexpr u32 COLUMNS = pass_columns<WIDTH>(), STRIDE = pass_stride<WIDTH>();
    float *weights = tops + WARPS * 16, *parts = weights + WARPS * 16;
    u32 g = lane() / 4, t = lane() % 4;
    if (t == 0) {
        tops[warp() * 16 + g] = sums.top[0][0];
        tops[warp() * 16 + g + 8] = sums.top[0][1];
        weights[warp() * 16 + g] = sums.sum[0][0];
        weights[warp() * 16 + g + 8] = sums.sum[0][1];
    }
    UNROLL for (u32 pass = 0; pass < WIDTH / COLUMNS; pass++) {
        float *mine = parts + warp() * tile.pairs * STRIDE + 2 * t;
        UNROLL for (u32 n = 0; n < COLUMNS / 8; n++) {
            const F32x4 &o = sums.o[0][pass * (COLUMNS / 8) + n];
            if (g < tile.pairs) *reinterpret_cast<Floats2 *>(mine + g * STRIDE + 8 * n) = {o.x, o.y};
            if (g + 8 < tile.pairs) *reinterpret_cast<Floats2 *>(mine + (g + 8) * STRIDE + 8 * n) = {o.z, o.w};
        }
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

template <u32 WIDTH, u32 DEPTH> DEVICE void attend(const AttendArgs &a) {
    pdl_launch();
    pdl_wait();
    u16 *queries = shared<u16>(0);
    Sums<WIDTH, 1> sums;
    if (!attend_pages<WIDTH, DEPTH>(a, sums, queries)) return;
    Tile tile = *tile_of<WIDTH, 1>(queries);
    // What was staged is no longer needed.
    sync_block();
    u64 column = static_cast<u64>(block_z()) * blocks_y() + block_y();
    // Tiles of fewer pairs than others use the beginning of their place.
    u32 group = a.heads / a.kv_heads, most = group < 16 ? group * a.tile_rows : 16;
    float *partials = a.partials + column * blocks_x() * partial_floats<WIDTH>(most);
    merge_warps<WIDTH>(a, tile, sums, shared<float>(0), partials + block_x() * partial_floats<WIDTH>(tile.pairs));
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

template <u32 WIDTH, u32 TALL, u32 DEPTH>
DEVICE bool prefill_pages(const AttendArgs &a, Sums<WIDTH, TALL> &sums, u32 index, u16 *queries) {
    Tile tile = tile_at<TALL>(a, index, block_y());
    if (!wanted(a, tile)) return false;
    Ring<DEPTH> ring;
    Pages pages = pages_of<WIDTH>(a, tile);
    u32 first = tile.start / PAGE, end = tile.high / PAGE + 1;
    fill<WIDTH>(a, ring, pages, first);
    if (lane() < 16 * TALL) stage_tile<WIDTH, TALL>(a, tile, lane(), queries);
    stage_queries<WIDTH, TALL>(a, tile, query_factor(a), queries);
    sync_warp();
    clear(sums);
    walk<WIDTH, TALL, DEPTH>(a, sums, ring, pages, queries, first, end, 1);
    return true;
}

template <u32 WIDTH, u32 TALL, u32 DEPTH> DEVICE void prefill(const AttendArgs &a) {
    pdl_launch();
    pdl_wait();
    // The last tiles see most: they begin first.
    u32 index = (blocks_x() - 1 - block_x()) * WARPS + warp();
    if (index >= a.tile_count) return;
    u16 *queries = shared<u16>(warp() * staged_bytes<WIDTH, TALL>());
    Sums<WIDTH, TALL> sums;
    if (!prefill_pages<WIDTH, TALL, DEPTH>(a, sums, index, queries)) return;
    Tile tile = *tile_of<WIDTH, TALL>(queries);
    u32 g = lane() / 4, t = lane() % 4;
    UNROLL for (u32 m = 0; m < TALL; m++) {
        UNROLL for (u32 h = 0; h < 2; h++) {
            u32 pair = 16 * m + 8 * h + g;
            bool mine = pair < tile.pairs;
            u32 row = mine ? output_row(a, tile.first + pair / tile.heads) : NOWHERE;
            mine = row != NOWHERE;
            u32 start = (tile.head + pair % tile.heads) * a.head_dim;
            float *out = a.out + static_cast<u64>(row) * a.heads * a.head_dim + start + 2 * t;
            float whole = 1.0f / sums.sum[m][h];
            UNROLL for (u32 n = 0; n < WIDTH / 8; n++) {
                float x = (h ? sums.o[m][n].z : sums.o[m][n].x) * whole, y = (h ? sums.o[m][n].w : sums.o[m][n].y) * whole;
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

KERNEL(attend_32, AttendArgs, 128, 3) { attend<32, 2>(a); }
KERNEL(attend_64, AttendArgs, 128, 3) { attend<64, 4>(a); }
KERNEL(attend_96, AttendArgs, 128, 3) { attend<96, 3>(a); }
KERNEL(attend_128, AttendArgs, 128, 2) { attend<128, 4>(a); }
KERNEL(attend_256, AttendArgs, 128, 2) { attend<256, 4>(a); }

KERNEL(prefill_32, AttendArgs, 128, 2) { prefill<32, 2, 2>(a); }
KERNEL(prefill_64, AttendArgs, 128, 2) { prefill<64, 2, 4>(a); }
KERNEL(prefill_96, AttendArgs, 128, 2) { prefill<96, 2, 2>(a); }
KERNEL(prefill_128, AttendArgs, 128, 2) { prefill<128, 2, 2>(a); }
KERNEL(prefill_256, AttendArgs, 128, 2) { prefill<256, 1, 4>(a); }
