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
// is up to 11 % shorter, prefill_256 2 % longer). Bytes of cache per clock of an SM are at four instructions a clock, as
// fast as they issue; tensor cores of 1024 products a clock allow 128 for attend, 64 for prefill of two m-tiles.
//
//   width                    32    64    96   128   256
//   bytes of a page        4096  8192 12288 16384 32768
//   attend: instructions    181   244   305   330   582
//           registers        78   118   126   128   224
//           bytes per clock  90   134   161   199   225
//           shared, KiB    17.6  34.6  51.6  36.6  56.6   a block
//           blocks            6     4     3     4     2   an SM
//           under way, KiB   96   128   144   128    96   an SM
//   prefill: m-tiles          2     2     2     2     1
//           instructions    251   309   350   399   363
//           registers       132   207   220   254   255
#include "attend.cuh"

constexpr u32 WARPS = 4;

// ---- attend: few rows -----------------------------------------------------------------------------------

// Floats of one split's partial result: [pairs][WIDTH] sums, [pairs] tops, [pairs] sums of weights.
template <u32 WIDTH> DEVICE u32 partial_floats(u32 pairs) { return (pairs * (WIDTH + 2) + 3) / 4 * 4; }

// Shared memory of a block: the tile, see staged_bytes; tops and sums of weights of the warps, [2][WARPS][16]; a
// word; from `ring` on the warps' rings. When a warp has used up its ring it puts its sums there, and when all
// have, the weights of splits take their place.
template <u32 WIDTH> DEVICE constexpr u32 tops_at() { return staged_bytes<WIDTH, 1>(); }
template <u32 WIDTH> DEVICE constexpr u32 ticket_at() { return tops_at<WIDTH>() + 2 * WARPS * 16 * 4; }
template <u32 WIDTH> DEVICE constexpr u32 ring_at() { return ticket_at<WIDTH>() + 16; }

// Columns of the sums that are merged at a time, and where a pair's column is: each fourth pair is 8 banks on.
template <u32 WIDTH> DEVICE constexpr u32 pass_columns() { return WIDTH < 128 ? WIDTH : 128; }
template <u32 COLUMNS> DEVICE u32 pass_at(u32 pair, u32 column) { return pair * COLUMNS + (column ^ pair % 4 * 8); }

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

// The partial results of all splits, by the last block of the tile; `factors`: shared, [used][pairs]. Sixteen
// splits are under way at a time, the first of them while their weights are worked out.
template <u32 WIDTH> DEVICE void merge_splits(const AttendArgs &a, const Tile &tile, const float *partials, Floats2 *factors) {
    constexpr u32 BATCH = WIDTH < 64 ? 8 : 16;
    u32 used = tile.used, pairs = tile.pairs, size = partial_floats<WIDTH>(pairs), items = pairs * (WIDTH / 4);
    Floats4 parts[BATCH];
    auto load = [&](u32 item, u32 split) {
        const float *from = partials + split * size + item * 4;
        UNROLL for (u32 j = 0; j < BATCH; j++) {
            if (split + j < used) parts[j] = load_fresh(reinterpret_cast<const Floats4 *>(from + j * size));
        }
    };
    if (tid() < items) load(tid(), 0);
    NO_UNROLL for (u32 pair = warp(); pair < pairs; pair += WARPS) {
        const float *tops = partials + pairs * WIDTH + pair;
        float top = -1e30f, sum = 0.0f;
        NO_UNROLL for (u32 first = lane(); first < used; first += 128) {
            Floats2 of[4];
            UNROLL for (u32 j = 0; j < 4; j++) {
                u32 split = first + 32 * j < used ? first + 32 * j : first;
                of[j] = {load_fresh(tops + split * size), load_fresh(tops + split * size + pairs)};
            }
            UNROLL for (u32 j = 0; j < 4; j++) {
                top = fmaxf(top, of[j].x);
                if (first + 32 * j < used) factors[(first + 32 * j) * pairs + pair] = of[j];
            }
        }
        top = warp_max(top);
        for (u32 split = lane(); split < used; split += 32) {
            Floats2 &factor = factors[split * pairs + pair];
            factor.x = exp2_fast(factor.x - top);
            sum = fmaf(factor.x, factor.y, sum);
        }
        float whole = 1.0f / warp_sum(sum);
        for (u32 split = lane(); split < used; split += 32) factors[split * pairs + pair].x *= whole;
    }
    sync_block();
    NO_UNROLL for (u32 item = tid(); item < items; item += WARPS * 32) {
        const Floats2 *factor = factors + item / (WIDTH / 4);
        Floats4 all = {0.0f, 0.0f, 0.0f, 0.0f};
        NO_UNROLL for (u32 split = 0; split < used; split += BATCH) {
            if (split > 0 || item != tid()) load(item, split);
            UNROLL for (u32 j = 0; j < BATCH; j++) {
                if (split + j < used) all = added(all, parts[j], factor[(split + j) * pairs].x);
            }
        }
        write4(a, tile, item / (WIDTH / 4), item % (WIDTH / 4) * 4, all);
    }
}

