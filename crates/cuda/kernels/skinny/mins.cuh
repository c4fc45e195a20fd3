// Q4_K and Q5_K: w = d·sc·q - dmin·m, sc and m of 6 bits for every 32 columns.
//
// The products of a sub-block are multiplied by sc in integers and added up over a tile. Bounds of Q5_K
// (q <= 31, |h| <= 127, |l| <= 128): |sum| <= 8 · 32 · 31 · 128 · 63 = 6.4e7 < 2^31, so they are exact; one
// rounding to f32 a tile. The mins of a row times the sums of the input's sub-blocks are one f16 mma a tile: the
// mins are integers (times 16, at most 1008), the sums come as pairs of halves: 2^-22 of the largest.
#pragma once

template <u32 FORMAT> DEVICE void copy_mins(u32 p, const Ring &ring) {
    if (p == 0) copy_halves(ring, 0);
    copy_lines<FORMAT>(ring, 256 + p * 256);
    copy_lines<FORMAT>(ring, 256 + p * 256 + 1024);
    if (FORMAT == Q5_K) copy_halves(ring, 2304 + p * 256);
}
DEVICE void copy_group(Tag<Q4_K>, u32 p, const Ring &ring) { copy_mins<Q4_K>(p, ring); }
DEVICE void copy_group(Tag<Q5_K>, u32 p, const Ring &ring) { copy_mins<Q5_K>(p, ring); }

// 16·m of sub-blocks 2t and 2t+1 as halves, from the header of a row.
DEVICE u32 min_pair(const Words4 &head, u32 t) {
    u32 upper = pick_bytes(head.y, head.z, t | (t + 4) << 8); // their two high bits in bits 6, 7 of bytes 0, 2
    u32 lower = pick_bytes(head.w, 0, 0x4440 | t) * 0x1001u;  // their four low bits in bits 0..3 and 16..19
    u32 both = and_or(lower, 0x000f000fu, and_or(upper >> 2, 0x00300030u, 0x64006400u));
    return halves_fma(both, 0x4c004c00u, 0xf400f400u); // (1024 + m) · 16 - 16384
}

template <u32 FORMAT, Mode MODE> DEVICE void multiply_mins(const Ring &ring, const Input &input, F32x4 (&sum)[2]) {
    u32 t = ring.t;
    Words4 head[2][2];
    u32 mins[2][2];
    I32x4 high[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}}, low[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    UNROLL for (u32 p = 0; p < 2; p++) {
        u32 scales[2][2];
        UNROLL for (u32 c = 0; c < 2; c++) {
            Words4 words[2];
            Words2 fifth[2][2]; // of the two sub-blocks
            if (c == 0) arrive();
            else sync_warp(); // keeps the compiler from loading everything at once
            UNROLL for (u32 tile = 0; tile < 2; tile++) {
                words[tile] = load_lines<FORMAT>(ring, tile, 256 + p * 256 + c * 1024);
                UNROLL for (u32 r = 0; r < 2; r++) {
                    u32 at = tile * step_bytes(FORMAT) + r * 128;
                    if (c == 0 && p == 0) {
                        head[tile][r] = load_shared<Words4>(ring.row, at);
                        mins[tile][r] = min_pair(head[tile][r], t);
                    }
                    if (c == 0) scales[tile][r] = (p == 0 ? head[tile][r].y : head[tile][r].z) & 0x3f3f3f3fu;
                    if (FORMAT == Q5_K) fifth[tile][r] = load_shared<Words2>(ring.row, at + 2304 + p * 256 + c * 8);
                }
            }
            if (c == 1) refill<FORMAT>(ring, p);
            UNROLL for (u32 k = 0; k < 2; k++) {
                Words4 b = load_input<MODE>(input, 4 * c + 2 * k + p);
                UNROLL for (u32 tile = 0; tile < 2; tile++) {
                    u32 w = k == 0 ? words[tile].x : words[tile].z, w8 = k == 0 ? words[tile].y : words[tile].w;
                    u32 a0 = w & 0x0f0f0f0fu, a1 = w8 & 0x0f0f0f0fu, a2 = w >> 4 & 0x0f0f0f0fu, a3 = w8 >> 4 & 0x0f0f0f0fu;
                    if (FORMAT == Q5_K) {
                        // Bit t of a byte belongs to the low nibble, bit 4 + t to the high one.
                        u32 bits = k == 0 ? fifth[tile][0].x : fifth[tile][0].y;
                        u32 bits8 = k == 0 ? fifth[tile][1].x : fifth[tile][1].y;
                        a0 = and_or(bits << (4 - t), 0x10101010u, a0), a1 = and_or(bits8 << (4 - t), 0x10101010u, a1);
                        a2 = and_or(bits >> t, 0x10101010u, a2), a3 = and_or(bits8 >> t, 0x10101010u, a3);
                    }
                    I32x4 h, l;
                    multiply<MODE, false>(h, l, a0, a1, a2, a3, b);
                    u32 pick = 0x4440 | (2 * c + k);
                    i32 scale = static_cast<i32>(pick_bytes(scales[tile][0], 0, pick));
                    i32 scale8 = static_cast<i32>(pick_bytes(scales[tile][1], 0, pick));
                    add_scaled(high[tile], h, scale, scale8);
                    if (MODE == EXACT) add_scaled(low[tile], l, scale, scale8);
                }
            }
        }
    }
    Words4 info = load_words<Words4>(info_of<MODE>(input));
    Floats2 dx = {bits_to_float(info.z), bits_to_float(info.w)};
    UNROLL for (u32 tile = 0; tile < 2; tile++) {
        F32x4 less = {0, 0, 0, 0};
        mma_f16(less, mins[tile][0], mins[tile][1], mins[tile][0], mins[tile][1], info.x, info.y);
        float d = half_low(head[tile][0].x), dmin = half_high(head[tile][0].x);
        float d8 = half_low(head[tile][1].x), dmin8 = half_high(head[tile][1].x);
        sum[tile].x += (joined<MODE>(high[tile].x, low[tile].x) * d - less.x * dmin) * dx.x;
        sum[tile].y += (joined<MODE>(high[tile].y, low[tile].y) * d - less.y * dmin) * dx.y;
        sum[tile].z += (joined<MODE>(high[tile].z, low[tile].z) * d8 - less.z * dmin8) * dx.x;
        sum[tile].w += (joined<MODE>(high[tile].w, low[tile].w) * d8 - less.w * dmin8) * dx.y;
    }
}
template <Mode MODE> DEVICE void multiply_step(Tag<Q4_K>, const Ring &ring, const Input &input, F32x4 (&sum)[2]) {
    multiply_mins<Q4_K, MODE>(ring, input, sum);
}
template <Mode MODE> DEVICE void multiply_step(Tag<Q5_K>, const Ring &ring, const Input &input, F32x4 (&sum)[2]) {
    multiply_mins<Q5_K, MODE>(ring, input, sum);
}
