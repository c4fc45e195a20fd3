// The input of skinny products: norm(x [+ o]) of up to 8 rows as fragments of B. See skinny.cuh for the
// records. Fixed point: per row and 256 columns dx = max|x| / 32512, X = round(x / dx), h = (X + 128) >> 8,
// l = X - 256 h: error 2^-16 of the largest. The sum S of X over a sub-block is kept as hi + lo = S / 16,
// two halves: |S| / 16 <= 65024 is a half, error 2^-22. As halves: x / dx = hi + lo.
//
// Grid: 8 (rows of the step; missing ones are written as zeros) x ceil(col_tiles / 8). A warp writes a column
// tile; every block adds up the squares of its whole row for itself, all in the same order.
#include "common.cuh"

struct Stage8Args {
    Source source;     // rows `stride` floats apart
    const u32 *select; // [rows]: which row of x and o; null: row n
    u8 *bytes;         // records of 5120 bytes [col_tiles], or null
    u8 *halves;        // records of 4224 bytes [2 col_tiles], or null
    float *normed;     // f32 [rows][stride], or null
    u32 rows, col_tiles;
};

constexpr u32 STAGE8_WARPS = 8, STAGE8_RECORD = 5120, STAGE8_HALVES = 4224;

DEVICE float stage8_sum(float value, float *scratch) {
    value = warp_sum(value);
    sync_block();
    if (lane() == 0) scratch[warp()] = value;
    sync_block();
    float sum = 0.0f;
    UNROLL for (u32 i = 0; i < STAGE8_WARPS; i++) sum += scratch[i];
    return sum;
}

// Four columns from `col` on, a multiple of 4; zeros beyond the width.
DEVICE Floats4 load_four(const float *row, u32 col, u32 cols, bool aligned) {
    if (aligned) return col < cols ? *reinterpret_cast<const Floats4 *>(row + col) : Floats4{0, 0, 0, 0};
    return {col < cols ? row[col] : 0.0f, col + 1 < cols ? row[col + 1] : 0.0f, col + 2 < cols ? row[col + 2] : 0.0f,
            col + 3 < cols ? row[col + 3] : 0.0f};
}
DEVICE void store_four(float *row, u32 col, u32 cols, bool aligned, const Floats4 &v) {
    if (aligned && col < cols) *reinterpret_cast<Floats4 *>(row + col) = v;
    if (aligned) return;
    if (col < cols) row[col] = v.x;
    if (col + 1 < cols) row[col + 1] = v.y;
    if (col + 2 < cols) row[col + 2] = v.z;
    if (col + 3 < cols) row[col + 3] = v.w;
}
DEVICE float dot(const Floats4 &a) { return a.x * a.x + a.y * a.y + a.z * a.z + a.w * a.w; }

// A row of the source.
struct Row {
    const float *x, *o;
    float post; // 1 / rms(o), if there is a norm behind o
    bool aligned;
};
DEVICE Floats4 residual(const Source &source, const Row &row, u32 col) {
    Floats4 v = load_four(row.x, col, source.cols, row.aligned);
    if (row.o != nullptr) {
        Floats4 o = load_four(row.o, col, source.cols, row.aligned);
        if (source.post != nullptr) {
            Floats4 w = load_four(source.post, col, source.cols, row.aligned);
            o = {o.x * row.post * w.x, o.y * row.post * w.y, o.z * row.post * w.z, o.w * row.post * w.w};
        }
        v = {v.x + o.x, v.y + o.y, v.z + o.z, v.w + o.w};
    }
    return v;
}

DEVICE float largest(const Floats4 &v) { return fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w))); }
// False for infinities and what is not a number.
DEVICE bool finite(const Floats4 &v) { return (v.x - v.x) + (v.y - v.y) + (v.z - v.z) + (v.w - v.w) == 0.0f; }

// Four columns as the word of plane h and that of plane l; their sum is added to `sum`.
DEVICE void split_four(const Floats4 &v, float inverse, u32 &high, u32 &low, i32 &sum) {
    float x[4] = {v.x, v.y, v.z, v.w};
    high = 0, low = 0;
    UNROLL for (u32 i = 0; i < 4; i++) {
        i32 fixed = round_to_int(x[i] * inverse), h = (fixed + 128) >> 8;
        high |= (static_cast<u32>(h) & 255u) << 8 * i;
        low |= (static_cast<u32>(fixed - 256 * h) & 255u) << 8 * i;
        sum += fixed;
    }
}

// Lane (s, t) = (lane / 4, lane % 4) has columns 4t.. and 16 + 4t.. of sub-block s.
DEVICE void write_bytes(u8 *record, u32 n, const Floats4 &v0, const Floats4 &v1, float inverse, float dx) {
    u32 s = lane() >> 2, t = lane() & 3;
    Words4 words;
    i32 sum = 0;
    split_four(v0, inverse, words.x, words.z, sum);
    split_four(v1, inverse, words.y, words.w, sum);
    *reinterpret_cast<Words4 *>(record + s * 512 + (n * 4 + t) * 16) = words;
    sum += shfl_xor(sum, 1u);
    sum += shfl_xor(sum, 2u);
    // Lane n*4 + t of the fragment has the sums of sub-blocks 2t and 2t+1.
    float even = static_cast<float>(shfl(sum, 8 * t)) * 0.0625f, odd = static_cast<float>(shfl(sum, 8 * t + 4)) * 0.0625f;
    u32 hi = floats_to_halves(even, odd), lo = floats_to_halves(even - half_low(hi), odd - half_high(hi));
    if (lane() < 4) {
        Words2 *info = reinterpret_cast<Words2 *>(record + 4096), *packed = reinterpret_cast<Words2 *>(record + 4608);
        info[2 * (n * 4 + t)] = {hi, lo};
        packed[2 * (((n + 4) & 7) * 4 + t)] = n < 4 ? Words2{hi, lo} : Words2{0, 0};
    }
    // dx of column n is with every lane of t = n / 2 (packed: also t = n / 2 + 2).
    if (lane() < 8) {
        float *info = reinterpret_cast<float *>(record + 4096), *packed = reinterpret_cast<float *>(record + 4608);
        u32 at = (lane() * 4 + n / 2) * 4 + 2 + n % 2;
        info[at] = dx;
        if (n < 4) packed[at] = dx, packed[at + 8] = dx;
    }
}