// What a block fetches of its tile's only row, fused: the key, by the last warp, and a number or two of the value.
template <u32 WIDTH> struct NewRow {
    Head<WIDTH> key;
    float value[(WIDTH + 127) / 128];
};

template <u32 WIDTH> DEVICE void load_row(const AttendArgs &a, const Tile &tile, NewRow<WIDTH> &row) {
    u64 at = (static_cast<u64>(tile.first) * a.kv_heads + tile.kv_head) * a.head_dim;
    if (warp() == WARPS - 1) {
        load_head<WIDTH>(row.key, a.k + at, a.rope.k_norm, a.rope.turns + static_cast<u64>(tile.first) * 2 * a.rope.half, a.rope.half, a.head_dim);
    }
    UNROLL for (u32 j = 0; j < (WIDTH + 127) / 128; j++) {
        u32 d = j * 128 + tid();
        row.value[j] = d < a.head_dim ? a.v[at + d] : 0.0f;
    }
}

// Into the page they belong to, whose number is `entry`.
template <u32 WIDTH> DEVICE void store_row(const AttendArgs &a, const Tile &tile, NewRow<WIDTH> &row, u32 entry) {
    u16 *page = a.cache.pages + static_cast<u64>(entry) * a.cache.page_stride + tile.kv_head * PAGE * WIDTH;
    u16 *values = page + a.kv_heads * PAGE * WIDTH + tile.high % PAGE;
    UNROLL for (u32 j = 0; j < (WIDTH + 127) / 128; j++) {
        u32 d = j * 128 + tid();
        if (d < WIDTH) values[d * PAGE] = float_to_half(row.value[j]);
    }
    if (warp() == WARPS - 1) {
        u16 *to = page + tile.high % PAGE * WIDTH;
        put_head<WIDTH>(row.key, a.rope.k_norm != nullptr, a.rope.half, a.head_dim, a.rope.eps, [&](u32 d, float value) { to[d] = float_to_half(value); });
    }
}

// Pages of each split of a tile that has `count`; see `Attention::min_pages`. A multiple of the warps: other
// lengths would leave warps idle.
DEVICE u32 run_of(const AttendArgs &a, u32 count) {
    if (count <= 2 * a.min_pages) return count;
    u32 run = ((count + blocks_x() - 1) / blocks_x() + WARPS - 1) / WARPS * WARPS;
    return run < a.min_pages ? a.min_pages : run;
}

// The walks of the block's warps over its split's pages; false if the block has none. Queries and the new row
// are asked for together with the position, pages as soon as that is known.
template <u32 WIDTH, u32 DEPTH> DEVICE bool attend_pages(const AttendArgs &a, Sums<WIDTH, 1> &sums, u16 *queries) {
    Tile tile = tile_at<1>(a, block_z(), block_y());
    Head<WIDTH> query;
    NewRow<WIDTH> row;
    if (warp() < tile.pairs) load_query<WIDTH>(a, tile, warp(), query);
    if (a.fused) load_row<WIDTH>(a, tile, row);
    locate(a, tile);
    u32 first = tile.start / PAGE, count = tile.high / PAGE - first + 1, run = run_of(a, count);
    tile.used = (count + run - 1) / run;
    if (block_x() >= tile.used || (!a.fused && !wanted(a, tile))) return false;
    bool last = block_x() == tile.used - 1;
    if (!last) tile.end = first + (block_x() + 1) * run;
    first += block_x() * run + warp();

    Copies<WIDTH, DEPTH> ring;
    ring.begin(ring_at<WIDTH>() + warp() * ring.BYTES);
    Pages pages = pages_of<WIDTH>(a, tile);
    bool stores = a.fused && last;
    // The page that the new row belongs to is complete after the barrier.
    bool late = stores && first + 1 == tile.end;
    u32 entry = first < tile.end ? entry_at(a, tile, first) : 0, stored = stores ? entry_at(a, tile, tile.high / PAGE) : 0;
    if (first < tile.end && !late) fill<WIDTH>(a, ring, pages, entry);
    stage_zeros<WIDTH>(tile.pairs, queries);
    if (tid() < 16) stage_tile<WIDTH, 1>(tile, tid(), queries);
    float factor = query_factor(a);
    if (warp() < tile.pairs) stage_query<WIDTH>(a, query, warp(), factor, queries);
    NO_UNROLL for (u32 pair = warp() + WARPS; pair < tile.pairs; pair += WARPS) {
        load_query<WIDTH>(a, tile, pair, query);
        stage_query<WIDTH>(a, query, pair, factor, queries);
    }
    if (stores) store_row<WIDTH>(a, tile, row, stored);
    sync_block();
    if (late) fill<WIDTH>(a, ring, pages, stored);

    clear(sums);
    if (first < tile.end) walk<WIDTH, 1>(a, sums, ring, pages, queries, first, WARPS);
    return true;
}

