// Products for 2 to 8 rows; see skinny.cuh. Grid: any number of blocks; threads: 32 for every part of
// the columns, at most the kernel's; shared memory: for every warp two row tiles of the larger format (F16: half of
// that) and 1152 bytes.
#include "skinny.cuh"

// Up to eight rows: 12 warps of at most 168 registers on a multiprocessor; F16 needs fewer.
KERNEL(skinny_q4_k, SkinnyArgs, 384, 1) { skinny<EXACT, Q4_K>(a); }
KERNEL(skinny_q5_k, SkinnyArgs, 384, 1) { skinny<EXACT, Q5_K>(a); }
KERNEL(skinny_q6_k, SkinnyArgs, 384, 1) { skinny<EXACT, Q6_K>(a); }
KERNEL(skinny_q8_0, SkinnyArgs, 384, 1) { skinny<EXACT, Q8_0>(a); }
KERNEL(skinny_q4_0, SkinnyArgs, 384, 1) { skinny<EXACT, Q4_0>(a); }
KERNEL(skinny_f16, SkinnyArgs, 512, 1) { skinny<EXACT, F16>(a); }
KERNEL(skinny_q4_k_q6_k, SkinnyArgs, 384, 1) { skinny<EXACT, Q4_K, Q6_K>(a); }

// At most four rows: 16 warps of 128 registers; Q5_K needs more.
KERNEL(skinny4_q4_k, SkinnyArgs, 512, 1) { skinny<PACKED, Q4_K>(a); }
KERNEL(skinny4_q5_k, SkinnyArgs, 384, 1) { skinny<PACKED, Q5_K>(a); }
KERNEL(skinny4_q6_k, SkinnyArgs, 512, 1) { skinny<PACKED, Q6_K>(a); }
KERNEL(skinny4_q8_0, SkinnyArgs, 512, 1) { skinny<PACKED, Q8_0>(a); }
KERNEL(skinny4_q4_0, SkinnyArgs, 512, 1) { skinny<PACKED, Q4_0>(a); }
KERNEL(skinny4_f16, SkinnyArgs, 512, 1) { skinny<PACKED, F16>(a); }
KERNEL(skinny4_q4_k_q6_k, SkinnyArgs, 512, 1) { skinny<PACKED, Q4_K, Q6_K>(a); }

// Inputs of 8 bits (F16: 11).
KERNEL(skinny8_q4_k, SkinnyArgs, 512, 1) { skinny<COARSE, Q4_K>(a); }
KERNEL(skinny8_q5_k, SkinnyArgs, 384, 1) { skinny<COARSE, Q5_K>(a); }
KERNEL(skinny8_q6_k, SkinnyArgs, 512, 1) { skinny<COARSE, Q6_K>(a); }
KERNEL(skinny8_q8_0, SkinnyArgs, 512, 1) { skinny<COARSE, Q8_0>(a); }
KERNEL(skinny8_q4_0, SkinnyArgs, 512, 1) { skinny<COARSE, Q4_0>(a); }
KERNEL(skinny8_f16, SkinnyArgs, 512, 1) { skinny<COARSE, F16>(a); }
