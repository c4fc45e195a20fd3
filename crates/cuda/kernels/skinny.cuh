// Products for 2 to 8 rows of a step at once, on the integer tensor cores: every byte of weights is read
// once for all rows. What speculative verification and several sequences at a time run on.
//
// A block has a unit: two row tiles (32 rows of the matrix; of gated products one tile of gate and the same of
// up), which use the same fragments of the input. Its warp i of n multiplies column tiles i, i + n, .. with all
// rows of the step; the warps add up in shared memory, in order, so two runs give the same bits.
//
// Weights travel by cp.async into a buffer of one step (two tiles, as they are) per warp. A step is cut into
// groups; as soon as the words of a group are in registers, the group of the next step is asked for in its
// place: a whole step is always under way and the buffer never turns. ldmatrix gives lane (g = lane / 4,
// t = lane % 4) word t of row g: exactly the A fragment.
//
// Input: fixed point X = 256 h + l (kernels/stage8.cu), both planes signed bytes.
// EXACT: 8 rows, one mma a plane; error of the input 2^-16 of the largest of 256 columns.
// PACKED: 4 rows; columns 0..3 of one mma are h, 4..7 are l: as exact, half the tensor and scale work.
// COARSE: 8 rows, h alone: error 2^-8 of the largest of 256 columns; what exactness costs is measured with it.
//
// Instructions in the loop per byte of weights, sm_87, NVRTC 12.6 (sm_90: 1 to 4 % fewer), registers:
//            Q4_K         Q5_K         Q6_K         Q8_0         Q4_0         F16
// EXACT      0.100  147   0.109  168   0.127  156   0.041  156   0.094  144   0.016   96
// PACKED     0.082  119   0.095  152   0.102  118   0.032  121   0.078  113   0.013   76
// COARSE     0.083  117   0.096  146   0.102  118   0.032  119   0.076  111   0.013   76
// Of Q4_K's 460 EXACT for 4608 bytes: 136 scale products, 98 unpack nibbles, 40 take scales apart, 34 are mma,
// 26 move weights from memory, 48 make floats and add them.
#pragma once
#include "common.cuh"

struct SkinnyArgs {
    Output out[3];    // [outputs], all of the same columns and of the kernel's format
    const u8 *staged; // records of the input, one a column tile: see below
    u32 outputs;
    u32 rows; // of the step: 1..8, at most 4 for PACKED
    u32 epilogue;
    float cap;
};

enum Mode : u32 { EXACT, PACKED, COARSE };
template <u32 FORMAT> struct Tag {};

// A record of bytes: u32 [sub-block][lane][h b0, h b1, l b0, l b1], then [lane] of sums as the B fragment of a
// f16 mma (hi, lo) and dx of columns 2t, 2t+1; then the same for PACKED: rows of the step in columns 4..7.
constexpr u32 RECORD_INFO = 4096, RECORD_PACKED = 4608, RECORD = 5120;
// A record of halves, two a column tile: u32 [sub-block 0..3][lane][hi 4, lo 4], then dx f32 [8].
constexpr u32 HALVES_SCALE = 4096, HALVES_RECORD = 4224;

// Groups of a step: sub-blocks of parity 0 (F16: the first half) with what belongs to the whole tile, then the rest.
constexpr u32 GROUPS = 2;
// Bytes of one row tile in a step, steps of a column tile, bytes of input in a step.
DEVICE constexpr u32 step_bytes(u32 format) { return format == F16 ? 4096 : tile_bytes(format); }
DEVICE constexpr u32 tile_steps(u32 format) { return format == F16 ? 2 : 1; }
DEVICE constexpr u32 step_record(u32 format) { return format == F16 ? HALVES_RECORD : RECORD; }
// Where a lane's 16 of 512 bytes are: consecutive, or for nibbles those of sub-block s, then of s + 2.
DEVICE u32 lane_chunk(u32 format) {
    return format == Q8_0 || format == F16 ? lane() * 16 : (lane() >> 4) * 512 + (lane() & 15) * 16;
}

// A value computed once: without this the compiler computes addresses again in every step to save registers.
DEVICE u32 kept(u32 value) { return shfl(value, lane()); }

// The buffer of a warp (numbers of shared memory) and where its next step comes from. `lines` are a lane's
// chunks of tile 0, `half` those of the tile a half of the warp copies when it takes 256 bytes of both,
// `row` the 16 bytes of row g of tile 0.
struct Ring {
    u32 lines, half, row, t;
    const u8 *next[2], *next_half;
    bool more;
};
// A lane's part of the record of a step; `packed` only if the mode is, `words` has it otherwise.
struct Input {
    const u8 *words, *packed;
};

