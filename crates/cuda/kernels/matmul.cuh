// Products of 9 and more rows of activations on f16 tensor cores.
//
//   to[token][row] = sum over columns of w[row][column] · x[token][column], f32 accumulation
//
// mma m16n8k16: 16 rows of the matrix are A, 8 tokens are B. A block computes 16·SLOTS rows for 8·NT·WN
// tokens: WM x WN warps side by side, each 16·MR rows x 8·NT tokens, times KW warps that take different
// sub-blocks of a chunk and are added in a fixed order at the end. A chunk is 64 columns (two sub-blocks):
// its weights, as they lie in the tile, and its activations come to shared memory by cp.async, STAGES - 1
// chunks ahead. A warp turns the words of a sub-block into halves once (dequant/*.cuh) and uses them for
// all its tokens.
//
// Scales: per 256 columns every row has eight scale words (two halves each), decoded by all threads
// together from the tile's header, half a tile ahead, into a table; a lane reads those of its two rows at once.
//
// Error: that of the weights as halves (dequant/*.cuh) and of the sums of the tensor cores in f32;
// activations are halves already. Two runs give the same bits: every sum has a fixed order.
//
// Shared memory, in bytes: STAGES x (activations [token][8 pieces of 16, piece ^ token%8] + weights
// [slot][2 sub-blocks]), high bits [2][slot][HIGH], header [slot][RAW], table [2][sub-block 8][slot][row%8][row/8].
// After the last chunk: sums f32 [KW][token][16·SLOTS + 4].
#pragma once
#include "common.cuh"

struct MatmulArgs {
    Output outputs[3]; // all of the kernel's format and of one width; GATE_*: gate and up, equal in shape
    const u16 *input;  // f16 [tokens][input_stride], columns permuted, zero to a multiple of 256 columns
    u16 *gated;        // GATE_*: f16 [tokens][gated_stride], permuted, gate·up / 64, zero to 256 columns; or null
    u32 input_stride, gated_stride; // in halves, multiples of 8
    u32 count;    // outputs
    u32 tokens;
    u32 tiles;    // row tiles of all outputs together; GATE_*: of one, rounded up to 256 rows if `gated`
    u32 epilogue;
    float scale;  // times the product, before the bias; 64 after a gated input, else 1
    float cap;    // of CAP
};

constexpr u32 CHUNK_COLS = 64, CHUNKS = TILE_COLS / CHUNK_COLS;
// What keeps a gated product inside the range of halves; the product after it multiplies by 64.
constexpr float GATED_SCALE = 1.0f / 64.0f, HALF_MAX = 65504.0f;

// A row tile: of which output, which one; `there` is false beyond the end.
struct Place {
    u32 output, tile;
    bool there;
};

DEVICE bool is_gated(const MatmulArgs &a) { return a.epilogue == GATE_SILU || a.epilogue == GATE_GELU; }

// The row tile of a slot of this block, of SLOTS, MR to a warp.
template <u32 SLOTS, u32 MR> DEVICE Place place(const MatmulArgs &a, u32 slot) {
    if (is_gated(a)) {
        // Of a warp's slots the first half is the gate's, the second the up's, of the same rows.
        u32 at = slot % MR, up = at / (MR / 2);
        u32 tile = block_y() * (SLOTS / 2) + slot / MR * (MR / 2) + at % (MR / 2);
        return {up, tile, tile < a.tiles};
    }
    u32 tile = block_y() * SLOTS + slot, output = 0;
    bool there = tile < a.tiles;
    if (!there) tile = 0;
    while (tile >= a.outputs[output].matrix.row_tiles) tile -= a.outputs[output++].matrix.row_tiles;
    return {output, tile, there};
}

DEVICE constexpr u32 larger(u32 a, u32 b) { return a > b ? a : b; }

