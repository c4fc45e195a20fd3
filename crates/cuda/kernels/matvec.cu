// Products of matrices with one row: decode. Bound by memory, so everything is arranged around the stream of
// weights: a warp walks tiles of 16 rows, keeps the next tile in registers while it computes this one, and
// never stops between units of work.
//
// A unit is a row tile (of gate and up together for gated blocks). `split` warps share a unit's columns and
// meet in shared memory in a fixed order, so results do not depend on timing. Warp-uniform control flow only.
#include "matvec/f16.cuh"
#include "matvec/k4.cuh"
#include "matvec/q32.cuh"
#include "matvec/q6_k.cuh"

constexpr u32 WARPS = 24;

// 264 bytes.
struct MatvecArgs {
    Output out[3];
    Source source;
    u32 outputs;
    u32 epilogue;
    float cap;
    u32 split;    // warps a unit: a divisor of 24, at most its steps
    // What the host can count once: groups of `split` warps in the launch, units of the kernel's first and
    // second format.
    u32 groups, units_first, units_second;
    u32 unused;
};

// Where a unit's segment lies: one matrix's row tile. Units of a gated product have two, gate and up.
struct Segment {
    u32 out, tile;
};

// The segment of a unit, skipping outputs of other formats.
template <typename Dot> DEVICE Segment find(const MatvecArgs &a, u32 unit, bool gated, bool up) {
    if (gated) return {up, unit};
    u32 out = 0;
    UNROLL for (u32 o = 0; o < 2; o++) {
        bool mine = a.out[o].matrix.format == Dot::FORMAT;
        u32 tiles = mine ? a.out[o].matrix.row_tiles : 0;
        if (out == o && unit >= tiles) out = o + 1, unit -= tiles;
    }
    return {out, unit};
}

template <typename Dot> DEVICE const u8 *first_tile(const MatvecArgs &a, Segment at, u32 col_tiles) {
    const u8 *tiles = at.out == 0 ? a.out[0].matrix.tiles : at.out == 1 ? a.out[1].matrix.tiles : a.out[2].matrix.tiles;
    return tiles + static_cast<u64>(at.tile * col_tiles) * tile_bytes(Dot::FORMAT);
}

DEVICE void finish(const MatvecArgs &a, Segment place, float value, float second, float before) {
    const Output &out = place.out == 0 ? a.out[0] : place.out == 1 ? a.out[1] : a.out[2];
    u32 row = place.tile * TILE_ROWS + lane();
    if (row >= out.matrix.rows) return;
    if (out.bias != nullptr) value += out.bias[row];
    switch (a.epilogue) {
    case ADD: value += before; break;
    case GATE_SILU: value = silu(value) * second; break;
    case GATE_GELU: value = gelu_tanh(value) * second; break;
    case CAP: value = capped(value, a.cap); break;
    default: break;
    }
    out.to[row] = value;
}

// What a product is added to, read long before it is needed.
template <typename Dot> DEVICE float residual(const MatvecArgs &a, u32 unit) {
    Segment place = find<Dot>(a, unit, false, false);
    const Output &out = place.out == 0 ? a.out[0] : place.out == 1 ? a.out[1] : a.out[2];
    u32 row = place.tile * TILE_ROWS + (lane() & 15);
    return row < out.matrix.rows ? load_fresh(out.to + row) : 0.0f;
}