// Waits for the older group under way, of all lanes.
DEVICE void arrive() {
    copy_wait<GROUPS - 1>();
    sync_warp();
}
// Asks for a group of the next step once all lanes have read this step's.
template <u32 FORMAT> DEVICE void refill(const Ring &ring, u32 group) {
    sync_warp();
    if (ring.more) copy_group(Tag<FORMAT>{}, group, ring);
    copy_commit();
}
// What lies at byte `at` of a tile in the buffer, counted from a lane's `from`.
template <typename T> DEVICE T load_shared(u32 from, u32 at) {
    T value;
    load_number(from + at, value);
    return value;
}

// 256 contiguous bytes of each tile.
DEVICE void copy_halves(const Ring &ring, u32 at) { copy_async(ring.half + at, ring.next_half + at); }
// 512 bytes of each tile.
template <u32 FORMAT> DEVICE void copy_lines(const Ring &ring, u32 at) {
    copy_async(ring.lines + at, ring.next[0] + at);
    copy_async(ring.lines + step_bytes(FORMAT) + at, ring.next[1] + at);
}
// The words of 512 bytes of a tile. Nibbles: word t of rows g and g + 8 of sub-block s (x, y) and s + 2 (z, w).
template <u32 FORMAT> DEVICE Words4 load_lines(const Ring &ring, u32 tile, u32 at) {
    return load_matrices(ring.lines + tile * step_bytes(FORMAT) + at);
}

template <typename T> DEVICE T load_words(const u8 *at) { return *reinterpret_cast<const T *>(at); }

// A lane's part of a record.
template <u32 FORMAT, Mode MODE> DEVICE Input lane_input(const u8 *record) {
    u32 half = lane() >> 4, rest = lane() & 15, t = lane() & 3;
    if (FORMAT == F16) {
        const u8 *scale = record + HALVES_SCALE + (MODE == PACKED ? 2 * t & 3 : 2 * t) * 4;
        return {record + (MODE == PACKED ? rest * 32 + half * 16 : lane() * 32), scale};
    }
    if (MODE == PACKED) return {record + rest * 16 + half * 8, record + RECORD_PACKED + lane() * 16};
    return {record + lane() * 16, nullptr};
}
// Its sums (hi, lo) and dx of two columns.
template <Mode MODE> DEVICE const u8 *info_of(const Input &input) {
    return MODE == PACKED ? input.packed : input.words + RECORD_INFO;
}
// The B fragments of a sub-block: h in x, y; l in z, w.
template <Mode MODE> DEVICE Words4 load_input(const Input &input, u32 sub) {
    if (MODE == EXACT) return load_words<Words4>(input.words + sub * 512);
    Words2 b = load_words<Words2>(input.words + sub * 512);
    return {b.x, b.y, 0, 0};
}

// A·B of a sub-block for the planes a mode has; A unsigned bytes, or signed.
template <Mode MODE, bool SIGNED>
DEVICE void multiply(I32x4 &high, I32x4 &low, u32 a0, u32 a1, u32 a2, u32 a3, const Words4 &b) {
    high = {0, 0, 0, 0}, low = {0, 0, 0, 0};
    if (SIGNED) mma_ss(high, a0, a1, a2, a3, b.x, b.y);
    else mma_us(high, a0, a1, a2, a3, b.x, b.y);
    if (MODE == EXACT) {
        if (SIGNED) mma_ss(low, a0, a1, a2, a3, b.z, b.w);
        else mma_us(low, a0, a1, a2, a3, b.z, b.w);
    }
}
// sum += product · scale, with the scale of row g and of row g + 8.
DEVICE void add_scaled(I32x4 &sum, const I32x4 &product, i32 scale, i32 scale8) {
    sum.x += product.x * scale, sum.y += product.y * scale;
    sum.z += product.z * scale8, sum.w += product.w * scale8;
}
// 256 h + l in units of dx. PACKED: h or l, whichever the lane has; the merge multiplies h.
template <Mode MODE> DEVICE float joined(i32 high, i32 low) {
    float value = static_cast<float>(high);
    return MODE == EXACT ? value * 256.0f + static_cast<float>(low) : MODE == COARSE ? value * 256.0f : value;
}

#include "skinny/f16.cuh"
#include "skinny/mins.cuh"
#include "skinny/q32.cuh"
#include "skinny/q6_k.cuh"

// ---- which rows, and what happens to them ---------------------------------------------------------------

DEVICE bool gated(const SkinnyArgs &a) { return a.epilogue == GATE_SILU || a.epilogue == GATE_GELU; }

// Output and first row tile of this block's unit.
DEVICE void find_unit(const SkinnyArgs &a, u32 &output, u32 &row_tile) {
    output = 0, row_tile = block_x();
    if (gated(a)) return;
    UNROLL for (u32 i = 0; i < 2; i++) {
        u32 units = (a.out[i].matrix.row_tiles + 1) / 2;
        if (output == i && row_tile >= units) output++, row_tile -= units;
    }
    row_tile *= 2;
}

// Floats from one column of a warp's results to the next; their banks: t · 8 + g.
constexpr u32 MERGE_STRIDE = 36;

