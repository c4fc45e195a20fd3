// Products for 2 to 8 rows; see skinny.cuh. Grid: half the row tiles of each output, rounded up (gated: the
// row tiles of one); threads: 32 for every part of the columns, at most the kernel's; shared memory: for every
// warp two row tiles of the format (F16: half of that).
#include "skinny.cuh"

// Up to eight rows: 12 warps of at most 168 registers on a multiprocessor; F16 needs fewer.
KERNEL(skinny_q4_k, SkinnyArgs, 384, 1) { skinny<Q4_K, EXACT>(a); }
KERNEL(skinny_q5_k, SkinnyArgs, 384, 1) { skinny<Q5_K, EXACT>(a); }
KERNEL(skinny_q6_k, SkinnyArgs, 384, 1) { skinny<Q6_K, EXACT>(a); }
KERNEL(skinny_q8_0, SkinnyArgs, 384, 1) { skinny<Q8_0, EXACT>(a); }
KERNEL(skinny_q4_0, SkinnyArgs, 384, 1) { skinny<Q4_0, EXACT>(a); }
KERNEL(skinny_f16, SkinnyArgs, 512, 1) { skinny<F16, EXACT>(a); }

// At most four rows: 16 warps of 128 registers; Q5_K needs more.
KERNEL(skinny4_q4_k, SkinnyArgs, 512, 1) { skinny<Q4_K, PACKED>(a); }
KERNEL(skinny4_q5_k, SkinnyArgs, 384, 1) { skinny<Q5_K, PACKED>(a); }
KERNEL(skinny4_q6_k, SkinnyArgs, 512, 1) { skinny<Q6_K, PACKED>(a); }
KERNEL(skinny4_q8_0, SkinnyArgs, 512, 1) { skinny<Q8_0, PACKED>(a); }
KERNEL(skinny4_q4_0, SkinnyArgs, 512, 1) { skinny<Q4_0, PACKED>(a); }
KERNEL(skinny4_f16, SkinnyArgs, 512, 1) { skinny<F16, PACKED>(a); }

// Inputs of 8 bits (F16: 11).
KERNEL(skinny8_q4_k, SkinnyArgs, 512, 1) { skinny<Q4_K, COARSE>(a); }
KERNEL(skinny8_q5_k, SkinnyArgs, 384, 1) { skinny<Q5_K, COARSE>(a); }
KERNEL(skinny8_q6_k, SkinnyArgs, 512, 1) { skinny<Q6_K, COARSE>(a); }
KERNEL(skinny8_q8_0, SkinnyArgs, 512, 1) { skinny<Q8_0, COARSE>(a); }
KERNEL(skinny8_q4_0, SkinnyArgs, 512, 1) { skinny<Q4_0, COARSE>(a); }
KERNEL(skinny8_f16, SkinnyArgs, 512, 1) { skinny<F16, COARSE>(a); }
