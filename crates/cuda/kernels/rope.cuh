// What rope_store and attend share: the paged cache, and a head that is normed and turned by one warp.
// Mirrored in src/args/rope.rs.
#pragma once
#include "prelude.cuh"

// Positions of a page.
constexpr u32 PAGE = 32;

// The storage of a group of layers, seen from one layer: page p begins at pages + p * page_stride and holds
// f16 [2][kv_heads][32 * width]: keys as [32 positions][width], then values transposed, [width][32 positions].
// `width` is head_dim rounded up to a size attend exists for. Positions 32i.. of slot s lie in the page
// table[s * table_stride + i]. 24 bytes.
struct Cache {
    u16 *pages;
    const u32 *table;
    u32 page_stride;  // halves
    u32 table_stride; // pages
};

// What happens to a head of Q or K before it is used. 32 bytes.
struct Rope {
    const float *q_norm, *k_norm; // [head_dim] or null
    const float *turns;           // [rows][half][2]: cosine and sine; 8-byte aligned
    u32 half;                     // dimensions i and i + half turn together; 0: nothing turns
    float eps;                    // of the norms
};

// The keys of one KV head in the page that holds `position`; its values are kv_heads * 32 * width further.
DEVICE u16 *page_of(const Cache &cache, u32 slot, u32 position, u32 kv_head, u32 width) {
    u32 page = cache.table[static_cast<u64>(slot) * cache.table_stride + position / PAGE];
    return cache.pages + static_cast<u64>(page) * cache.page_stride + kv_head * PAGE * width;
}

// What a lane holds of a head while it is normed and turned.
template <u32 WIDTH> struct Head {
    static constexpr u32 PAIRS = (WIDTH / 2 + 31) / 32, REST = WIDTH / 32;
    float low[PAIRS], high[PAIRS], rest[REST], weight_low[PAIRS], weight_high[PAIRS], weight_rest[REST];
    Floats2 angle[PAIRS];
};

// Head x[head_dim] of the warp, its norm's weights or null, its row's angles [half][2]: all loads are under way
// at once, and nothing waits for them yet.
template <u32 WIDTH> DEVICE void load_head(Head<WIDTH> &head, const float *x, const float *norm, const float *turn, u32 half, u32 head_dim) {
    UNROLL for (u32 j = 0; j < Head<WIDTH>::PAIRS; j++) {
        u32 i = lane() + 32 * j;
        bool turns = i < half;
        head.low[j] = turns ? x[i] : 0.0f;
        head.high[j] = turns ? x[i + half] : 0.0f;
        head.weight_low[j] = turns && norm ? norm[i] : 1.0f;
        head.weight_high[j] = turns && norm ? norm[i + half] : 1.0f;
        head.angle[j] = turns ? reinterpret_cast<const Floats2 *>(turn)[i] : Floats2{1.0f, 0.0f};
    }
    UNROLL for (u32 j = 0; j < Head<WIDTH>::REST; j++) {
        u32 d = 2 * half + lane() + 32 * j;
        head.rest[j] = d < head_dim ? x[d] : 0.0f;
        head.weight_rest[j] = d < head_dim && norm ? norm[d] : 1.0f;
    }
}

// put(d, value) for all d < WIDTH of a loaded head: RMS norm if there is one, rotation, zeros from head_dim on.
// put may write where the head was loaded from. The same sums in the same order whatever WIDTH is.
template <u32 WIDTH, typename Put> DEVICE void put_head(Head<WIDTH> &head, bool norm, u32 half, u32 head_dim, float eps, Put put) {
    constexpr u32 PAIRS = Head<WIDTH>::PAIRS, REST = Head<WIDTH>::REST;
    if (norm) {
        float squares = 0.0f;
        UNROLL for (u32 j = 0; j < PAIRS; j++) squares = fmaf(head.high[j], head.high[j], fmaf(head.low[j], head.low[j], squares));
        UNROLL for (u32 j = 0; j < REST; j++) squares = fmaf(head.rest[j], head.rest[j], squares);
        float factor = rsqrtf(warp_sum(squares) / static_cast<float>(head_dim) + eps);
        UNROLL for (u32 j = 0; j < PAIRS; j++) {
            head.low[j] = head.low[j] * factor * head.weight_low[j];
            head.high[j] = head.high[j] * factor * head.weight_high[j];
        }
        UNROLL for (u32 j = 0; j < REST; j++) head.rest[j] = head.rest[j] * factor * head.weight_rest[j];
    }
    sync_warp();
    UNROLL for (u32 j = 0; j < PAIRS; j++) {
        u32 i = lane() + 32 * j;
        if (i < half) {
            put(i, fmaf(head.low[j], head.angle[j].x, -(head.high[j] * head.angle[j].y)));
            put(i + half, fmaf(head.low[j], head.angle[j].y, head.high[j] * head.angle[j].x));
        }
    }
    UNROLL for (u32 j = 0; j < REST; j++) {
        u32 d = 2 * half + lane() + 32 * j;
        if (d < WIDTH) put(d, head.rest[j]);
    }
}

// Both, one after the other.
template <u32 WIDTH, typename Put>
DEVICE void turn_head(const float *x, const float *norm, const float *turn, u32 half, u32 head_dim, float eps, Put put) {
    Head<WIDTH> head;
    load_head<WIDTH>(head, x, norm, turn, half, head_dim);
    put_head<WIDTH>(head, norm != nullptr, half, head_dim, eps, put);
}
