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


// 264 bytes.
struct MatvecArgs {
    Output out[3];
    Source source;
    u32 outputs;
    u32 epilogue;
    float cap;
    u32 split;    // warps a unit: a divisor of the block's, at most its steps
    // What the host can count once: groups of `split` warps in the launch, units of the kernel's first and
    // second format.
    u32 groups, units_first, units_second;
    u32 share; // ceil(2^16 / split): a warp's group is warp * share >> 16
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

// A warp's group within the block and its place in it. Reckoned anew wherever they are needed: a register
// held for the whole kernel costs more.
DEVICE u32 group_of(const MatvecArgs &a) { return opaque(warp()) * a.share >> 16; }
DEVICE u32 member_of(const MatvecArgs &a) {
    u32 mine = opaque(warp());
    return mine - (mine * a.share >> 16) * a.split;
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

template <u32 WARPS, bool SECOND> DEVICE u32 first_unit(const MatvecArgs &a) {
    u32 unit = block_x() * (WARPS / a.split) + group_of(a);
    if (!SECOND) return unit;
    u32 shift = a.units_first % a.groups;
    return unit >= shift ? unit - shift : unit + a.groups - shift;
}

// All units of one format. Groups that come after the units of the first format take the first ones of the
// second. The stream of a warp: for each of its units, for gate and then up, its steps of the columns.
template <u32 WARPS, typename Dot, bool SECOND, bool GATED> DEVICE void run(const MatvecArgs &a, const Staged &at, u32 col_tiles) {
    const u32 groups = a.groups, total = SECOND ? a.units_second : a.units_first;
    const u32 steps = col_tiles * Dot::STEPS;
    constexpr u32 BYTES = tile_bytes(Dot::FORMAT);

    u32 unit = first_unit<WARPS, SECOND>(a);
    const u8 *tile = nullptr;
    typename Dot::Regs regs;
    if (unit < total) {
        tile = first_tile<Dot>(a, find<Dot>(a, unit, GATED, false), col_tiles);
        const u32 member = member_of(a);
        Dot::load(regs, tile + member / Dot::STEPS * BYTES, member % Dot::STEPS);
    }
    if (!SECOND) {
        stage<WARPS, Dot::FLOATS, GATED ? 1 : 2>(a.source, at, col_tiles, shared<float>(at.rest));
    }
    // Bit 0: at gate or up; bit 1: which set of partials; above: the unit.
    u32 state = first_unit<WARPS, SECOND>(a) * 4;
    while (state / 4 < total) {
        const u32 unit = state / 4, phase = state % 4;
        const bool ends = !GATED || phase % 2 == 1;
        const u32 following = ends ? unit + groups : unit;
        float before = 0.0f;
        if (!GATED && a.epilogue == ADD && member_of(a) == 0) before = residual<Dot>(a, unit);
        float sum = 0.0f;
        u32 now = member_of(a);
        NO_UNROLL for (; now + a.split < steps; now += a.split) {
            Next next = {tile + (now + a.split) / Dot::STEPS * BYTES, (now + a.split) % Dot::STEPS};
            sum += Dot::dot(regs, at, now / Dot::STEPS, now % Dot::STEPS, next);
        }
        // The last step reads ahead into the following segment; after the last of all, into the first again.
        tile = first_tile<Dot>(a, find<Dot>(a, following < total ? following : 0, GATED, !ends), col_tiles);
        const u32 member = member_of(a);
        Next next = {tile + member / Dot::STEPS * BYTES, member % Dot::STEPS};
        sum += Dot::dot(regs, at, now / Dot::STEPS, now % Dot::STEPS, next);
        sum += shfl_xor(sum, 16u);
        // Two sets of partials a format: the leader may still read one while the others fill the next.
        float *set = shared<float>(at.rest + 256 + (phase / 2 + (SECOND ? 2 : 0)) * (WARPS * 128)) + (warp() - member) * 32;
        if (lane() < 16) set[member * 32 + phase % 2 * 16 + lane()] = sum;
        if (!ends) {
            state++;
            continue;
        }
        if (a.split > 1) sync_some(1 + group_of(a), a.split * 32);
        else sync_warp();
        if (member == 0) {
            // Lanes from 16 on add up the other part; without one, what they read is not used.
            float value = 0.0f;
            UNROLL for (u32 i = 0; i < WARPS; i++) {
                if (i < a.split) value += set[i * 32 + lane()];
            }
            value *= shared<float>(at.rest)[warp()];
            float second = GATED ? shfl_xor(value, 16u) : 0.0f;
            if (lane() < 16) finish(a, find<Dot>(a, unit, GATED, false), value, second, before);
        }
        // The other set, gate again, the next unit.
        state = (unit + groups) * 4 + (phase / 2 ^ 1) * 2;
    }
}

template <u32 WARPS, bool GATED, typename First, typename Second = First> DEVICE void matvec(const MatvecArgs &a) {
    pdl_launch();
    const u32 col_tiles = a.out[0].matrix.col_tiles;
    Staged at = staged(col_tiles);
    if (First::FLOATS) at.rest = col_tiles * 1024;
    run<WARPS, First, false, GATED>(a, at, col_tiles);
    if (First::FORMAT != Second::FORMAT) run<WARPS, Second, true, false>(a, at, col_tiles);
}

// Blocks of 24 warps where 80 registers are enough, else of 20 with 96; src/args/matvec.rs knows which.
KERNEL(matvec_q4_k, MatvecArgs, 768, 1) { matvec<24, false, DotQ4K>(a); }
KERNEL(matvec_q5_k, MatvecArgs, 768, 1) { matvec<24, false, DotQ5K>(a); }
KERNEL(matvec_q6_k, MatvecArgs, 768, 1) { matvec<24, false, DotQ6K>(a); }
KERNEL(matvec_q8_0, MatvecArgs, 768, 1) { matvec<24, false, DotQ8_0>(a); }
KERNEL(matvec_q4_0, MatvecArgs, 640, 1) { matvec<20, false, DotQ4_0>(a); }
KERNEL(matvec_f16, MatvecArgs, 768, 1) { matvec<24, false, DotF16>(a); }
KERNEL(matvec_q4_k_q6_k, MatvecArgs, 768, 1) { matvec<24, false, DotQ4K, DotQ6K>(a); }
KERNEL(matvec_q5_k_q6_k, MatvecArgs, 640, 1) { matvec<20, false, DotQ5K, DotQ6K>(a); }
KERNEL(matvec_gated_q4_k, MatvecArgs, 768, 1) { matvec<24, true, DotQ4K>(a); }
KERNEL(matvec_gated_q5_k, MatvecArgs, 640, 1) { matvec<20, true, DotQ5K>(a); }
KERNEL(matvec_gated_q6_k, MatvecArgs, 768, 1) { matvec<24, true, DotQ6K>(a); }
KERNEL(matvec_gated_q8_0, MatvecArgs, 640, 1) { matvec<20, true, DotQ8_0>(a); }
KERNEL(matvec_gated_q4_0, MatvecArgs, 640, 1) { matvec<20, true, DotQ4_0>(a); }
KERNEL(matvec_gated_f16, MatvecArgs, 768, 1) { matvec<24, true, DotF16>(a); }
