// The first launch of a step: X = embedding rows · scale, and cosine and sine of every rotation.
//
// Embedding: the row's 256 columns of a tile are decoded by 256 threads, one a column, exactly as
// Format::decode does: every product and sum rounded on its own. A row of 4096 columns of Q4_K is 2304
// useful bytes in sectors of 32, half of each used; about 40 instructions a weight, of one row only.
//
// Rotation: angle = f32(position · frequency) as the reference has it; reduced by quarter turns in f64
// with a constant of 33 + 33 + 53 bits, whose products with numbers below 2^20 are exact, then Taylor series
// on [-π/4, π/4]. Error before rounding to f32 under 3e-14 for angles up to 2^20.
#include "common.cuh"

// One rotation of the plan.
struct Turns {
    const float *frequency; // [half], radians a position
    float *to;              // [rows][half][2]: cosine, sine, times magnitude
    float magnitude;
    u32 half;
};

struct BeginArgs {
    Matrix table;        // vocab rows, dim columns
    const u32 *token;    // [rows]
    const u32 *position; // [rows]
    float *x;            // [rows][dim]
    Turns turns[4];
    float scale;
    u32 tables; // of `turns`
};

// Column `col` of a Q4_K or Q5_K row without its codes: scale and minimum of the sub-block.
DEVICE Floats2 scale_and_min(const u8 *tile, u32 row, u32 sub) {
    const u32 *header = reinterpret_cast<const u32 *>(tile + row * 16);
    u32 parity = sub % 2, shift = sub / 2 * 8;
    u32 packed = header[1 + parity] >> shift & 255, low = header[3] >> (shift + 4 * parity) & 15;
    return {mul_rn(half_low(header[0]), static_cast<float>(packed & 63)),
            mul_rn(half_high(header[0]), static_cast<float>(packed >> 6 << 4 | low))};
}

// Column `col` (0..255) of the nibble planes at `planes`.
DEVICE u32 nibble(const u8 *planes, u32 row, u32 col) {
    return planes[col / 32 * 256 + row * 16 + col % 16] >> (col / 16 % 2 * 4) & 15;
}

// The weight of a tile at row `row` (0..15), column `col` (0..255).
DEVICE float weight(u32 format, const u8 *tile, u32 row, u32 col) {
    u32 sub = col / 32, parity = sub % 2, j = sub / 2, high = col / 16 % 2, t = col % 16 / 4, i = col % 4;
    u32 slot = parity * 16 + row;
    switch (format) {
    case Q4_K: {
        Floats2 s = scale_and_min(tile, row, sub);
        return add_rn(mul_rn(s.x, static_cast<float>(nibble(tile + 256, row, col))), -s.y);
    }
    case Q5_K: {
        Floats2 s = scale_and_min(tile, row, sub);
        u32 fifth = tile[2304 + slot * 16 + j * 4 + i] >> (4 * high + t) & 1;
        return add_rn(mul_rn(s.x, static_cast<float>(nibble(tile + 256, row, col) | fifth << 4)), -s.y);
    }
    case Q6_K: {
        u32 upper = tile[2048 + j / 2 * 512 + slot * 16 + (j % 2 * 2 + high) * 4 + i] >> (2 * t) & 3;
        i32 q = static_cast<i32>(nibble(tile, row, col) | upper << 4) - 32;
        float d = half_to_float(*reinterpret_cast<const u16 *>(tile + 3328 + row * 2));
        i32 scale = static_cast<i8>(tile[3072 + slot * 8 + 2 * j + high]);
        return mul_rn(mul_rn(d, static_cast<float>(scale)), static_cast<float>(q));
    }
    case Q8_0: {
        float d = half_to_float(reinterpret_cast<const u16 *>(tile + row * 16)[parity * 4 + j]);
        i32 q = static_cast<i8>(tile[256 + sub * 512 + high * 256 + row * 16 + col % 16]);
        return mul_rn(d, static_cast<float>(q));
    }
    case Q4_0: {
        float d = half_to_float(reinterpret_cast<const u16 *>(tile + row * 16)[parity * 4 + j]);
        return mul_rn(d, static_cast<float>(static_cast<i32>(nibble(tile + 256, row, col)) - 8));
    }
    default: {
        // Eight halves: columns 4t, 4t+2, 4t+1, 4t+3, then the same of the upper sixteen.
        u32 place = high * 4 + (i % 2 * 2 + i / 2);
        return half_to_float(reinterpret_cast<const u16 *>(tile + sub * 1024 + t * 256 + row * 16)[place]);
    }
    }
}

// Cosine and sine of an angle of at least 0 and below 2^20 radians.
DEVICE Floats2 turn(float angle) {
    double x = angle;
    i32 quarters = static_cast<i32>(x * 0.636619772367581343 + 0.5);
    double n = quarters;
    // π/2 in three parts; the first two have 33 bits.
    double r = x - n * 1.57079632673412561417e+00;
    r = r - n * 6.07710050630396597660e-11;
    r = r - n * 2.02226624879595063154e-21;
    double q = r * r;
    double s = 1.0 + q * (-1.0 / 6 + q * (1.0 / 120 + q * (-1.0 / 5040 + q * (1.0 / 362880 + q * (-1.0 / 39916800 + q * (1.0 / 6227020800))))));
    double c = 1.0 + q * (-1.0 / 2 + q * (1.0 / 24 + q * (-1.0 / 720 + q * (1.0 / 40320 + q * (-1.0 / 3628800 + q * (1.0 / 479001600 - q * (1.0 / 87178291200)))))));
    float sine = static_cast<float>(s * r), cosine = static_cast<float>(c);
    bool odd = quarters & 1, negative_sine = quarters & 2, negative_cosine = (quarters + 1) & 2;
    float x_part = odd ? sine : cosine, y_part = odd ? cosine : sine;
    return {negative_cosine ? -x_part : x_part, negative_sine ? -y_part : y_part};
}

// Grid: (col_tiles + 1, rows); the last block of a row fills its turns. No shared memory.
KERNEL(begin, BeginArgs, 256, 4) {
    pdl_launch();
    pdl_wait();
    u32 row = block_y(), col_tile = block_x();
    if (col_tile < a.table.col_tiles) {
        u32 token = a.token[row];
        // The host checks ids; whatever happens, nothing outside the table is read.
        token = token < a.table.rows ? token : a.table.rows - 1;
        u64 tile = static_cast<u64>(token / TILE_ROWS) * a.table.col_tiles + col_tile;
        u32 col = col_tile * TILE_COLS + tid();
        if (col < a.table.cols) {
            float w = weight(a.table.format, a.table.tiles + tile * tile_bytes(a.table.format), token % TILE_ROWS, tid());
            a.x[static_cast<u64>(row) * a.table.cols + col] = w * a.scale;
        }
        return;
    }
    float position = static_cast<float>(a.position[row]);
    for (u32 table = 0; table < a.tables; table++) {
        const Turns &turns = a.turns[table];
        Floats2 *to = reinterpret_cast<Floats2 *>(turns.to) + static_cast<u64>(row) * turns.half;
        for (u32 i = tid(); i < turns.half; i += threads()) {
            Floats2 t = turn(position * turns.frequency[i]);
            to[i] = {t.x * turns.magnitude, t.y * turns.magnitude};
        }
    }
}
