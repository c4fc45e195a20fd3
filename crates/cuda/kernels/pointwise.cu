// What happens to activations between products when it is not fused into them: norms, residuals, gates, and
// the choice of rows. All f32, row-major, widths multiples of 4.
#include "common.cuh"

// Sum over the block of one value a thread, through 8 floats of shared memory; 256 threads.
DEVICE float sum_of_block(float value) {
    value = warp_sum(value);
    float *sums = shared<float>(0);
    if (lane() == 0) sums[warp()] = value;
    sync_block();
    float sum = 0.0f;
    UNROLL for (u32 i = 0; i < 8; i++) sum += sums[i];
    return sum;
}

// 1 / √(mean square + eps) of a row.
DEVICE float inverse_rms(const Floats4 *row, u32 quads, float eps) {
    float squares = 0.0f;
    for (u32 i = tid(); i < quads; i += 256) {
        Floats4 v = row[i];
        squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    return rsqrtf(sum_of_block(squares) / static_cast<float>(4 * quads) + eps);
}

struct NormArgs {
    const float *x;      // [rows][cols]
    const float *weight; // [cols]
    float *to;           // [rows][cols]; may be x
    u32 cols;
    float eps;
};

// to = x / rms(x) · weight. Grid: (rows); 32 bytes of shared memory. Error of a value about
// 2^-22 · (1 + cols / 2048) of it.
KERNEL(rms_norm, NormArgs, 256, 4) {
    pdl_launch();
    pdl_wait();
    u32 quads = a.cols / 4;
    u64 base = static_cast<u64>(block_x()) * quads;
    const Floats4 *x = reinterpret_cast<const Floats4 *>(a.x) + base, *weight = reinterpret_cast<const Floats4 *>(a.weight);
    Floats4 *to = reinterpret_cast<Floats4 *>(a.to) + base;
    float factor = inverse_rms(x, quads, a.eps);
    for (u32 i = tid(); i < quads; i += 256) {
        Floats4 v = x[i], w = weight[i];
        to[i] = {v.x * factor * w.x, v.y * factor * w.y, v.z * factor * w.z, v.w * factor * w.w};
    }
}

struct ResidualArgs {
    float *x;          // [rows][cols]
    const float *o;    // [rows][cols]
    const float *post; // [cols], or null
    u32 cols;
    float eps;
};

// x += o, or x += o / rms(o) · post. Grid: (rows); 32 bytes of shared memory.
KERNEL(residual, ResidualArgs, 256, 4) {
    pdl_launch();
    pdl_wait();
    u32 quads = a.cols / 4;
    u64 base = static_cast<u64>(block_x()) * quads;
    Floats4 *x = reinterpret_cast<Floats4 *>(a.x) + base;
    const Floats4 *o = reinterpret_cast<const Floats4 *>(a.o) + base, *post = reinterpret_cast<const Floats4 *>(a.post);
    float factor = a.post == nullptr ? 1.0f : inverse_rms(o, quads, a.eps);
    for (u32 i = tid(); i < quads; i += 256) {
        Floats4 v = x[i], u = o[i];
        if (a.post != nullptr) {
            Floats4 w = post[i];
            u = {u.x * factor * w.x, u.y * factor * w.y, u.z * factor * w.z, u.w * factor * w.w};
        }
        x[i] = {v.x + u.x, v.y + u.y, v.z + u.z, v.w + u.w};
    }
}

struct GateArgs {
    const float *gate; // [rows][cols]
    const float *up;   // [rows][cols]
    float *to;         // [rows][cols]; may be either
    u32 cols, rows;
    u32 activation; // GATE_SILU or GATE_GELU
    u32 unused;
};

DEVICE float gated(u32 activation, float gate, float up) { return (activation == GATE_SILU ? silu(gate) : gelu_tanh(gate)) * up; }

// to = activation(gate) · up. Grid: (any number of blocks); no shared memory.
KERNEL(gate, GateArgs, 256, 4) {
    pdl_launch();
    pdl_wait();
    u64 quads = static_cast<u64>(a.rows) * a.cols / 4;
    const Floats4 *gate = reinterpret_cast<const Floats4 *>(a.gate), *up = reinterpret_cast<const Floats4 *>(a.up);
    for (u64 i = block_x() * 256 + tid(); i < quads; i += blocks_x() * 256) {
        Floats4 g = gate[i], u = up[i];
        reinterpret_cast<Floats4 *>(a.to)[i] = {gated(a.activation, g.x, u.x), gated(a.activation, g.y, u.y),
                                                gated(a.activation, g.z, u.z), gated(a.activation, g.w, u.w)};
    }
}

struct SelectArgs {
    const float *from[2]; // [rows][cols]; the second may be null
    float *to[2];         // [count][cols]; may be `from`
    const u32 *select;    // [count] rows, strictly rising
    u32 cols[2];
    u32 count, unused;
};

// to[j] = from[select[j]] for one or two buffers. Grid: (ceil(most cols / 1024), buffers); no shared memory.
// A thread moves its four columns of every row in order; as rows rise, no row is overwritten before it is
// read, so a buffer may be its own target.
KERNEL(select_rows, SelectArgs, 256, 4) {
    pdl_launch();
    pdl_wait();
    u32 which = block_y(), quads = a.cols[which] / 4, i = block_x() * 256 + tid();
    if (i >= quads) return;
    const Floats4 *from = reinterpret_cast<const Floats4 *>(a.from[which]);
    Floats4 *to = reinterpret_cast<Floats4 *>(a.to[which]);
    for (u32 j = 0; j < a.count; j++) to[static_cast<u64>(j) * quads + i] = from[static_cast<u64>(a.select[j]) * quads + i];
}
