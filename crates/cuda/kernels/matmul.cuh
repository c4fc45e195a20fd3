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
// Shared memory, in bytes: STAGES x (activations [token][8 pieces of 16, piece ^ token%8] + weights
// [slot][2 sub-blocks]), high bits [2][slot][HIGH], header [slot][RAW], table [2][sub-block 8][slot][row%8][row/8].
#pragma once
#include "common.cuh"

struct MatmulArgs {
    Output outputs[3]; // all of the kernel's format and of one width; gated: gate and up
    const u16 *input;  // f16 [tokens][input_stride], columns permuted, zero to a multiple of 256 columns
    u16 *gated;        // GATE_*: f16 [tokens][gated_stride], permuted, gate(g)·u / 64; or null
    u32 input_stride, gated_stride; // in halves
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

template <class Format, u32 WM_, u32 WN_, u32 KW_, u32 MR_, u32 NT_, u32 STAGES_> struct Matmul {
    static constexpr u32 WM = WM_, WN = WN_, KW = KW_, MR = MR_, NT = NT_, STAGES = STAGES_;
    static constexpr u32 WARPS = WM * WN * KW, THREADS = 32 * WARPS, SLOTS = WM * MR, TOKENS = 8 * NT * WN;
    static constexpr u32 INPUT = TOKENS * CHUNK_COLS * 2, PLANES = 2 * Format::SUB, STAGE = INPUT + SLOTS * PLANES;
    static constexpr u32 HIGH_AT = STAGES * STAGE, RAW_AT = HIGH_AT + 2 * SLOTS * Format::HIGH;
    static constexpr u32 TABLE_AT = RAW_AT + SLOTS * Format::RAW, ROW_WORDS = SLOTS * 16;
    static constexpr u32 SHARED = TABLE_AT + (Format::RAW ? 2 * 8 * ROW_WORDS * 4 : 0);
    static constexpr u32 SLOTS_A_WARP = (SLOTS + WARPS - 1) / WARPS;
    static_assert(STAGES == 2 || STAGES == 3, "more stages would overwrite high bits and headers still read");
    static_assert(KW == 1 || KW == 2, "a chunk has two sub-blocks");
    static_assert(MR % 2 == 0, "a warp holds gate and up of the same rows");
    static_assert(KW == 1 || WM * WN * MR * NT * 512 <= STAGES * STAGE, "partial sums fit where stages were");

    const MatmulArgs &a;
    u32 wm, wn, kw, g, t;
    const u8 *tiles[SLOTS_A_WARP]; // of the slots this warp copies

    METHOD bool gating() const { return a.epilogue == GATE_SILU || a.epilogue == GATE_GELU; }

    METHOD Place place(u32 slot) const {
        if (gating()) {
            // In a warp's MR slots the first half is the gate's, the second the up's, of the same rows.
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

    METHOD explicit Matmul(const MatmulArgs &args) : a(args) {
        u32 w = warp() % (WM * WN);
        wm = w % WM, wn = w / WM, kw = warp() / (WM * WN), g = lane() / 4, t = lane() % 4;
        UNROLL for (u32 i = 0; i < SLOTS_A_WARP; i++) {
            Place p = place((warp() + i * WARPS) % SLOTS);
            const Matrix &m = a.outputs[p.output].matrix;
            // Beyond the end: any tile will do, its sums are not written.
            u32 tile = p.tile < m.row_tiles ? p.tile : 0;
            tiles[i] = m.tiles + static_cast<u64>(tile) * m.col_tiles * Format::TILE;
        }
    }

    // Sixteen-byte pieces from a tile to shared memory, by one warp.
    template <u32 BYTES> METHOD static void copy_pieces(u32 to, const u8 *from) {
        UNROLL for (u32 i = 0; i < BYTES / 16; i += 32) {
            if (i + lane() < BYTES / 16) copy_async(shared<u8>(to) + (i + lane()) * 16, from + (i + lane()) * 16);
        }
    }

    METHOD bool copies(u32 i) const { return WARPS <= SLOTS ? true : warp() + i * WARPS < SLOTS; }

    METHOD void load_header(u32 tile) const {
        if constexpr (Format::RAW > 0) {
            UNROLL for (u32 i = 0; i < SLOTS_A_WARP; i++) {
                u32 slot = warp() + i * WARPS;
                if (copies(i)) copy_pieces<Format::RAW>(RAW_AT + slot * Format::RAW, tiles[i] + tile * Format::TILE + Format::RAW_AT);
            }
        }
    }

    METHOD void load_weights(u32 chunk, u32 stage, u32 col_tiles) const {
        u32 tile = chunk / CHUNKS, part = chunk % CHUNKS;
        UNROLL for (u32 i = 0; i < SLOTS_A_WARP; i++) {
            if (!copies(i)) continue;
            u32 slot = warp() + i * WARPS;
            const u8 *from = tiles[i] + tile * Format::TILE;
            u32 to = stage * STAGE + INPUT + slot * PLANES;
            if constexpr (Format::SUB == 1024) {
                UNROLL for (u32 p = 0; p < PLANES / 16; p += 32) {
                    u32 piece = p + lane();
                    copy_async(shared<u8>(to) + Format::turned(piece) * 16, from + part * PLANES + piece * 16);
                }
            } else {
                copy_pieces<PLANES>(to, from + Format::PLANES + part * PLANES);
            }
            if constexpr (Format::HIGH > 0) {
                if (part % Format::HIGH_CHUNKS == 0) {
                    u32 which = chunk / Format::HIGH_CHUNKS & 1;
                    copy_pieces<Format::HIGH>(HIGH_AT + (which * SLOTS + slot) * Format::HIGH,
                                              from + Format::HIGH_AT + part / Format::HIGH_CHUNKS * Format::HIGH);
                }
            }
        }
        if (part == 2 && tile + 1 < col_tiles) load_header(tile + 1);
    }

    // Rows of tokens, 128 bytes each; a thread's pieces are THREADS/8 tokens apart and keep their place in
    // the row, so piece ^ token%8 is one number.
    METHOD void load_input(u32 chunk, u32 stage) const {
        constexpr u32 STEP = THREADS / 8;
        u32 piece = tid() % 8, row = tid() / 8, token = block_x() * TOKENS + row;
        u8 *to = shared<u8>(stage * STAGE) + row * 128 + (piece ^ (row & 7)) * 16;
        const u16 *from = a.input + chunk * CHUNK_COLS + piece * 8;
        UNROLL for (u32 i = 0; i < TOKENS; i += STEP) {
            bool there = token + i < a.tokens;
            u32 at = there ? token + i : 0;
            copy_async(to + i * 128, from + static_cast<u64>(at) * a.input_stride, there);
        }
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

    // One sub-block of a chunk: 32 columns, two k-steps.
    METHOD void multiply(F32x4 (&sums)[MR][NT], u32 chunk, u32 half, u32 stage) const {
        u32 sub = chunk % CHUNKS * 2 + half;
        u32 high = HIGH_AT + (chunk / Format::HIGH_CHUNKS & 1) * SLOTS * Format::HIGH;
        const u32 *table = shared<u32>(TABLE_AT) + ((chunk / CHUNKS & 1) * 8 + sub) * ROW_WORDS + 2 * g;
        Words4 upper[MR], lower[MR]; // rows g and g + 8
        UNROLL for (u32 i = 0; i < MR; i++) {
            u32 slot = wm * MR + i;
            Words2 scale{0, 0};
            if constexpr (Format::RAW > 0) scale = *reinterpret_cast<const Words2 *>(table + slot * 16);
            const u8 *plane = shared<u8>(stage * STAGE + INPUT + slot * PLANES + half * Format::SUB);
            const u8 *bits = shared<u8>(high + slot * Format::HIGH);
            upper[i] = Format::row(plane, bits, sub, g, t, scale.x);
            lower[i] = Format::row(plane, bits, sub, g + 8, t, scale.y);
        }
        u32 m = lane() / 8, r = lane() % 8;
        const u8 *input = shared<u8>(stage * STAGE) + (wn * 8 * NT + r) * 128 + ((half * 4 + m) ^ r) * 16;
        UNROLL for (u32 n = 0; n < NT; n++) {
            Words4 b = load_matrices(input + n * 1024);
            UNROLL for (u32 i = 0; i < MR; i++) mma_f16(sums[i][n], upper[i].x, lower[i].x, upper[i].y, lower[i].y, b.x, b.y);
            UNROLL for (u32 i = 0; i < MR; i++) mma_f16(sums[i][n], upper[i].z, lower[i].z, upper[i].w, lower[i].w, b.z, b.w);
        }
    }

    METHOD void run() const {
        u32 cols = a.outputs[0].matrix.cols, col_tiles = a.outputs[0].matrix.col_tiles;
        u32 chunks = (cols + CHUNK_COLS - 1) / CHUNK_COLS;
        load_header(0);
        copy_commit();
        UNROLL for (u32 c = 0; c < STAGES - 1; c++) {
            if (c < chunks) load_weights(c, c, col_tiles);
        }
        copy_wait<0>(); // the header; the weights are not committed yet
        sync_block();
        decode_scales(0);
        pdl_wait();
        UNROLL for (u32 c = 0; c < STAGES - 1; c++) {
            if (c < chunks) load_input(c, c);
            copy_commit();
        }
        F32x4 sums[MR][NT];
        UNROLL for (u32 i = 0; i < MR; i++) {
            UNROLL for (u32 n = 0; n < NT; n++) sums[i][n] = {0.0f, 0.0f, 0.0f, 0.0f};
        }
        u32 stage = 0;
        NO_UNROLL for (u32 c = 0; c < chunks; c++) {
            copy_wait<STAGES - 2>();
            sync_block();
            u32 ahead = c + STAGES - 1;
            if (ahead < chunks) {
                u32 free = stage == 0 ? STAGES - 1 : stage - 1;
                load_weights(ahead, free, col_tiles);
                load_input(ahead, free);
            }
            copy_commit();
            if (c % CHUNKS == 2 && c + 2 < chunks) decode_scales(c / CHUNKS + 1);
            if constexpr (KW == 1) {
                multiply(sums, c, 0, stage);
                multiply(sums, c, 1, stage);
            } else {
                multiply(sums, c, kw, stage);
            }
            stage = stage + 1 == STAGES ? 0 : stage + 1;
        }
        pdl_launch();
        if constexpr (KW > 1) {
            copy_wait<0>();
            sync_block();
            auto *partial = shared<Floats4>(0) + warp() % (WM * WN) * (MR * NT * 32) + lane();
            if (kw == 1) {
                UNROLL for (u32 i = 0; i < MR * NT; i++) {
                    const F32x4 &s = sums[i / NT][i % NT];
                    partial[i * 32] = {s.x, s.y, s.z, s.w};
                }
            }
            sync_block();
            if (kw == 1) return;
            UNROLL for (u32 i = 0; i < MR * NT; i++) {
                F32x4 &s = sums[i / NT][i % NT];
                Floats4 other = partial[i * 32];
                s.x += other.x, s.y += other.y, s.z += other.z, s.w += other.w;
            }
        }
        if (gating()) write_gated(sums);
        else write(sums);
    }

    METHOD void write_one(const Output &output, u32 row, u32 token, float value, float bias) const {
        if (token >= a.tokens) return;
        float *to = output.to + static_cast<u64>(token) * output.stride + row;
        float result = value * a.scale + bias;
        if (a.epilogue == ADD) result += *to;
        if (a.epilogue == CAP) result = capped(result, a.cap);
        *to = result;
    }

    METHOD void write(const F32x4 (&sums)[MR][NT]) const {
        u32 first = block_x() * TOKENS + wn * 8 * NT + 2 * t;
        UNROLL for (u32 i = 0; i < MR; i++) {
            Place p = place(wm * MR + i);
            if (!p.there) continue;
            const Output &output = a.outputs[p.output];
            UNROLL for (u32 h = 0; h < 2; h++) {
                u32 row = p.tile * TILE_ROWS + 8 * h + g;
                if (row >= output.matrix.rows) continue;
                float bias = output.bias ? output.bias[row] : 0.0f;
                UNROLL for (u32 n = 0; n < NT; n++) {
                    const F32x4 &s = sums[i][n];
                    write_one(output, row, first + 8 * n, h == 0 ? s.x : s.z, bias);
                    write_one(output, row, first + 8 * n + 1, h == 0 ? s.y : s.w, bias);
                }
            }
        }
    }

    METHOD float gate(float x, float up) const { return (a.epilogue == GATE_SILU ? silu(x) : gelu_tanh(x)) * up; }

    // Lanes g and g ^ 2 of a t hold the two rows of a permuted pair for two tokens; each writes one token.
    METHOD void write_pair(u32 tile, u32 h, u32 token, float x, float y) const {
        bool second = g & 2;
        float other = shfl_xor(second ? x : y, 8);
        float low = second ? other : x, high = second ? y : other;
        token += second;
        if (token >= a.tokens) return;
        auto fit = [](float v) { return v > HALF_MAX ? HALF_MAX : v < -HALF_MAX ? -HALF_MAX : v; };
        u32 word = tile / 2 * 16 + (2 * (tile & 1) + (g & 1)) * 4 + 2 * h + (g >> 2);
        auto *to = reinterpret_cast<u32 *>(a.gated + static_cast<u64>(token) * a.gated_stride);
        to[word] = floats_to_halves(fit(low * GATED_SCALE), fit(high * GATED_SCALE));
    }

    METHOD void write_gated(const F32x4 (&sums)[MR][NT]) const {
        u32 first = block_x() * TOKENS + wn * 8 * NT + 2 * t;
        const Output &gates = a.outputs[0], &ups = a.outputs[1];
        UNROLL for (u32 i = 0; i < MR / 2; i++) {
            Place p = place(wm * MR + i);
            if (!p.there) continue; // the same for all lanes
            UNROLL for (u32 h = 0; h < 2; h++) {
                u32 row = p.tile * TILE_ROWS + 8 * h + g;
                bool real = row < gates.matrix.rows;
                float gate_bias = real && gates.bias ? gates.bias[row] : 0.0f;
                float up_bias = real && ups.bias ? ups.bias[row] : 0.0f;
                UNROLL for (u32 n = 0; n < NT; n++) {
                    const F32x4 &x = sums[i][n], &u = sums[i + MR / 2][n];
                    float even = gate((h == 0 ? x.x : x.z) * a.scale + gate_bias, (h == 0 ? u.x : u.z) * a.scale + up_bias);
                    float odd = gate((h == 0 ? x.y : x.w) * a.scale + gate_bias, (h == 0 ? u.y : u.w) * a.scale + up_bias);
                    // Columns up to the next multiple of 256 are zeros, whatever the padding computed.
                    if (!real) even = 0.0f, odd = 0.0f;
                    u32 token = first + 8 * n;
                    if (a.gated) write_pair(p.tile, h, token, even, odd);
                    if (gates.to && real) {
                        float *to = gates.to + static_cast<u64>(token) * gates.stride + row;
                        if (token < a.tokens) to[0] = even;
                        if (token + 1 < a.tokens) to[gates.stride] = odd;
                    }
                }
            }
        }
    }
};
