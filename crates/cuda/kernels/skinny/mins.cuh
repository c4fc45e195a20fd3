// Q4_K and Q5_K: w = d·sc·q - dmin·m, sc and m of 6 bits for every 32 columns.
//
// The products of a sub-block are multiplied by sc in integers and added up over a tile. Bounds of Q5_K
// (q <= 31, |h| <= 127, |l| <= 128): |sum| <= 8 · 32 · 31 · 128 · 63 = 6.4e7 < 2^31, so they are exact; one
// rounding to f32 a tile. The mins of a row times the sums of the input's sub-blocks are one f16 mma a tile: the
// mins are integers (times 16, at most 1008), the sums come as pairs of halves: 2^-22 of the largest.
#pragma once

DEVICE void copy_group(Tag<Q4_K>, u32 group, const Ring &ring) {
    u32 p = (group - 1) / 2, c = (group - 1) % 2;
    if (group == 0) copy_halves(ring, 0);
    else copy_lines<Q4_K>(ring, 256 + (4 * c + p) * 256);
}
DEVICE void copy_group(Tag<Q5_K>, u32 group, const Ring &ring) {
    u32 p = (group - 1) / 2, c = (group - 1) % 2;
    if (group == 0) copy_halves(ring, 0);
    else copy_lines<Q5_K>(ring, 256 + (4 * c + p) * 256);
    if (group == 1 || group == 3) copy_halves(ring, 2304 + p * 256);
}

// 16·m of sub-blocks 2t and 2t+1 as halves, from the header of a row.
DEVICE u32 min_pair(const Words4 &head, u32 t) {
    u32 upper = pick_bytes(head.y, head.z, t | (t + 4) << 8); // their two high bits in bits 6, 7 of bytes 0, 2
    u32 lower = pick_bytes(head.w, 0, 0x4440 | t) * 0x1001u;  // their four low bits in bits 0..3 and 16..19
    u32 both = (upper >> 2 & 0x00300030u) | (lower & 0x000f000fu);
    return halves_fma(both | 0x64006400u, 0x4c004c00u, 0xf400f400u); // (1024 + m) · 16 - 16384
}

template <u32 FORMAT, Mode MODE> DEVICE void multiply_mins(const Ring &ring, const Input &input, F32x4 (&sum)[2]) {
    u32 g = lane() >> 2, t = lane() & 3;
    Words4 info = load_words<Words4>(input.info);
    arrive<FORMAT>();
    Words4 head[2][2];
    UNROLL for (u32 tile = 0; tile < 2; tile++) {
        const u8 *at = tile_of<FORMAT>(ring, tile) + g * 16;
        head[tile][0] = load_words<Words4>(at), head[tile][1] = load_words<Words4>(at + 128);
    }
    refill<FORMAT>(ring, 0);
    F32x4 mins[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    UNROLL for (u32 tile = 0; tile < 2; tile++) {
        u32 m = min_pair(head[tile][0], t), m8 = min_pair(head[tile][1], t);
        mma_f16(mins[tile], m, m8, m, m8, info.x, info.y);
    }

    I32x4 high[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}}, low[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    UNROLL for (u32 p = 0; p < 2; p++) {
        u32 scales[2][2];
        UNROLL for (u32 tile = 0; tile < 2; tile++) {
            UNROLL for (u32 r = 0; r < 2; r++) scales[tile][r] = (p == 0 ? head[tile][r].y : head[tile][r].z) & 0x3f3f3f3fu;
        }
        Words4 fifth[2][2];
        UNROLL for (u32 c = 0; c < 2; c++) {
            Words4 b[2] = {load_input<MODE>(input, 4 * c + p), load_input<MODE>(input, 4 * c + 2 + p)};
            Words4 words[2];
            arrive<FORMAT>();
            UNROLL for (u32 tile = 0; tile < 2; tile++) {
                const u8 *at = tile_of<FORMAT>(ring, tile);
                words[tile] = load_lines<FORMAT>(ring, tile, 256 + (4 * c + p) * 256);
                if (FORMAT == Q5_K && c == 0) {
                    fifth[tile][0] = load_words<Words4>(at + 2304 + p * 256 + g * 16);
                    fifth[tile][1] = load_words<Words4>(at + 2304 + p * 256 + g * 16 + 128);
                }
            }
            refill<FORMAT>(ring, 1 + 2 * p + c);
            UNROLL for (u32 k = 0; k < 2; k++) {
                UNROLL for (u32 tile = 0; tile < 2; tile++) {
                    u32 w = k == 0 ? words[tile].x : words[tile].z, w8 = k == 0 ? words[tile].y : words[tile].w;
                    u32 a0 = w & 0x0f0f0f0fu, a1 = w8 & 0x0f0f0f0fu, a2 = w >> 4 & 0x0f0f0f0fu, a3 = w8 >> 4 & 0x0f0f0f0fu;
                    if (FORMAT == Q5_K) {
                        // Bit t of a byte belongs to the low nibble, bit 4 + t to the high one.
                        const Words4 &f = fifth[tile][0], &f8 = fifth[tile][1];
                        u32 bits = c == 0 ? (k == 0 ? f.x : f.y) : (k == 0 ? f.z : f.w);
                        u32 bits8 = c == 0 ? (k == 0 ? f8.x : f8.y) : (k == 0 ? f8.z : f8.w);
                        a0 |= bits << (4 - t) & 0x10101010u, a1 |= bits8 << (4 - t) & 0x10101010u;
                        a2 |= bits >> t & 0x10101010u, a3 |= bits8 >> t & 0x10101010u;
                    }
                    I32x4 h, l;
                    multiply<MODE, false>(h, l, a0, a1, a2, a3, b[k]);
                    u32 pick = 0x4440 | (2 * c + k);
                    i32 scale = static_cast<i32>(pick_bytes(scales[tile][0], 0, pick));
                    i32 scale8 = static_cast<i32>(pick_bytes(scales[tile][1], 0, pick));
                    add_scaled(high[tile], h, scale, scale8);
                    if (MODE == EXACT) add_scaled(low[tile], l, scale, scale8);
                }
            }
        }
    }
    Floats2 dx = {bits_to_float(info.z), bits_to_float(info.w)};
    UNROLL for (u32 tile = 0; tile < 2; tile++) {
        float d = half_low(head[tile][0].x), dmin = half_high(head[tile][0].x);
        float d8 = half_low(head[tile][1].x), dmin8 = half_high(head[tile][1].x);
        sum[tile].x += (joined<MODE>(high[tile].x, low[tile].x) * d - mins[tile].x * dmin) * dx.x;
        sum[tile].y += (joined<MODE>(high[tile].y, low[tile].y) * d - mins[tile].y * dmin) * dx.y;
        sum[tile].z += (joined<MODE>(high[tile].z, low[tile].z) * d8 - mins[tile].z * dmin8) * dx.x;
        sum[tile].w += (joined<MODE>(high[tile].w, low[tile].w) * d8 - mins[tile].w * dmin8) * dx.y;
    }
}
template <Mode MODE> DEVICE void multiply_step(Tag<Q4_K>, const Ring &ring, const Input &input, F32x4 (&sum)[2]) {
    multiply_mins<Q4_K, MODE>(ring, input, sum);
}
template <Mode MODE> DEVICE void multiply_step(Tag<Q5_K>, const Ring &ring, const Input &input, F32x4 (&sum)[2]) {
    multiply_mins<Q5_K, MODE>(ring, input, sum);
}
