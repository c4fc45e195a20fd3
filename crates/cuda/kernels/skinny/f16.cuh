// F16: f16 mma with the input as pairs of halves, x / dx = hi + lo: error 2^-22 of a value, products exact,
// sums in f32. COARSE takes hi alone: 2^-11. A step is half a column tile, so that two tiles need no more
// shared memory than those of other formats.
//
// ldmatrix gives lane (g, t) word t of 16 bytes (a "chunk") of row g: chunk c of a sub-block has columns 4c,
// 4c+2 | 4c+1, 4c+3 | 16+4c, 16+4c+2 | 16+4c+1, 16+4c+3. Chunks 0, 1 are one m16n8k16, chunks 2, 3 another;
// the input has the same order.
#pragma once

DEVICE void copy_group(Tag<F16>, u32 group, const Ring &ring) {
    UNROLL for (u32 i = 0; i < 4; i++) copy_lines<F16>(ring, group * 2048 + i * 512);
}

DEVICE void multiply_chunks(F32x4 &sum, const Words4 (&a)[2], const Words4 &b) {
    mma_f16(sum, a[0].x, a[0].y, a[0].z, a[0].w, b.x, b.y);
    mma_f16(sum, a[1].x, a[1].y, a[1].z, a[1].w, b.z, b.w);
}

template <Mode MODE> DEVICE void multiply_step(Tag<F16>, const Ring &ring, const Input &input, F32x4 (&sum)[2]) {
    Floats2 dx = load_words<Floats2>(input.packed);
    F32x4 part[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    UNROLL for (u32 group = 0; group < 2; group++) {
        Words4 hi[2], lo[2], words[2][2][2]; // [tile][sub-block][chunks 0, 1 | 2, 3]
        UNROLL for (u32 k = 0; k < 2; k++) {
            const u8 *at = input.words + (2 * group + k) * 1024;
            hi[k] = load_words<Words4>(at);
            if (MODE == EXACT) lo[k] = load_words<Words4>(at + 16);
        }
        arrive();
        UNROLL for (u32 tile = 0; tile < 2; tile++) {
            UNROLL for (u32 k = 0; k < 2; k++) {
                u32 at = (2 * group + k) * 1024;
                words[tile][k][0] = load_lines<F16>(ring, tile, at);
                words[tile][k][1] = load_lines<F16>(ring, tile, at + 512);
            }
        }
        refill<F16>(ring, group);
        UNROLL for (u32 k = 0; k < 2; k++) {
            UNROLL for (u32 tile = 0; tile < 2; tile++) {
                multiply_chunks(part[tile], words[tile][k], hi[k]);
                if (MODE == EXACT) multiply_chunks(part[tile], words[tile][k], lo[k]);
            }
        }
    }
    UNROLL for (u32 tile = 0; tile < 2; tile++) {
        sum[tile].x += part[tile].x * dx.x, sum[tile].y += part[tile].y * dx.y;
        sum[tile].z += part[tile].z * dx.x, sum[tile].w += part[tile].w * dx.y;
    }
}
