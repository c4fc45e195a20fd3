// The input of prefill's products: rows of a Source as halves in the order matmul's fragments want.
//
// Within 32 columns, words of two halves: word 8h + t = columns (16h + 4t, 16h + 4t + 2), word 8h + 4 + t =
// columns (16h + 4t + 1, 16h + 4t + 3), h = 0, 1, t = 0..3. Beyond the width zeros to a multiple of 256.
// A half's error is 2^-11 of the value (2^-25 below 2^-14); values beyond the range of halves become 65504.
#include "common.cuh"

struct StageF16Args {
    Source source;     // widths and strides are multiples of 4; x_out is written if it is not null
    const u32 *select; // [rows]: rows of source to take; null: all, in order
    u16 *to;           // f16 [rows][to_stride]
    float *h;          // f32 [rows][h_stride]: the same values before they become halves; or null
    u32 to_stride, h_stride;
};

// Sum over 256 threads of one value each, through 8 floats.
DEVICE float stage_sum(float value, float *sums) {
    value = warp_sum(value);
    if (lane() == 0) sums[warp()] = value;
    sync_block();
    float sum = 0.0f;
    UNROLL for (u32 i = 0; i < 8; i++) sum += sums[i];
    return sum;
}

DEVICE float stage_squares(Floats4 v) { return v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w; }

// x + o, `factor` times `post` of o, of four columns.
DEVICE Floats4 stage_four(const Source &s, u64 row, u32 col, float factor) {
    Floats4 v = *reinterpret_cast<const Floats4 *>(s.x + row + col);
    if (s.o != nullptr) {
        Floats4 o = *reinterpret_cast<const Floats4 *>(s.o + row + col);
        if (s.post != nullptr) {
            Floats4 p = *reinterpret_cast<const Floats4 *>(s.post + col);
            o = {o.x * factor * p.x, o.y * factor * p.y, o.z * factor * p.z, o.w * factor * p.w};
        }
        v = {v.x + o.x, v.y + o.y, v.z + o.z, v.w + o.w};
    }
    return v;
}

DEVICE u32 stage_pair(float x, float y) {
    auto fit = [](float v) { return v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v; };
    return floats_to_halves(fit(x), fit(y));
}

// Grid: (rows); 256 threads; 64 bytes of shared memory. A row is read up to three times, from L1 after the
// first.
KERNEL(stage_f16, StageF16Args, 256, 4) {
    pdl_launch();
    pdl_wait();
    const Source &s = a.source;
    u64 row = static_cast<u64>(a.select != nullptr ? a.select[block_x()] : block_x()) * s.stride;
    float factor = 1.0f;
    if (s.o != nullptr && s.post != nullptr) {
        float squares = 0.0f;
        for (u32 col = 4 * tid(); col < s.cols; col += 1024) squares += stage_squares(*reinterpret_cast<const Floats4 *>(s.o + row + col));
        factor = rsqrtf(stage_sum(squares, shared<float>(0)) / static_cast<float>(s.cols) + s.eps);
    }
    float inverse = 1.0f;
    if (s.norm != nullptr) {
        float squares = 0.0f;
        for (u32 col = 4 * tid(); col < s.cols; col += 1024) squares += stage_squares(stage_four(s, row, col, factor));
        inverse = rsqrtf(stage_sum(squares, shared<float>(32)) / static_cast<float>(s.cols) + s.eps);
    }
    auto *to = reinterpret_cast<u32 *>(a.to + static_cast<u64>(block_x()) * a.to_stride);
    u32 padded = (s.cols + TILE_COLS - 1) / TILE_COLS * TILE_COLS;
    for (u32 col = 4 * tid(); col < padded; col += 1024) {
        Floats4 v = {0.0f, 0.0f, 0.0f, 0.0f};
        if (col < s.cols) {
            v = stage_four(s, row, col, factor);
            if (s.x_out != nullptr) *reinterpret_cast<Floats4 *>(s.x_out + row + col) = v;
            if (s.norm != nullptr) {
                Floats4 n = *reinterpret_cast<const Floats4 *>(s.norm + col);
                v = {v.x * inverse * n.x, v.y * inverse * n.y, v.z * inverse * n.z, v.w * inverse * n.w};
            }
            if (a.h != nullptr) *reinterpret_cast<Floats4 *>(a.h + static_cast<u64>(block_x()) * a.h_stride + col) = v;
        }
        u32 *words = to + col / 32 * 16 + col / 16 % 2 * 8 + col / 4 % 4;
        words[0] = stage_pair(v.x, v.z);
        words[4] = stage_pair(v.y, v.w);
    }
}
