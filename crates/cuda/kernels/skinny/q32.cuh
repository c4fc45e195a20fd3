// Q8_0 and Q4_0: one half d for every 32 columns.
//
// Q4_0's q - 8 is made as a signed byte 16·(q - 8): the nibble in bits 4..7, the top bit turned over; d / 16
// makes up for it. Bound of a sub-block: 32 · 128 · 32640 = 1.3e8 < 2^31, so 256 h + l is exact in integers;
// one rounding to f32 a sub-block.
#pragma once

DEVICE void copy_group(Tag<Q8_0>, u32 p, const Ring &ring) {
    if (p == 0) copy_halves(ring, 0);
    UNROLL for (u32 j = 0; j < 4; j++) copy_lines<Q8_0>(ring, 256 + (2 * j + p) * 512);
}
DEVICE void copy_group(Tag<Q4_0>, u32 p, const Ring &ring) {
    if (p == 0) copy_halves(ring, 0);
    UNROLL for (u32 c = 0; c < 2; c++) copy_lines<Q4_0>(ring, 256 + p * 256 + c * 1024);
}

template <u32 FORMAT, Mode MODE> DEVICE void multiply_q32(const Ring &ring, const Input &input, F32x4 (&sum)[2]) {
    u32 turned = 0x80808080u;
    Words4 head[2][2]; // halves d of sub-blocks 2j + p at p * 4 + j
    F32x4 part[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    UNROLL for (u32 p = 0; p < 2; p++) {
        UNROLL for (u32 c = 0; c < 2; c++) {
            Words4 b[2] = {load_input<MODE>(input, 4 * c + p), load_input<MODE>(input, 4 * c + 2 + p)};
            Words4 words[2][2]; // Q8_0: [tile][sub-block]; Q4_0: [tile][0] has both
            if (c == 0) arrive();
            else sync_warp(); // keeps the compiler from loading everything at once
            UNROLL for (u32 tile = 0; tile < 2; tile++) {
                if (FORMAT == Q8_0) {
                    words[tile][0] = load_lines<FORMAT>(ring, tile, 256 + (4 * c + p) * 512);
                    words[tile][1] = load_lines<FORMAT>(ring, tile, 256 + (4 * c + 2 + p) * 512);
                } else {
                    words[tile][0] = load_lines<FORMAT>(ring, tile, 256 + p * 256 + c * 1024);
                }
                if (p == 0 && c == 0) {
                    head[tile][0] = load_shared<Words4>(ring.row, tile * step_bytes(FORMAT));
                    head[tile][1] = load_shared<Words4>(ring.row, tile * step_bytes(FORMAT) + 128);
                }
            }
            if (c == 1) refill<FORMAT>(ring, p);
            UNROLL for (u32 k = 0; k < 2; k++) {
                UNROLL for (u32 tile = 0; tile < 2; tile++) {
                    Words4 v = words[tile][FORMAT == Q8_0 ? k : 0];
                    if (FORMAT == Q4_0) {
                        u32 w = k == 0 ? v.x : v.z, w8 = k == 0 ? v.y : v.w;
                        v = {and_xor(w << 4, 0xf0f0f0f0u, turned), and_xor(w8 << 4, 0xf0f0f0f0u, turned),
                             and_xor(w, 0xf0f0f0f0u, turned), and_xor(w8, 0xf0f0f0f0u, turned)};
                    }
                    I32x4 h, l;
                    multiply<MODE, true>(h, l, v.x, v.y, v.z, v.w, b[k]);
                    if (MODE == EXACT) h = {h.x * 256 + l.x, h.y * 256 + l.y, h.z * 256 + l.z, h.w * 256 + l.w};
                    const Words4 &r = head[tile][0], &r8 = head[tile][1];
                    u32 pair = p == 0 ? (c == 0 ? r.x : r.y) : (c == 0 ? r.z : r.w);
                    u32 pair8 = p == 0 ? (c == 0 ? r8.x : r8.y) : (c == 0 ? r8.z : r8.w);
                    float d = k == 0 ? half_low(pair) : half_high(pair), d8 = k == 0 ? half_low(pair8) : half_high(pair8);
                    part[tile].x += static_cast<float>(h.x) * d, part[tile].y += static_cast<float>(h.y) * d;
                    part[tile].z += static_cast<float>(h.z) * d8, part[tile].w += static_cast<float>(h.w) * d8;
                }
            }
        }
    }
    Floats2 dx = load_words<Floats2>(info_of<MODE>(input) + 8);
    float unit = (MODE == COARSE ? 256.0f : 1.0f) * (FORMAT == Q4_0 ? 0.0625f : 1.0f);
    dx = {dx.x * unit, dx.y * unit};
    UNROLL for (u32 tile = 0; tile < 2; tile++) {
        sum[tile].x += part[tile].x * dx.x, sum[tile].y += part[tile].y * dx.y;
        sum[tile].z += part[tile].z * dx.x, sum[tile].w += part[tile].w * dx.y;
    }
}
template <Mode MODE> DEVICE void multiply_step(Tag<Q8_0>, const Ring &ring, const Input &input, F32x4 (&sum)[2]) {
    multiply_q32<Q8_0, MODE>(ring, input, sum);
}
template <Mode MODE> DEVICE void multiply_step(Tag<Q4_0>, const Ring &ring, const Input &input, F32x4 (&sum)[2]) {
    multiply_q32<Q4_0, MODE>(ring, input, sum);
}
