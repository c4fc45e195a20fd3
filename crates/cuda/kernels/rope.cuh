// What rope_store and attend share: the paged cache, and a head that is normed and turned by one warp.
// Mirrored in src/args/rope.rs.
#pragma once
#include "prelude.cuh"

// Positions of a page.
constexpr u32 PAGE = 32;

// The storage of a group of layers, seen from one layer: page p begins at pages + p * page_stride and holds
// blocks [keys, values][kv_heads], each of all positions of one head; kernels/kv says what is in a block.
// Positions 32i.. of slot s lie in the page table[s * table_stride + i]. 24 bytes.
struct Cache {
    u8 *pages;
    const u32 *table;
    u32 page_stride;  // bytes
    u32 table_stride; // pages
};

// What happens to a head of Q or K before it is used. 32 bytes.
struct Rope {
    const float *q_norm, *k_norm; // [head_dim] or null
    const float *turns;           // [rows][half][2]: cosine and sine; 8-byte aligned
    u32 half;                     // dimensions i and i + half turn together; 0: nothing turns
    float eps;                    // of the norms
};

// The block of keys of one KV head in the page that holds `position`; its values are kv_heads * block further.
DEVICE u8 *page_of(const Cache &cache, u32 slot, u32 position, u32 kv_head, u32 block) {
    u32 page = cache.table[static_cast<u64>(slot) * cache.table_stride + position / PAGE];
    return cache.pages + static_cast<u64>(page) * cache.page_stride + kv_head * block;
}

// A head of up to WIDTH elements in a warp's registers.
template <u32 WIDTH> struct Head {
    static constexpr u32 PAIRS = (WIDTH / 2 + 31) / 32, REST = WIDTH / 32;
    float low[PAIRS], high[PAIRS], rest[REST];
    u32 half;

    // put(d, value) for all d < WIDTH, by the lane that has it.
    template <typename Put> METHOD void each(Put put) const {
        UNROLL for (u32 j = 0; j < PAIRS; j++) {
            u32 i = lane() + 32 * j;
            if (i < half) {
                put(i, low[j]);
                put(i + half, high[j]);
            }
        }
        UNROLL for (u32 j = 0; j < REST; j++) {
            u32 d = 2 * half + lane() + 32 * j;
            if (d < WIDTH) put(d, rest[j]);
        }
    }
};

// The head x[head_dim] at `turn` = its row's [half][2]: RMS norm if there is one, rotation, zeros from head_dim
// on. All loads come first, so that x may be where the result goes, and all of them are under way at once. The
// same sums in the same order whatever WIDTH is.
template <u32 WIDTH>
DEVICE Head<WIDTH> turned_head(const float *x, const float *norm, const float *turn, u32 half, u32 head_dim, float eps) {
    constexpr u32 PAIRS = Head<WIDTH>::PAIRS, REST = Head<WIDTH>::REST;
    float low[PAIRS], high[PAIRS], rest[REST], weight_low[PAIRS], weight_high[PAIRS], weight_rest[REST];
    Floats2 angle[PAIRS];
    UNROLL for (u32 j = 0; j < PAIRS; j++) {
        u32 i = lane() + 32 * j;
        bool turns = i < half;
        low[j] = turns ? x[i] : 0.0f;
        high[j] = turns ? x[i + half] : 0.0f;
        weight_low[j] = turns && norm ? norm[i] : 1.0f;
        weight_high[j] = turns && norm ? norm[i + half] : 1.0f;
        angle[j] = turns ? reinterpret_cast<const Floats2 *>(turn)[i] : Floats2{1.0f, 0.0f};
    }
    UNROLL for (u32 j = 0; j < REST; j++) {
        u32 d = 2 * half + lane() + 32 * j;
        rest[j] = d < head_dim ? x[d] : 0.0f;
        weight_rest[j] = d < head_dim && norm ? norm[d] : 1.0f;
    }
    if (norm) {
        float squares = 0.0f;
        UNROLL for (u32 j = 0; j < PAIRS; j++) squares = fmaf(high[j], high[j], fmaf(low[j], low[j], squares));
        UNROLL for (u32 j = 0; j < REST; j++) squares = fmaf(rest[j], rest[j], squares);
        float factor = rsqrtf(warp_sum(squares) / static_cast<float>(head_dim) + eps);
        UNROLL for (u32 j = 0; j < PAIRS; j++) {
            low[j] = low[j] * factor * weight_low[j];
            high[j] = high[j] * factor * weight_high[j];
        }
        UNROLL for (u32 j = 0; j < REST; j++) rest[j] = rest[j] * factor * weight_rest[j];
    }
    sync_warp();
    Head<WIDTH> head;
    head.half = half;
    UNROLL for (u32 j = 0; j < PAIRS; j++) {
        head.low[j] = fmaf(low[j], angle[j].x, -(high[j] * angle[j].y));
        head.high[j] = fmaf(low[j], angle[j].y, high[j] * angle[j].x);
    }
    UNROLL for (u32 j = 0; j < REST; j++) head.rest[j] = rest[j];
    return head;
}