// Word i of chunk t of the sub-block, for lane n*4 + i of the fragment: see skinny/f16.cuh.
DEVICE void write_halves(u8 *records, u32 n, const Floats4 &v0, const Floats4 &v1, float inverse, float dx) {
    u32 s = lane() >> 2, t = lane() & 3;
    u8 *record = records + (s / 4) * STAGE8_HALVES;
    float x[4][2] = {{v0.x, v0.z}, {v0.y, v0.w}, {v1.x, v1.z}, {v1.y, v1.w}};
    u32 *to = reinterpret_cast<u32 *>(record + s % 4 * 1024) + n * 32 + t;
    UNROLL for (u32 i = 0; i < 4; i++) {
        float first = x[i][0] * inverse, second = x[i][1] * inverse;
        u32 hi = floats_to_halves(first, second);
        to[i * 8] = hi;
        to[i * 8 + 4] = floats_to_halves(first - half_low(hi), second - half_high(hi));
    }
    if ((lane() & 15) == 0) reinterpret_cast<float *>(record + 4096)[n] = dx;
}

KERNEL(stage8, Stage8Args, 256, 4) {
    pdl_launch();
    const Source &source = a.source;
    float *scratch = shared<float>(0);
    u32 n = block_x(), tile = block_y() * STAGE8_WARPS + warp();
    u32 cols = source.cols, col = tile * TILE_COLS + (lane() >> 2) * 32 + (lane() & 3) * 4;
    bool present = n < a.rows;
    Row row{nullptr, nullptr, 1.0f, (cols & 3) == 0 && (source.stride & 3) == 0};
    // Weights of the norm come from far away and are the same in every step: asked for before all else.
    Floats4 weight[2] = {{1, 1, 1, 1}, {1, 1, 1, 1}}, v[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    if (source.norm != nullptr && present) {
        UNROLL for (u32 i = 0; i < 2; i++) weight[i] = load_four(source.norm, col + 16 * i, cols, row.aligned);
    }
    pdl_wait();
    if (present) {
        u64 from = static_cast<u64>(a.select == nullptr ? n : a.select[n]) * source.stride;
        row.x = source.x + from;
        row.o = source.o == nullptr ? nullptr : source.o + from;
        if (source.o != nullptr && source.post != nullptr) {
            float squares = 0.0f;
            for (u32 at = 4 * tid(); at < cols; at += 4 * threads()) squares += dot(load_four(row.o, at, cols, row.aligned));
            row.post = rsqrtf(stage8_sum(squares, scratch) / static_cast<float>(cols) + source.eps);
        }
        UNROLL for (u32 i = 0; i < 2; i++) v[i] = residual(source, row, col + 16 * i);
        float factor = 1.0f;
        if (source.norm != nullptr) {
            float squares = 0.0f;
            for (u32 at = 4 * tid(); at < cols; at += 4 * threads()) squares += dot(residual(source, row, at));
            factor = rsqrtf(stage8_sum(squares, scratch) / static_cast<float>(cols) + source.eps);
        }
        u64 to = static_cast<u64>(n) * source.stride;
        UNROLL for (u32 i = 0; i < 2; i++) {
            const Floats4 &w = weight[i];
            if (source.x_out != nullptr) store_four(source.x_out + to, col + 16 * i, cols, row.aligned, v[i]);
            v[i] = {v[i].x * factor * w.x, v[i].y * factor * w.y, v[i].z * factor * w.z, v[i].w * factor * w.w};
            if (a.normed != nullptr) store_four(a.normed + to, col + 16 * i, cols, row.aligned, v[i]);
        }
    }
    if (tile >= a.col_tiles) return;
    float most = warp_max(fmaxf(largest(v[0]), largest(v[1])));
    float dx = most / 32512.0f;
    // Zeros, and values so small that the inverse is not finite, are nothing; a value that is not finite
    // makes the scale so, and every product with it.
    float inverse = most > 1e-30f ? 32512.0f / most : 0.0f;
    if (vote(!finite(v[0]) || !finite(v[1])) != 0) dx = bits_to_float(0x7fc00000u), inverse = 0.0f;
    u8 *bytes = a.bytes + static_cast<u64>(tile) * STAGE8_RECORD;
    u8 *halves = a.halves + static_cast<u64>(tile) * 2 * STAGE8_HALVES;
    if (a.bytes != nullptr) write_bytes(bytes, n, v[0], v[1], inverse, dx);
    if (a.halves != nullptr) write_halves(halves, n, v[0], v[1], inverse, dx);
}