// The sums of the block's warps, each in place of its ring: the tile's result if there is one split, else this
// split's at `partial`.
template <u32 WIDTH, u32 DEPTH> DEVICE void merge_warps(const AttendArgs &a, const Tile &tile, const Sums<WIDTH, 1> &sums, float *partial) {
    constexpr u32 COLUMNS = pass_columns<WIDTH>(), RING = Copies<WIDTH, DEPTH>::BYTES / 4;
    static_assert(16 * COLUMNS <= RING, "a ring holds a warp's sums");
    float *tops = shared<float>(tops_at<WIDTH>()), *weights = tops + WARPS * 16, *parts = shared<float>(ring_at<WIDTH>());
    u32 g = lane() / 4, t = lane() % 4;
    if (t == 0) {
        tops[warp() * 16 + g] = sums.top[0][0];
        tops[warp() * 16 + g + 8] = sums.top[0][1];
        weights[warp() * 16 + g] = sums.sum[0][0];
        weights[warp() * 16 + g + 8] = sums.sum[0][1];
    }
    UNROLL for (u32 pass = 0; pass < WIDTH / COLUMNS; pass++) {
        if (pass > 0) sync_block();
        float *mine = parts + warp() * RING;
        UNROLL for (u32 n = 0; n < COLUMNS / 8; n++) {
            const F32x4 &o = sums.o[0][pass * (COLUMNS / 8) + n];
            u32 at = pass_at<COLUMNS>(g, 8 * n + 2 * t);
            if (g < tile.pairs) *reinterpret_cast<Floats2 *>(mine + at) = {o.x, o.y};
            if (g + 8 < tile.pairs) *reinterpret_cast<Floats2 *>(mine + at + 8 * COLUMNS) = {o.z, o.w};
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
                all = added(all, *reinterpret_cast<const Floats4 *>(parts + w * RING + pass_at<COLUMNS>(pair, at)), by);
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
    }
}

template <u32 WIDTH, u32 DEPTH> DEVICE void attend(const AttendArgs &a) {
    pdl_launch();
    pdl_wait();
    u16 *queries = shared<u16>(0);
    Sums<WIDTH, 1> sums;
    if (!attend_pages<WIDTH, DEPTH>(a, sums, queries)) return;
    Tile tile = *tile_of<WIDTH, 1>(queries);
    u64 column = static_cast<u64>(block_z()) * blocks_y() + block_y();
    // Tiles of fewer pairs than others use the beginning of their place.
    u32 group = a.heads / a.kv_heads, most = group < 16 ? group * a.tile_rows : 16;
    float *partials = a.partials + column * blocks_x() * partial_floats<WIDTH>(most);
    merge_warps<WIDTH, DEPTH>(a, tile, sums, partials + block_x() * partial_floats<WIDTH>(tile.pairs));
    if (tile.used == 1) return;

    u32 *ticket = shared<u32>(ticket_at<WIDTH>());
    sync_block();
    if (tid() == 0) {
        // Also for what the others wrote before they came to the barrier.
        thread_fence();
        *ticket = atomic_add(a.arrived + column, 1);
        if (*ticket == tile.used - 1) a.arrived[column] = 0;
        thread_fence();
    }
    sync_block();
    if (*ticket != tile.used - 1) return;
    merge_splits<WIDTH>(a, tile, partials, shared<Floats2>(ring_at<WIDTH>()));
}

// ---- prefill: many rows ---------------------------------------------------------------------------------

template <u32 WIDTH, u32 TALL, u32 DEPTH>
DEVICE bool prefill_pages(const AttendArgs &a, Sums<WIDTH, TALL> &sums, u32 index, u16 *queries) {
    Tile tile = tile_at<TALL>(a, index, block_y());
    if (!wanted(a, tile)) return false;
    locate(a, tile);
    Registers<WIDTH, DEPTH> ring;
    Pages pages = pages_of<WIDTH>(a, tile);
    u32 first = tile.start / PAGE;
    fill<WIDTH>(a, ring, pages, entry_at(a, tile, first));
    if (lane() < 16 * TALL) stage_tile<WIDTH, TALL>(tile, lane(), queries);
    stage_queries<WIDTH, TALL>(a, tile, query_factor(a), queries);
    sync_warp();
    clear(sums);
    walk<WIDTH, TALL>(a, sums, ring, pages, queries, first, 1);
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

KERNEL(attend_32, AttendArgs, 128, 6) { attend<32, 2>(a); }
KERNEL(attend_64, AttendArgs, 128, 4) { attend<64, 4>(a); }
KERNEL(attend_96, AttendArgs, 128, 3) { attend<96, 6>(a); }
KERNEL(attend_128, AttendArgs, 128, 4) { attend<128, 4>(a); }
KERNEL(attend_256, AttendArgs, 128, 2) { attend<256, 6>(a); }

KERNEL(prefill_32, AttendArgs, 128, 2) { prefill<32, 2, 2>(a); }
KERNEL(prefill_64, AttendArgs, 128, 2) { prefill<64, 2, 4>(a); }
KERNEL(prefill_96, AttendArgs, 128, 2) { prefill<96, 2, 2>(a); }
KERNEL(prefill_128, AttendArgs, 128, 2) { prefill<128, 2, 2>(a); }
KERNEL(prefill_256, AttendArgs, 128, 2) { prefill<256, 1, 4>(a); }
