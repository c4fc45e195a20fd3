// Products for 2 to 8 rows of a step at once, on the integer tensor cores: every byte of weights is read
// once for all rows. What speculative verification and several sequences at a time run on.
//
// A unit is two row tiles (32 rows of the matrix; of gated products one tile of gate and the same of up), which
// use the same fragments of the input. Warp i of n of a block multiplies column tiles i, i + n, .. of its units
// with all rows of the step; the warps add up in shared memory, in order, so two runs give the same bits. Blocks
// of a launch with two formats have units of one of them.
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
// Instructions of a step per byte of weights, sm_87, NVRTC 12.6, registers (a unit adds 70 to begin the next one's
// copies, and its results):
//            Q4_K         Q5_K         Q6_K         Q8_0         Q4_0         F16
// EXACT      0.102  166   0.111  168   0.129  162   0.042  158   0.096  158   0.016   96
// PACKED     0.082  117   0.094  145   0.103  128   0.033  122   0.078  121   0.013   76
// COARSE     0.083        0.095        0.105        0.033        0.078        0.013
// Of Q4_K's 472 EXACT for 4608 bytes: 136 scale products, 98 unpack nibbles, 40 take scales apart, 34 are mma,
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
    // Units of outputs in the kernel's first format, which come first, and of all; blocks for the first.
    u32 units_first, units, blocks_first;
    u32 unused;
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
// A lane's part of the record of a step; `packed` only if the mode is, `words` has it otherwise. `ahead` is the
// distance to the next step's record (back to the first behind the last), `first` what multiply_step starts with: fragments
// are asked for a quarter of a step before they are needed, as they come from the L2 for the first warp.
struct Input {
    const u8 *words, *packed;
    i32 ahead;
    Words4 first[2];
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
    // A meeting of as many as one warp has, which copies are not moved across: else the assembler leaves those
    // of the last group to the end of the step, and the next step waits for memory.
    if (group == GROUPS - 1) sync_some(1, 32);
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
        return {record + (MODE == PACKED ? rest * 32 + half * 16 : lane() * 32), scale, 0, {}};
    }
    if (MODE == PACKED) return {record + rest * 16 + half * 8, record + RECORD_PACKED + lane() * 16, 0, {}};
    return {record + lane() * 16, nullptr, 0, {}};
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
// Those of the two sub-blocks of a phase: even ones, then odd ones, two at a time.
template <Mode MODE> DEVICE void load_phase(const Input &input, u32 phase, Words4 (&b)[2]) {
    u32 sub = phase % 2 * 4 + phase / 2 % 2;
    UNROLL for (u32 k = 0; k < 2; k++) {
        b[k] = load_input<MODE>({input.words + (phase == 4 ? input.ahead : 0), nullptr, 0, {}}, sub + 2 * k);
    }
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

// Output and first row tile of a unit.
DEVICE void find_unit(const SkinnyArgs &a, u32 unit, u32 &output, u32 &row_tile) {
    output = 0, row_tile = unit;
    if (gated(a)) return;
    UNROLL for (u32 i = 0; i < 2; i++) {
        u32 units = (a.out[i].matrix.row_tiles + 1) / 2;
        if (output == i && row_tile >= units) output++, row_tile -= units;
    }
    row_tile *= 2;
}

// Lets a warp's copies begin at its first step of a unit.
template <u32 FORMAT> DEVICE void begin_unit(const SkinnyArgs &a, u32 unit, Ring &ring) {
    u32 output, row_tile;
    find_unit(a, unit, output, row_tile);
    const Matrix &first = a.out[output].matrix, &second = a.out[gated(a) ? 1 : output].matrix;
    // The last unit of an odd number of row tiles has its tile twice; the rows are beyond the matrix.
    u32 other = gated(a) ? row_tile : row_tile + 1 < first.row_tiles ? row_tile + 1 : row_tile;
    u64 row_bytes = static_cast<u64>(first.col_tiles * tile_steps(FORMAT)) * step_bytes(FORMAT);
    const u8 *from = first.tiles + row_tile * row_bytes + warp() * step_bytes(FORMAT);
    const u8 *from1 = second.tiles + other * row_bytes + warp() * step_bytes(FORMAT);
    ring.next[0] = from + lane_chunk(FORMAT), ring.next[1] = from1 + lane_chunk(FORMAT);
    ring.next_half = (lane() < 16 ? from : from1) + (lane() & 15) * 16;
}

// Floats from one column of a warp's results to the next; their banks: t · 8 + g.
constexpr u32 MERGE_STRIDE = 36, MERGE_BYTES = 8 * MERGE_STRIDE * 4;
// Results of a unit a lane of a single warp has.
constexpr u32 MERGE_ROUNDS = 8;

DEVICE void lay_down(float *area, const F32x4 (&sum)[2]) {
    u32 g = lane() >> 2, t = lane() & 3;
    UNROLL for (u32 tile = 0; tile < 2; tile++) {
        float *at = area + 2 * t * MERGE_STRIDE + tile * 16 + g;
        at[0] = sum[tile].x, at[MERGE_STRIDE] = sum[tile].y, at[8] = sum[tile].z, at[MERGE_STRIDE + 8] = sum[tile].w;
    }
}
// The product of one row of the unit and one row of the step: the parts added in order. PACKED: h and l are
// in different columns; F16 has no factor between them.
template <u32 FORMAT, Mode MODE> DEVICE float merged(u32 merge, u32 parts, u32 row, u32 n) {
    constexpr float HIGH = FORMAT == F16 ? 1.0f : 256.0f;
    float sum = 0.0f;
    NO_UNROLL for (u32 part = 0; part < parts; part++) {
        const float *at = shared<float>(merge + part * MERGE_BYTES) + n * MERGE_STRIDE + row;
        sum += MODE == PACKED ? at[0] * HIGH + at[4 * MERGE_STRIDE] : at[0];
    }
    return sum;
}

// The results of a unit from all warps' sums, which lie at `merge`.
template <u32 FORMAT, Mode MODE> DEVICE void finish_unit(const SkinnyArgs &a, u32 unit, u32 merge, const F32x4 (&sum)[2]) {
    u32 output, row_tile, parts = threads() / 32;
    find_unit(a, unit, output, row_tile);
    const Output &to = a.out[output];
    u32 unit_rows = gated(a) ? 16 : 32;
    // What is added to, asked for all at once: one by one they would be eight times the latency.
    float before[MERGE_ROUNDS];
    UNROLL for (u32 k = 0; k < MERGE_ROUNDS; k++) {
        u32 i = tid() + k * threads(), at = row_tile * 16 + (i & 31), n = i >> 5;
        bool wanted = a.epilogue == ADD && n < a.rows && at < to.matrix.rows;
        before[k] = wanted ? to.to[static_cast<u64>(n) * to.stride + at] : 0.0f;
    }
    lay_down(shared<float>(merge + warp() * MERGE_BYTES), sum);
    sync_block();
    if (a.epilogue == ADD) {
        UNROLL for (u32 k = 0; k < MERGE_ROUNDS; k++) {
            u32 i = tid() + k * threads();
            if (i < 256) shared<float>(merge)[((i >> 5) + (MODE == PACKED ? 4 : 0) & 7) * MERGE_STRIDE + (i & 31)] += before[k];
        }
    }
    NO_UNROLL for (u32 i = tid(); i < unit_rows * a.rows; i += threads()) {
        u32 row = i % unit_rows, n = i / unit_rows, at = row_tile * 16 + row;
        if (at >= to.matrix.rows) continue;
        float value = merged<FORMAT, MODE>(merge, parts, row, n);
        if (to.bias != nullptr) value += to.bias[at];
        if (gated(a)) {
            float up = merged<FORMAT, MODE>(merge, parts, row + 16, n);
            if (a.out[1].bias != nullptr) up += a.out[1].bias[at];
            value = (a.epilogue == GATE_SILU ? silu(value) : gelu_tanh(value)) * up;
        } else if (a.epilogue == CAP) {
            value = capped(value, a.cap);
        }
        to.to[static_cast<u64>(n) * to.stride + at] = value;
    }
}

// Every `blocks`-th unit from `unit` on, below `end`. Copies do not stop between units.
template <u32 FORMAT, Mode MODE> DEVICE void multiply_units(const SkinnyArgs &a, u32 unit, u32 blocks, u32 end) {
    constexpr u32 AREA = 2 * step_bytes(FORMAT);
    u32 parts = threads() / 32, steps = a.out[0].matrix.col_tiles * tile_steps(FORMAT);
    // Of each unit; more warps than steps have none.
    u32 count = (steps - warp() + parts - 1) / parts;
    if (warp() >= steps) count = 0;
    Ring ring;
    u32 buffer = warp() * AREA;
    ring.lines = kept(shared_number(buffer) + lane_chunk(FORMAT));
    ring.half = kept(shared_number(buffer) + (lane() >> 4) * step_bytes(FORMAT) + (lane() & 15) * 16);
    ring.row = kept(shared_number(buffer) + (lane() >> 2) * 16);
    ring.t = kept(lane() & 3);
    u32 ahead = parts * step_bytes(FORMAT), inputs = parts * step_record(FORMAT);
    Input input = lane_input<FORMAT, MODE>(a.staged + (count > 0 ? warp() : 0) * step_record(FORMAT));
    if (count > 0) {
        begin_unit<FORMAT>(a, unit, ring);
        UNROLL for (u32 group = 0; group < GROUPS; group++) {
            copy_group(Tag<FORMAT>{}, group, ring);
            copy_commit();
        }
        ring.next[0] += ahead, ring.next[1] += ahead, ring.next_half += ahead;
    }
    pdl_wait();
    if (FORMAT != F16 && FORMAT != Q4_K && FORMAT != Q5_K) load_phase<MODE>(input, 0, input.first);
    NO_UNROLL for (bool more = true; more;) {
        more = unit + blocks < end;
        F32x4 sum[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
        NO_UNROLL for (u32 left = count; left > 0; left--) {
            ring.more = left > 1 || more;
            input.ahead = static_cast<i32>(inputs);
            if (left == 1) {
                input.ahead -= static_cast<i32>(inputs * opaque(count));
                if (more) begin_unit<FORMAT>(a, opaque(unit) + blocks, ring);
            }
            ring.lines = opaque(ring.lines), ring.half = opaque(ring.half), ring.row = opaque(ring.row);
            multiply_step<MODE>(Tag<FORMAT>{}, ring, input, sum);
            ring.next[0] += ahead, ring.next[1] += ahead, ring.next_half += ahead;
            input.words += input.ahead;
            if (MODE == PACKED || FORMAT == F16) input.packed += input.ahead;
        }
        finish_unit<FORMAT, MODE>(a, unit, parts * AREA, sum);
        // The sums are read before the next ones are laid down.
        if (more) sync_block();
        unit += blocks;
    }
}

template <Mode MODE, u32 FIRST, u32 SECOND = FIRST> DEVICE void skinny(const SkinnyArgs &a) {
    pdl_launch();
    if (FIRST == SECOND) {
        multiply_units<FIRST, MODE>(a, block_x(), blocks_x(), a.units);
    } else if (block_x() < a.blocks_first) {
        multiply_units<FIRST, MODE>(a, block_x(), a.blocks_first, a.units_first);
    } else {
        u32 block = block_x() - a.blocks_first;
        multiply_units<SECOND, MODE>(a, a.units_first + block, blocks_x() - a.blocks_first, a.units);
    }
}