template <class Format, u32 WM, u32 WN, u32 KW, u32 MR, u32 NT, u32 STAGES> struct Matmul {
    static constexpr u32 WARPS = WM * WN * KW, THREADS = 32 * WARPS, SLOTS = WM * MR, TOKENS = 8 * NT * WN;
    static constexpr u32 INPUT = TOKENS * CHUNK_COLS * 2, PLANES = 2 * Format::SUB, STAGE = INPUT + SLOTS * PLANES;
    static constexpr u32 HIGH_AT = STAGES * STAGE, RAW_AT = HIGH_AT + 2 * SLOTS * Format::HIGH;
    static constexpr u32 TABLE_AT = RAW_AT + SLOTS * Format::RAW, ROW_WORDS = SLOTS * 16;
    // Rows of sums lie 4 floats more apart than they are long: 8 rows x 4 tokens of a fragment in 32 banks.
    static constexpr u32 SUMS = SLOTS * 16 + 4;
    static constexpr u32 SHARED = larger(TABLE_AT + (Format::RAW ? 64 * ROW_WORDS : 0), 4 * KW * TOKENS * SUMS);
    static constexpr u32 SLOTS_A_WARP = (SLOTS + WARPS - 1) / WARPS;
    static constexpr u32 INPUT_STEP = THREADS / 8; // tokens from one piece that a thread copies to its next
    static_assert(STAGES == 2 || STAGES == 3, "more stages would overwrite high bits and headers still read");
    static_assert(KW == 1 || KW == 2, "a chunk has two sub-blocks");
    static_assert(MR % 2 == 0, "a warp holds gate and up of the same rows");
    static_assert(INPUT_STEP % 8 == 0 && TOKENS % INPUT_STEP == 0, "a thread's pieces are equally far turned");

    const MatmulArgs &a;
    const u8 *weights[SLOTS_A_WARP]; // next planes of the slots this warp copies
    const u8 *input;                 // next columns
    u32 inputs[TOKENS / INPUT_STEP]; // bytes to the pieces this thread copies
    u32 input_to;                    // bytes in a stage to the first of them
    u32 planes_from, input_from; // bytes to what this lane reads in a stage
    u32 table_from, high_from;   // and in shared memory

    METHOD explicit Matmul(const MatmulArgs &args) : a(args) {
        u32 g = lane() / 4, t = lane() % 4, m = lane() / 8, r = lane() % 8;
        u32 w = warp() % (WM * WN), wm = w % WM, wn = w / WM, half = warp() / (WM * WN);
        planes_from = INPUT + wm * MR * PLANES + half * Format::SUB;
        if constexpr (Format::SUB == 1024) planes_from += Format::turned(t * 16 + g) * 16;
        else planes_from += g * 16 + t * 4;
        input_from = (wn * 8 * NT + r) * 128 + ((half * 4 + m) ^ r) * 16;
        table_from = TABLE_AT + half * ROW_WORDS * 4 + wm * MR * 64 + g * 8;
        high_from = HIGH_AT + wm * MR * Format::HIGH + (Format::HIGH == 0 ? 0 : half * 256 + g * 16);
        UNROLL for (u32 i = 0; i < SLOTS_A_WARP; i++) {
            Place p = place<SLOTS, MR>(a, (warp() + i * WARPS) % SLOTS);
            const Matrix &matrix = a.outputs[p.output].matrix;
            // Beyond the end: any tile will do, its sums are not written.
            u32 tile = p.tile < matrix.row_tiles ? p.tile : 0;
            weights[i] = matrix.tiles + static_cast<u64>(tile) * matrix.col_tiles * Format::TILE;
        }
        u32 piece = tid() % 8, row = tid() / 8;
        input = reinterpret_cast<const u8 *>(a.input);
        input_to = row * 128 + (piece ^ (row & 7)) * 16;
        UNROLL for (u32 i = 0; i < TOKENS / INPUT_STEP; i++) {
            // Tokens beyond the last are the last again: a token's sums meet no other's, theirs are not written.
            u32 token = block_x() * TOKENS + row + i * INPUT_STEP;
            inputs[i] = ((token < a.tokens ? token : a.tokens - 1) * a.input_stride + piece * 8) * 2;
        }
    }

    // Sixteen-byte pieces from a tile to shared memory, by one warp.
    template <u32 BYTES> METHOD void copy_pieces(u32 to, const u8 *from) const {
        UNROLL for (u32 i = 0; i < BYTES / 16; i += 32) {
            u32 piece = i + lane();
            if (BYTES % 512 == 0 || piece < BYTES / 16) copy_async(shared<u8>(to) + piece * 16, from + piece * 16);
        }
    }

    METHOD bool copies(u32 i) const { return SLOTS % WARPS == 0 || warp() + i * WARPS < SLOTS; }

    METHOD void load_header(u32 i, const u8 *tile) const {
        if constexpr (Format::RAW > 0) {
            copy_pieces<Format::RAW>(RAW_AT + (warp() + i * WARPS) * Format::RAW, tile + Format::RAW_AT);
        }
    }

    // The weights of a chunk, and of the third of a tile the header of the next tile, if there is one.
    METHOD void load_weights(u32 chunk, u32 stage, bool more) {
        u32 part = chunk % CHUNKS;
        UNROLL for (u32 i = 0; i < SLOTS_A_WARP; i++) {
            if (!copies(i)) continue;
            u32 slot = warp() + i * WARPS, to = stage + INPUT + slot * PLANES;
            if constexpr (Format::SUB == 1024) {
                UNROLL for (u32 p = 0; p < PLANES / 16; p += 32) {
                    copy_async(shared<u8>(to) + Format::turned(p + lane()) * 16, weights[i] + (p + lane()) * 16);
                }
            } else {
                copy_pieces<PLANES>(to, weights[i] + Format::PLANES);
            }
            if constexpr (Format::HIGH > 0) {
                if (part % Format::HIGH_CHUNKS == 0) {
                    u32 which = chunk / Format::HIGH_CHUNKS & 1;
                    // From the planes of this part to the high bits of this part.
                    u32 skip = Format::HIGH_AT + part / Format::HIGH_CHUNKS * Format::HIGH - part * PLANES;
                    copy_pieces<Format::HIGH>(HIGH_AT + (which * SLOTS + slot) * Format::HIGH, weights[i] + skip);
                }
            }
            if (part == 2 && more) load_header(i, weights[i] + Format::TILE - 2 * PLANES);
            weights[i] += part == CHUNKS - 1 ? Format::TILE - (CHUNKS - 1) * PLANES : PLANES;
        }
    }

    // Rows of tokens, 128 bytes each. A thread's pieces keep their place in the row, and INPUT_STEP is a
    // multiple of eight, so piece ^ token%8 is one number.
    METHOD void load_input(u32 stage) {
        u8 *to = shared<u8>(stage) + input_to;
        UNROLL for (u32 i = 0; i < TOKENS / INPUT_STEP; i++) copy_async(to + i * INPUT_STEP * 128, input + inputs[i]);
        input += CHUNK_COLS * 2;
    }

    // The header in shared memory becomes scale words; two items a row.
    METHOD void decode_scales(u32 tile) const {
        if constexpr (Format::RAW > 0) {
            u32 *table = shared<u32>(TABLE_AT) + (tile & 1) * 8 * ROW_WORDS;
            UNROLL for (u32 i = 0; i < 2 * ROW_WORDS; i += THREADS) {
                u32 item = i + tid(), p = item / ROW_WORDS, row = item % ROW_WORDS, slot = row / 16, r = row % 16;
                u32 *to = table + p * ROW_WORDS + slot * 16 + (r & 7) * 2 + (r >> 3);
                if (2 * ROW_WORDS % THREADS == 0 || item < 2 * ROW_WORDS)
                    Format::scales(shared<u8>(RAW_AT + slot * Format::RAW), r, p, to, 2 * ROW_WORDS);
            }
        }
    }

    // One sub-block of a chunk, 32 columns: this warp's own (KW = 2), or the first or second.
    METHOD void multiply(F32x4 (&sums)[MR][NT], u32 chunk, u32 second, u32 stage) const {
        u32 high = (chunk / Format::HIGH_CHUNKS & 1) * SLOTS * Format::HIGH + chunk % Format::HIGH_CHUNKS * Format::HIGH_STEP;
        const u8 *bits = shared<u8>(high_from + high) + (Format::HIGH == 0 ? 0 : second * 256);
        const u8 *planes = shared<u8>(stage + planes_from) + second * Format::SUB;
        const u8 *table = shared<u8>(Format::RAW == 0 ? 0 : table_from + (chunk % (2 * CHUNKS) * 2 + second) * ROW_WORDS * 4);
        Words4 upper[MR], lower[MR]; // rows g and g + 8
        UNROLL for (u32 i = 0; i < MR; i++) {
            // F16 has no scales. It gets a zero the compiler cannot know: see DequantF16.
            Words2 scale{a.count >> 8, a.count >> 8};
            if constexpr (Format::RAW > 0) scale = *reinterpret_cast<const Words2 *>(table + i * 64);
            const u8 *plane = planes + i * PLANES, *high = bits + i * Format::HIGH;
            upper[i] = Format::row(plane, high, scale.x);
            lower[i] = Format::row(plane + 128, high + 128, scale.y);
        }
        const u8 *pieces = shared<u8>(stage + (input_from ^ second * 64));
        UNROLL for (u32 n = 0; n < NT; n++) {
            Words4 b = load_matrices(pieces + n * 1024);
            UNROLL for (u32 i = 0; i < MR; i++) mma_f16(sums[i][n], upper[i].x, lower[i].x, upper[i].y, lower[i].y, b.x, b.y);
            UNROLL for (u32 i = 0; i < MR; i++) mma_f16(sums[i][n], upper[i].z, lower[i].z, upper[i].w, lower[i].w, b.z, b.w);
        }
    }

    METHOD void run() {
        pdl_launch();
        u32 chunks = (a.outputs[0].matrix.cols + CHUNK_COLS - 1) / CHUNK_COLS;
        UNROLL for (u32 i = 0; i < SLOTS_A_WARP; i++) {
            if (copies(i)) load_header(i, weights[i]);
        }
        copy_commit();
        UNROLL for (u32 c = 0; c < STAGES - 1; c++) {
            if (c < chunks) load_weights(c, c * STAGE, false);
        }
        copy_wait<0>(); // the header; the weights are not committed yet
        sync_block();
        decode_scales(0);
        pdl_wait();
        UNROLL for (u32 c = 0; c < STAGES - 1; c++) {
            if (c < chunks) load_input(c * STAGE);
            copy_commit();
        }
        F32x4 sums[MR][NT];
        UNROLL for (u32 i = 0; i < MR; i++) {
            UNROLL for (u32 n = 0; n < NT; n++) sums[i][n] = {0.0f, 0.0f, 0.0f, 0.0f};
        }
        u32 stage = 0, free = (STAGES - 1) * STAGE;
        NO_UNROLL for (u32 c = 0; c < chunks; c++) {
            copy_wait<STAGES - 2>();
            sync_block();
            u32 ahead = c + STAGES - 1;
            if (ahead < chunks) {
                load_weights(ahead, free, ahead + 2 < chunks);
                load_input(free);
            }
            copy_commit();
            if (c % CHUNKS == 2 && c + 2 < chunks) decode_scales(c / CHUNKS + 1);
            if (KW == 1 && Format::RAW == 0) {
                // As one loop: with nothing to compute between loads and mma the compiler would load both
                // halves first and spill.
                NO_UNROLL for (u32 half = 0; half < 2; half++) multiply(sums, c, half, stage);
            } else {
                multiply(sums, c, 0, stage);
                if (KW == 1) multiply(sums, c, 1, stage);
            }
            free = stage;
            stage = stage == (STAGES - 1) * STAGE ? 0 : stage + STAGE;
        }
        copy_wait<0>();
        sync_block();
        keep(sums);
        sync_block();
        if (is_gated(a)) write_gated();
        else write();
    }

    METHOD void keep(const F32x4 (&sums)[MR][NT]) const {
        u32 w = warp() % (WM * WN), wm = w % WM, wn = w / WM, part = warp() / (WM * WN);
        float *to = shared<float>(0) + (part * TOKENS + wn * 8 * NT + lane() % 4 * 2) * SUMS + wm * MR * 16 + lane() / 4;
        UNROLL for (u32 n = 0; n < NT; n++) {
            UNROLL for (u32 i = 0; i < MR; i++) {
                float *at = to + n * 8 * SUMS + i * 16;
                at[0] = sums[i][n].x, at[SUMS] = sums[i][n].y, at[8] = sums[i][n].z, at[SUMS + 8] = sums[i][n].w;
            }
        }
    }

    // Four rows of a token: times scale, plus bias.
    METHOD Floats4 kept(u32 token, u32 row, Floats4 bias) const {
        const float *from = shared<float>(0) + token * SUMS + row;
        Floats4 v = *reinterpret_cast<const Floats4 *>(from);
        if (KW == 2) {
            Floats4 other = *reinterpret_cast<const Floats4 *>(from + TOKENS * SUMS);
            v = {v.x + other.x, v.y + other.y, v.z + other.z, v.w + other.w};
        }
        return {v.x * a.scale + bias.x, v.y * a.scale + bias.y, v.z * a.scale + bias.z, v.w * a.scale + bias.w};
    }

    static METHOD Floats4 bias_of(const Output &output, u32 row) {
        auto one = [&](u32 r) { return output.bias != nullptr && r < output.matrix.rows ? output.bias[r] : 0.0f; };
        return {one(row), one(row + 1), one(row + 2), one(row + 3)};
    }

    // Up to `rows` of four values; at once if they may be.
    static METHOD void store(float *to, Floats4 v, u32 rows, bool whole) {
        if (whole) {
            *reinterpret_cast<Floats4 *>(to) = v;
            return;
        }
        if (rows > 0) to[0] = v.x;
        if (rows > 1) to[1] = v.y;
        if (rows > 2) to[2] = v.z;
        if (rows > 3) to[3] = v.w;
    }
    static METHOD Floats4 load(const float *from, u32 rows, bool whole) {
        if (whole) return *reinterpret_cast<const Floats4 *>(from);
        return {rows > 0 ? from[0] : 0.0f, rows > 1 ? from[1] : 0.0f, rows > 2 ? from[2] : 0.0f, rows > 3 ? from[3] : 0.0f};
    }
    static METHOD bool aligned(const Output &output) {
        return (reinterpret_cast<u64>(output.to) & 15) == 0 && output.stride % 4 == 0;
    }

    // A thread writes the same four rows of every STEP-th token.
    METHOD void write() const {
        constexpr u32 QUADS = SLOTS * 4, STEP = THREADS / QUADS;
        u32 quad = tid() % QUADS;
        Place p = place<SLOTS, MR>(a, quad / 4);
        if (!p.there) return;
        const Output &output = a.outputs[p.output];
        u32 row = p.tile * TILE_ROWS + quad % 4 * 4;
        if (row >= output.matrix.rows) return;
        u32 rows = output.matrix.rows - row;
        bool whole = rows >= 4 && aligned(output);
        Floats4 bias = bias_of(output, row);
        u32 first = block_x() * TOKENS, end = a.tokens - first < TOKENS ? a.tokens - first : TOKENS;
        NO_UNROLL for (u32 token = tid() / QUADS; token < end; token += 4 * STEP) {
            // Four tokens together: what is added to is under way for all of them at once.
            float *to[4];
            Floats4 old[4];
            UNROLL for (u32 i = 0; i < 4; i++) {
                to[i] = output.to + static_cast<u64>(first + token + i * STEP) * output.stride + row;
                old[i] = {0.0f, 0.0f, 0.0f, 0.0f};
                if (a.epilogue == ADD && token + i * STEP < end) old[i] = load(to[i], rows, whole);
            }
            UNROLL for (u32 i = 0; i < 4; i++) {
                if (token + i * STEP >= end) break;
                Floats4 v = kept(token + i * STEP, quad * 4, bias);
                if (a.epilogue == CAP) v = {capped(v.x, a.cap), capped(v.y, a.cap), capped(v.z, a.cap), capped(v.w, a.cap)};
                store(to[i], {v.x + old[i].x, v.y + old[i].y, v.z + old[i].z, v.w + old[i].w}, rows, whole);
            }
        }
    }

    METHOD float gate(float x, float up) const { return (a.epilogue == GATE_SILU ? silu(x) : gelu_tanh(x)) * up; }
    static METHOD u32 halves(float x, float y) {
        auto fit = [](float v) { return v > HALF_MAX ? HALF_MAX : v < -HALF_MAX ? -HALF_MAX : v; };
        return floats_to_halves(fit(x * GATED_SCALE), fit(y * GATED_SCALE));
    }

    METHOD void write_gated() const {
        constexpr u32 QUADS = SLOTS * 2, STEP = THREADS / QUADS;
        u32 quad = tid() % QUADS, slot = quad / 4 / (MR / 2) * MR + quad / 4 % (MR / 2), inside = quad % 4;
        Place p = place<SLOTS, MR>(a, slot);
        if (!p.there) return;
        const Output &gates = a.outputs[0];
        u32 row = p.tile * TILE_ROWS + inside * 4, real = row < gates.matrix.rows ? gates.matrix.rows - row : 0;
        bool whole = real >= 4 && aligned(gates);
        Floats4 gate_bias = bias_of(gates, row), up_bias = bias_of(a.outputs[1], row);
        u32 first = block_x() * TOKENS, end = a.tokens - first < TOKENS ? a.tokens - first : TOKENS;
        u32 kept_row = slot * 16 + inside * 4;
        // Rows 4t..4t+3 of a tile are words t of its two pieces: (4t, 4t+2) and (4t+1, 4t+3).
        u32 word = p.tile / 2 * 16 + p.tile % 2 * 8 + inside;
        NO_UNROLL for (u32 token = tid() / QUADS; token < end; token += STEP) {
            Floats4 g = kept(token, kept_row, gate_bias), u = kept(token, kept_row + MR / 2 * 16, up_bias);
            Floats4 v = {gate(g.x, u.x), gate(g.y, u.y), gate(g.z, u.z), gate(g.w, u.w)};
            // Columns up to the next multiple of 256 are zeros, whatever was computed for the padding.
            if (real < 1) v.x = 0.0f;
            if (real < 2) v.y = 0.0f;
            if (real < 3) v.z = 0.0f;
            if (real < 4) v.w = 0.0f;
            if (a.gated != nullptr) {
                auto *to = reinterpret_cast<u32 *>(a.gated + static_cast<u64>(first + token) * a.gated_stride) + word;
                to[0] = halves(v.x, v.z);
                to[4] = halves(v.y, v.w);
            }
            if (gates.to != nullptr) store(gates.to + static_cast<u64>(first + token) * gates.stride + row, v, real, whole);
        }
    }
};
