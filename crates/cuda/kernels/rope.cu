// Norms and rotation of the heads of Q and K, and K and V into the cache.
//
//   q = turn(norm(q)) in place;  K page = f16(turn(norm(k)));  V page = f16(v)
//
// One warp a head of a row; a head is read once and written once. The rotation turns dimensions (i, i + half)
// by the row's angle, the dimensions from 2 * half on stay. Values of a page lie transposed, so a warp writes
// two bytes in each of `width` rows of 64 bytes, which the L2 gathers.
#include "rope.cuh"

// Grid: ceil(rows * (heads + 2 * kv_heads) / 4) blocks of 128 threads.
struct RopeStoreArgs {
    float *q;                // [rows][heads * head_dim]
    const float *k, *v;      // [rows][kv_heads * head_dim]
    const u32 *position;     // [rows]
    const u32 *slot;         // [rows]
    Cache cache;
    Rope rope;
    u32 rows, heads, kv_heads, head_dim, width, unused;
};

template <u32 WIDTH> DEVICE void rope_store_head(const RopeStoreArgs &a, u32 row, u32 head) {
    const float *turn = a.rope.turns + static_cast<u64>(row) * 2 * a.rope.half;
    if (head < a.heads) {
        if (!a.rope.q_norm && a.rope.half == 0) return;
        float *q = a.q + (static_cast<u64>(row) * a.heads + head) * a.head_dim;
        turn_head<WIDTH>(q, a.rope.q_norm, turn, a.rope.half, a.head_dim, a.rope.eps, [&](u32 d, float value) {
            if (d < a.head_dim) q[d] = value;
        });
        return;
    }
    head -= a.heads;
    bool values = head >= a.kv_heads;
    if (values) head -= a.kv_heads;
    u32 position = a.position[row];
    u16 *page = page_of(a.cache, a.slot[row], position, head, WIDTH);
    u64 at = (static_cast<u64>(row) * a.kv_heads + head) * a.head_dim;
    if (values) {
        page += a.kv_heads * PAGE * WIDTH + position % PAGE;
        turn_head<WIDTH>(a.v + at, nullptr, nullptr, 0, a.head_dim, 0.0f, [&](u32 d, float value) { page[d * PAGE] = float_to_half(value); });
    } else {
        page += position % PAGE * WIDTH;
        turn_head<WIDTH>(a.k + at, a.rope.k_norm, turn, a.rope.half, a.head_dim, a.rope.eps, [&](u32 d, float value) { page[d] = float_to_half(value); });
    }
}

KERNEL(rope_store, RopeStoreArgs, 128, 4) {
    pdl_launch();
    pdl_wait();
    u32 heads = a.heads + 2 * a.kv_heads;
    u32 unit = block_x() * 4 + warp();
    u32 row = unit / heads, head = unit % heads;
    if (row >= a.rows) return;
    if (a.width == 32) rope_store_head<32>(a, row, head);
    else if (a.width == 64) rope_store_head<64>(a, row, head);
    else if (a.width == 96) rope_store_head<96>(a, row, head);
    else if (a.width == 128) rope_store_head<128>(a, row, head);
    else rope_store_head<256>(a, row, head);
}
