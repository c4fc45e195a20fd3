// Q6_K: w = d·scale·(q - 32), a signed scale for every 16 columns.
//
// q - 32 is made as a signed byte 4·(q - 32): the six bits in bits 2..7, the top one turned over; d / 4 makes
// up for it. Products of 16 columns: m16n8k16. Bound: 16 · 16 · 128 · 128 · 128 = 5.4e8 < 2^31: the sums of
// a tile are exact, one rounding to f32 a tile.
#pragma once

DEVICE void copy_group(Tag<Q6_K>, u32 p, const Ring &ring) {
    if (p == 0) {
        copy_halves(ring, 3072);
        if ((lane() & 15) < 2) copy_halves(ring, 3328); // d of 16 rows: 32 bytes of each tile
    }
    UNROLL for (u32 c = 0; c < 2; c++) {
        copy_lines<Q6_K>(ring, p * 256 + c * 1024);
        copy_halves(ring, 2048 + c * 512 + p * 256);
    }
}

// Byte `index` of a word, with its sign.
DEVICE i32 signed_byte(u32 word, u32 index) { return static_cast<i8>(word >> 8 * index); }

DEVICE u32 pair_word(const Words4 &v, u32 i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }
// Four bytes 4·(q - 32): low bits at 2..5 of `low`, high bits at 6, 7 of `high`, where bits 2t, 2t+1 are turned;
// what else came there from the neighbours is masked. `turned` is 0x80 four times.
DEVICE u32 six_bits(u32 low, u32 high, u32 turned) {
    return and_xor(high, 0xc0c0c0c0u, and_or(low, 0x3c3c3c3cu, turned));
}

template <Mode MODE> DEVICE void multiply_step(Tag<Q6_K>, const Ring &ring, const Input &input, F32x4 (&sum)[2]) {
    u32 turn = 6 - 2 * ring.t, turned = 0x80808080u;
    // Rows of 8 and of 2 bytes.
    u32 eight = ring.row - (lane() >> 2) * 8, two = ring.row - (lane() >> 2) * 14;
    I32x4 high[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}}, low[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    Words2 scales[2][2][2]; // [tile][row g, g + 8][parity]
    u16 d[2][2];
    UNROLL for (u32 p = 0; p < 2; p++) {
        UNROLL for (u32 c = 0; c < 2; c++) {
            Words4 b[2] = {load_input<MODE>(input, 4 * c + p), load_input<MODE>(input, 4 * c + 2 + p)};
            Words4 words[2], upper[2][2];
            if (c == 0) arrive();
            else sync_warp(); // keeps the compiler from loading everything at once
            UNROLL for (u32 tile = 0; tile < 2; tile++) {
                words[tile] = load_lines<Q6_K>(ring, tile, p * 256 + c * 1024);
                UNROLL for (u32 r = 0; r < 2; r++) {
                    u32 at = tile * step_bytes(Q6_K);
                    upper[tile][r] = load_shared<Words4>(ring.row, at + 2048 + c * 512 + p * 256 + r * 128);
                    if (p == 0 && c == 0) {
                        scales[tile][r][0] = load_shared<Words2>(eight, at + 3072 + r * 64);
                        scales[tile][r][1] = load_shared<Words2>(eight, at + 3200 + r * 64);
                        d[tile][r] = load_shared<u16>(two, at + 3328 + r * 16);
                    }
                }
            }
            if (c == 1) refill<Q6_K>(ring, p);
            UNROLL for (u32 k = 0; k < 2; k++) {
                UNROLL for (u32 tile = 0; tile < 2; tile++) {
                    u32 w = k == 0 ? words[tile].x : words[tile].z, w8 = k == 0 ? words[tile].y : words[tile].w;
                    u32 a0 = six_bits(w << 2, rotate_left(pair_word(upper[tile][0], 2 * k), turn), turned);
                    u32 a1 = six_bits(w8 << 2, rotate_left(pair_word(upper[tile][1], 2 * k), turn), turned);
                    u32 a2 = six_bits(w >> 2, rotate_left(pair_word(upper[tile][0], 2 * k + 1), turn), turned);
                    u32 a3 = six_bits(w8 >> 2, rotate_left(pair_word(upper[tile][1], 2 * k + 1), turn), turned);
                    u32 s = c == 0 ? scales[tile][0][p].x : scales[tile][0][p].y;
                    u32 s8 = c == 0 ? scales[tile][1][p].x : scales[tile][1][p].y;
                    UNROLL for (u32 half = 0; half < 2; half++) {
                        i32 scale = signed_byte(s, 2 * k + half), scale8 = signed_byte(s8, 2 * k + half);
                        u32 a = half == 0 ? a0 : a2, a8 = half == 0 ? a1 : a3;
                        I32x4 h = {0, 0, 0, 0}, l = {0, 0, 0, 0};
                        mma_ss_k16(h, a, a8, half == 0 ? b[k].x : b[k].y);
                        add_scaled(high[tile], h, scale, scale8);
                        if (MODE == EXACT) {
                            mma_ss_k16(l, a, a8, half == 0 ? b[k].z : b[k].w);
                            add_scaled(low[tile], l, scale, scale8);
                        }
                    }
                }
            }
        }
    }
    Floats2 dx = load_words<Floats2>(info_of<MODE>(input) + 8);
    UNROLL for (u32 tile = 0; tile < 2; tile++) {
        float f = half_to_float(d[tile][0]) * 0.25f, f8 = half_to_float(d[tile][1]) * 0.25f;
        sum[tile].x += joined<MODE>(high[tile].x, low[tile].x) * f * dx.x;
        sum[tile].y += joined<MODE>(high[tile].y, low[tile].y) * f * dx.y;
        sum[tile].z += joined<MODE>(high[tile].z, low[tile].z) * f8 * dx.x;
        sum[tile].w += joined<MODE>(high[tile].w, low[tile].w) * f8 * dx.y;
    }
}
