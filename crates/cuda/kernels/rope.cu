// Norms and rotation of the heads of Q and K, and K and V into the cache.
//
//   q = turn(norm(q)) in place;  K page = codes of turn(norm(k));  V page = codes of v
//
// One warp a head of a row; a head is read once and written once. The rotation turns dimensions (i, i + half)
// by the row's angle, the dimensions from 2 * half on stay. Values of a page lie transposed, eight positions of a
// dimension together: the warp of a row at a position that 8 divides, or that nobody precedes, also stores the
// values of the rows that follow up to the next such position.
#include "kv/f16.cuh"
#include "kv/int4.cuh"
#include "kv/int8.cuh"

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

// The values of row `row` and of those after it that share its sixteen bytes, if it is the first of them.
template <typename Type, u32 WIDTH> DEVICE void store_values(const RopeStoreArgs &a, u32 row, u32 head) {
    u32 slot = a.slot[row], position = a.position[row], next = row + lane();
    bool first = row == 0 || a.slot[row - 1] != slot || a.position[row - 1] + 1 != position || position % 8 == 0;
    bool follows = position % 8 + lane() < 8 && next < a.rows && a.slot[next] == slot && a.position[next] == position + lane();
    u32 run = vote(follows);
    run &= run ^ (run + 1);
    if (!first) return;
    const float *v = a.v + (static_cast<u64>(row) * a.kv_heads + head) * a.head_dim;
    u8 *block = page_of(a.cache, slot, position, a.kv_heads + head, Type::template block<WIDTH>());
    Type::template store_values<WIDTH>(block, position, run, a.head_dim, [&](u32 i, u32 d) {
        return run >> i & 1 && d < a.head_dim ? v[i * a.kv_heads * a.head_dim + d] : 0.0f;
    });
}

template <typename Type, u32 WIDTH> DEVICE void rope_store_head(const RopeStoreArgs &a, u32 row, u32 head) {
    const float *turn = a.rope.turns + static_cast<u64>(row) * 2 * a.rope.half;
    if (head < a.heads) {
        if (!a.rope.q_norm && a.rope.half == 0) return;
        float *q = a.q + (static_cast<u64>(row) * a.heads + head) * a.head_dim;
        turned_head<WIDTH>(q, a.rope.q_norm, turn, a.rope.half, a.head_dim, a.rope.eps).each([&](u32 d, float value) {
            if (d < a.head_dim) q[d] = value;
        });
        return;
    }
    head -= a.heads;
    if (head >= a.kv_heads) return store_values<Type, WIDTH>(a, row, head - a.kv_heads);
    u32 position = a.position[row];
    u8 *block = page_of(a.cache, a.slot[row], position, head, Type::template block<WIDTH>());
    const float *k = a.k + (static_cast<u64>(row) * a.kv_heads + head) * a.head_dim;
    Head<WIDTH> turned = turned_head<WIDTH>(k, a.rope.k_norm, turn, a.rope.half, a.head_dim, a.rope.eps);
    Type::template store_key<WIDTH>(block, position, turned, a.head_dim, shared<float>(warp() * Type::template scratch<WIDTH>()));
}

template <typename Type> DEVICE void rope_store_rows(const RopeStoreArgs &a) {
    pdl_launch();
    pdl_wait();
    u32 heads = a.heads + 2 * a.kv_heads;
    u32 unit = block_x() * 4 + warp();
    u32 row = unit / heads, head = unit % heads;
    if (row >= a.rows) return;
    if (a.width == 32) rope_store_head<Type, 32>(a, row, head);
    else if (a.width == 64) rope_store_head<Type, 64>(a, row, head);
    else if (a.width == 96) rope_store_head<Type, 96>(a, row, head);
    else if (a.width == 128) rope_store_head<Type, 128>(a, row, head);
    else rope_store_head<Type, 256>(a, row, head);
}

KERNEL(rope_store, RopeStoreArgs, 128, 4) { rope_store_rows<F16Cache>(a); }
KERNEL(rope_store_int8, RopeStoreArgs, 128, 4) { rope_store_rows<Int8Cache>(a); }
// With 4 * width bytes of shared memory a warp.
KERNEL(rope_store_int4, RopeStoreArgs, 128, 4) { rope_store_rows<Int4Cache>(a); }
