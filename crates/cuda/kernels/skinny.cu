// Products for 2 to 8 rows; see skinny.cuh. Grid: ceil(units / (threads / 32 / parts)); threads: a multiple of
// 32 · parts, at most 256; shared memory: threads / 32 times twice a step's bytes of a tile.
#include "skinny.cuh"

KERNEL(skinny_q4_k, SkinnyArgs, 256, 2) { skinny<Q4_K, EXACT>(a); }
KERNEL(skinny_q5_k, SkinnyArgs, 256, 2) { skinny<Q5_K, EXACT>(a); }
KERNEL(skinny_q6_k, SkinnyArgs, 256, 2) { skinny<Q6_K, EXACT>(a); }
KERNEL(skinny_q8_0, SkinnyArgs, 256, 2) { skinny<Q8_0, EXACT>(a); }
KERNEL(skinny_q4_0, SkinnyArgs, 256, 2) { skinny<Q4_0, EXACT>(a); }
KERNEL(skinny_f16, SkinnyArgs, 256, 2) { skinny<F16, EXACT>(a); }

// At most four rows.
KERNEL(skinny4_q4_k, SkinnyArgs, 256, 2) { skinny<Q4_K, PACKED>(a); }
KERNEL(skinny4_q5_k, SkinnyArgs, 256, 2) { skinny<Q5_K, PACKED>(a); }
KERNEL(skinny4_q6_k, SkinnyArgs, 256, 2) { skinny<Q6_K, PACKED>(a); }
KERNEL(skinny4_q8_0, SkinnyArgs, 256, 2) { skinny<Q8_0, PACKED>(a); }
KERNEL(skinny4_q4_0, SkinnyArgs, 256, 2) { skinny<Q4_0, PACKED>(a); }
KERNEL(skinny4_f16, SkinnyArgs, 256, 2) { skinny<F16, PACKED>(a); }

// Inputs of 8 bits (F16: 11).
KERNEL(skinny8_q4_k, SkinnyArgs, 256, 2) { skinny<Q4_K, COARSE>(a); }
KERNEL(skinny8_q5_k, SkinnyArgs, 256, 2) { skinny<Q5_K, COARSE>(a); }
KERNEL(skinny8_q6_k, SkinnyArgs, 256, 2) { skinny<Q6_K, COARSE>(a); }
KERNEL(skinny8_q8_0, SkinnyArgs, 256, 2) { skinny<Q8_0, COARSE>(a); }
KERNEL(skinny8_q4_0, SkinnyArgs, 256, 2) { skinny<Q4_0, COARSE>(a); }
KERNEL(skinny8_f16, SkinnyArgs, 256, 2) { skinny<F16, COARSE>(a); }