DEVICE void lay_down(float *area, const F32x4 (&sum)[2]) {
    u32 g = lane() >> 2, t = lane() & 3;
    UNROLL for (u32 tile = 0; tile < 2; tile++) {
        float *at = area + 2 * t * MERGE_STRIDE + tile * 16 + g;
        at[0] = sum[tile].x, at[MERGE_STRIDE] = sum[tile].y, at[8] = sum[tile].z, at[MERGE_STRIDE + 8] = sum[tile].w;
    }
}
// The product of one row of the unit and one row of the step: the parts added in order. PACKED: h and l are
// in different columns; F16 has no factor between them.
template <u32 FORMAT, Mode MODE> DEVICE float merged(u32 parts, u32 row, u32 n) {
    constexpr float HIGH = FORMAT == F16 ? 1.0f : 256.0f;
    float sum = 0.0f;
    NO_UNROLL for (u32 part = 0; part < parts; part++) {
        const float *at = shared<float>(part * 2 * step_bytes(FORMAT)) + n * MERGE_STRIDE + row;
        sum += MODE == PACKED ? at[0] * HIGH + at[4 * MERGE_STRIDE] : at[0];
    }
    return sum;
}

template <u32 FORMAT, Mode MODE> DEVICE void skinny(const SkinnyArgs &a) {
    constexpr u32 AREA = 2 * step_bytes(FORMAT);
    pdl_launch();
    u32 parts = threads() / 32, part = warp(), output, row_tile;
    find_unit(a, output, row_tile);
    u32 steps = a.out[0].matrix.col_tiles * tile_steps(FORMAT);
    bool used = part < steps;
    Ring ring;
    u32 buffer = warp() * AREA;
    ring.lines = kept(shared_number(buffer) + lane_chunk(FORMAT));
    ring.half = kept(shared_number(buffer) + (lane() >> 4) * step_bytes(FORMAT) + (lane() & 15) * 16);
    ring.row = kept(shared_number(buffer) + (lane() >> 2) * 16);
    ring.t = kept(lane() & 3);
    if (used) {
        const Matrix &first = a.out[output].matrix, &second = a.out[gated(a) ? 1 : output].matrix;
        // The last unit of an odd number of row tiles has its tile twice; the rows are beyond the matrix.
        u32 other = gated(a) ? row_tile : row_tile + 1 < first.row_tiles ? row_tile + 1 : row_tile;
        u64 row_bytes = static_cast<u64>(steps) * step_bytes(FORMAT);
        const u8 *from = first.tiles + row_tile * row_bytes + part * step_bytes(FORMAT);
        const u8 *from1 = second.tiles + other * row_bytes + part * step_bytes(FORMAT);
        ring.next[0] = from + lane_chunk(FORMAT), ring.next[1] = from1 + lane_chunk(FORMAT);
        ring.next_half = (lane() < 16 ? from : from1) + (lane() & 15) * 16;
        UNROLL for (u32 group = 0; group < GROUPS; group++) {
            copy_group(Tag<FORMAT>{}, group, ring);
            copy_commit();
        }
    }
    pdl_wait();
    F32x4 sum[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    if (used) {
        Input input = lane_input<FORMAT, MODE>(a.staged + part * step_record(FORMAT));
        u32 left = (steps - part + parts - 1) / parts;
        u32 ahead = parts * step_bytes(FORMAT), inputs = parts * step_record(FORMAT);
        ring.next[0] += ahead, ring.next[1] += ahead, ring.next_half += ahead;
        NO_UNROLL for (; left > 0; left--) {
            ring.more = left > 1;
            ring.lines = opaque(ring.lines), ring.half = opaque(ring.half), ring.row = opaque(ring.row);
            multiply_step<MODE>(Tag<FORMAT>{}, ring, input, sum);
            ring.next[0] += ahead, ring.next[1] += ahead, ring.next_half += ahead;
            input.words += inputs;
            if (MODE == PACKED || FORMAT == F16) input.packed += inputs;
        }
    }
    sync_warp();
    lay_down(shared<float>(buffer), sum);
    sync_block();

    const Output &to = a.out[output];
    u32 unit_rows = gated(a) ? 16 : 32;
    NO_UNROLL for (u32 i = tid(); i < unit_rows * a.rows; i += threads()) {
        u32 row = i % unit_rows, n = i / unit_rows, at = row_tile * 16 + row;
        if (at >= to.matrix.rows) continue;
        float value = merged<FORMAT, MODE>(parts, row, n);
        if (to.bias != nullptr) value += to.bias[at];
        float *target = to.to + static_cast<u64>(n) * to.stride + at;
        if (gated(a)) {
            float up = merged<FORMAT, MODE>(parts, row + 16, n);
            if (a.out[1].bias != nullptr) up += a.out[1].bias[at];
            value = (a.epilogue == GATE_SILU ? silu(value) : gelu_tanh(value)) * up;
        } else if (a.epilogue == ADD) {
            value += *target;
        } else if (a.epilogue == CAP) {
            value = capped(value, a.cap);
        }
        *target = value;
    }
}
