// What the kernels of products share: a matrix on the device, where its product goes, where its input
// comes from. Mirrored field by field in src/args.rs.
#pragma once
#include "prelude.cuh"

// Formats of tiles; src/tile/mod.rs has the same numbers.
enum Format : u32 { Q4_K = 0, Q5_K = 1, Q6_K = 2, Q8_0 = 3, Q4_0 = 4, F16 = 5 };

// Rows of a tile, columns of a tile.
constexpr u32 TILE_ROWS = 16, TILE_COLS = 256;
// Bytes of a tile by format.
DEVICE constexpr u32 tile_bytes(u32 format) {
    return format == Q4_K ? 2304 : format == Q5_K ? 2816 : format == Q6_K ? 3360 : format == Q8_0 ? 4352 : format == Q4_0 ? 2304 : 8192;
}

// [row_tiles][col_tiles] tiles, see src/tile/mod.rs. 32 bytes.
struct Matrix {
    const u8 *tiles;
    u32 rows, cols, row_tiles, col_tiles, format, unused;
};

// One product: to[row of the step][row of the matrix] = matrix · input + bias. 56 bytes.
struct Output {
    Matrix matrix;
    const float *bias; // [rows] or null
    float *to;
    u32 stride; // floats from one row of the step to the next
    u32 unused;
};

// What happens to a product before it is written.
enum Epilogue : u32 {
    STORE = 0,      // to = product
    ADD = 1,        // to += product: the residual stream
    GATE_SILU = 2,  // outputs 0 and 1 are gate and up: to of output 0 = silu(gate) * up
    GATE_GELU = 3,  // the same with the tanh form of GELU
    CAP = 4,        // to = cap * tanh(product / cap)
};

// The input of a product: x, or x + o, or x + rms(o) * post, and then its norm if there is one. Rows of the
// step lie `stride` floats apart in x, o and x_out. 64 bytes.
struct Source {
    const float *x;
    const float *o;    // null: x alone
    const float *post; // null: o as it is
    const float *norm; // null: not normalised
    float *x_out;      // where x + o goes; never x itself, which other blocks still read
    u32 cols, stride;
    float eps;
    u32 unused;
};

// Activations of the gated blocks; g is the gate.
DEVICE float silu(float g) { return g / (1.0f + exp2_fast(-1.4426950408889634f * g)); }
DEVICE float gelu_tanh(float g) {
    float inner = 0.7978845608028654f * (g + 0.044715f * g * g * g);
    // tanh(y) = 1 - 2 / (e^2y + 1): exact at both ends.
    return 0.5f * g * (2.0f - 2.0f / (exp2_fast(2.8853900817779268f * inner) + 1.0f));
}
DEVICE float capped(float value, float cap) {
    return cap * (1.0f - 2.0f / (exp2_fast(2.8853900817779268f * value / cap) + 1.0f));
}