// All units of one format. Groups that come after the units of the first format take the first ones of the
// second. The stream of a warp: for each of its units, for gate and then up, its steps of the columns.
template <typename Dot, bool SECOND, bool GATED> DEVICE void run(const MatvecArgs &a, const Staged &at, u32 col_tiles) {
    const u32 groups = a.groups, total = SECOND ? a.units_second : a.units_first;
    const u32 member = warp() % a.split;
    const u32 steps = col_tiles * Dot::STEPS;
    constexpr u32 BYTES = tile_bytes(Dot::FORMAT);

    u32 unit = block_x() * (WARPS / a.split) + warp() / a.split;
    if (SECOND) {
        u32 shift = a.units_first % groups;
        unit = unit >= shift ? unit - shift : unit + groups - shift;
    }
    const u8 *tile = nullptr;
    typename Dot::Regs regs;
    if (unit < total) {
        tile = first_tile<Dot>(a, find<Dot>(a, unit, GATED, false), col_tiles);
        Dot::load(regs, tile + member / Dot::STEPS * BYTES, member % Dot::STEPS);
    }
    if (!SECOND) {
        stage<WARPS, Dot::FLOATS>(a.source, at, col_tiles, shared<float>(at.rest));
    }
    u32 round = 0;
    bool up = false;
    while (unit < total) {
        const bool ends = up == GATED;
        const u32 following = ends ? unit + groups : unit;
        const u8 *after = first_tile<Dot>(a, find<Dot>(a, following < total ? following : 0, GATED, !ends), col_tiles);
        float before = 0.0f;
        if (!GATED && a.epilogue == ADD && member == 0) before = residual<Dot>(a, unit);
        float sum = 0.0f;
        u32 now = member;
        NO_UNROLL for (bool last = false; !last;) {
            u32 step = now + a.split;
            last = step >= steps;
            if (last) step = member, tile = after;
            Next next = {tile + step / Dot::STEPS * BYTES, step % Dot::STEPS};
            sum += Dot::dot(regs, at, now / Dot::STEPS, now % Dot::STEPS, next);
            now = step;
        }
        sum += shfl_xor(sum, 16u);
        // Two sets of partials: the leader may still read one while the others fill the next.
        float *set = shared<float>(at.rest + 256 + round * (WARPS * 128)) + (warp() - member) * 32;
        if (lane() < 16) set[member * 32 + up * 16 + lane()] = sum;
        up = !ends;
        if (up) continue;
        if (a.split > 1) sync_some(1 + warp() / a.split, a.split * 32);
        else sync_warp();
        round ^= 1;
        if (member == 0 && lane() < 16) {
            float first = 0.0f, second = 0.0f;
            UNROLL for (u32 i = 0; i < WARPS; i++) {
                if (i < a.split) {
                    first += set[i * 32 + lane()];
                    if (GATED) second += set[i * 32 + 16 + lane()];
                }
            }
            float factor = shared<float>(at.rest)[warp()];
            finish(a, find<Dot>(a, unit, GATED, false), factor * first, factor * second, before);
        }
        unit += groups;
    }
}

template <bool GATED, typename First, typename Second = First> DEVICE void matvec(const MatvecArgs &a) {
    pdl_launch();
    const u32 col_tiles = a.out[0].matrix.col_tiles;
    Staged at = staged(col_tiles);
    if (First::FLOATS) at.rest = col_tiles * 1024;
    run<First, false, GATED>(a, at, col_tiles);
    if (First::FORMAT != Second::FORMAT) run<Second, true, false>(a, at, col_tiles);
}

KERNEL(matvec_q4_k, MatvecArgs, 768, 1) { matvec<false, DotQ4K>(a); }
KERNEL(matvec_q5_k, MatvecArgs, 768, 1) { matvec<false, DotQ5K>(a); }
KERNEL(matvec_q6_k, MatvecArgs, 768, 1) { matvec<false, DotQ6K>(a); }
KERNEL(matvec_q8_0, MatvecArgs, 768, 1) { matvec<false, DotQ8_0>(a); }
KERNEL(matvec_q4_0, MatvecArgs, 768, 1) { matvec<false, DotQ4_0>(a); }
KERNEL(matvec_f16, MatvecArgs, 768, 1) { matvec<false, DotF16>(a); }
KERNEL(matvec_q4_k_q6_k, MatvecArgs, 768, 1) { matvec<false, DotQ4K, DotQ6K>(a); }
KERNEL(matvec_q5_k_q6_k, MatvecArgs, 768, 1) { matvec<false, DotQ5K, DotQ6K>(a); }
KERNEL(matvec_gated_q4_k, MatvecArgs, 768, 1) { matvec<true, DotQ4K>(a); }
KERNEL(matvec_gated_q5_k, MatvecArgs, 768, 1) { matvec<true, DotQ5K>(a); }
KERNEL(matvec_gated_q6_k, MatvecArgs, 768, 1) { matvec<true, DotQ6K>(a); }
KERNEL(matvec_gated_q8_0, MatvecArgs, 768, 1) { matvec<true, DotQ8_0>(a); }
KERNEL(matvec_gated_q4_0, MatvecArgs, 768, 1) { matvec<true, DotQ4_0>(a); }
KERNEL(matvec_gated_f16, MatvecArgs, 768, 1) { matvec<true, DotF16>(a); }
