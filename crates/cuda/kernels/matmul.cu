// Prefill products, a kernel a format and a size of block; see matmul.cuh.
//   matmul_F     128 rows x 128 tokens, 4 warps of 64 x 64, two blocks on an SM
//   matmul_F_64   64 rows x  64 tokens, 4 warps of 32 x 64, two of them on each half of the columns, three blocks
//   matmul_F_32   64 rows x  32 tokens, 4 warps of 32 x 32, two of them on each half of the columns
// Instructions issued for one mma in the loop (sm_90, NVRTC 12.6; sm_87 within 2 %; the tensor cores take an
// mma every 6.6 clocks of a scheduler there, every 8 on sm_87):
//          q4_k  q5_k  q6_k  q8_0  q4_0  f16
//   F       3.9   4.9   5.4   4.0   3.6  3.3
//   F_64    5.7   6.6   7.6   5.6   5.1  5.1
//   F_32    9.2  11.7  12.8   9.1   8.4  8.1
// Of 3.9: 1 mma, 1.6 turn nibbles into weights, 0.3 load fragments, 0.25 decode scales, 0.7 copy and count.
// Wavefronts of shared memory for one mma of F: 1.0 of the 1.6 clocks an SM has for it.
#include "matmul.cuh"
#include "dequant/f16.cuh"
#include "dequant/q4_0.cuh"
#include "dequant/q4_k.cuh"
#include "dequant/q5_k.cuh"
#include "dequant/q6_k.cuh"
#include "dequant/q8_0.cuh"

KERNEL(matmul_q4_k, MatmulArgs, 128, 2) { Matmul<DequantQ4K, 2, 2, 1, 4, 8, 3>(a).run(); }
KERNEL(matmul_q5_k, MatmulArgs, 128, 2) { Matmul<DequantQ5K, 2, 2, 1, 4, 8, 3>(a).run(); }
KERNEL(matmul_q6_k, MatmulArgs, 128, 2) { Matmul<DequantQ6K, 2, 2, 1, 4, 8, 3>(a).run(); }
KERNEL(matmul_q8_0, MatmulArgs, 128, 2) { Matmul<DequantQ8, 2, 2, 1, 4, 8, 2>(a).run(); }
KERNEL(matmul_q4_0, MatmulArgs, 128, 2) { Matmul<DequantQ4, 2, 2, 1, 4, 8, 3>(a).run(); }
KERNEL(matmul_f16, MatmulArgs, 128, 2) { Matmul<DequantF16, 2, 2, 1, 4, 8, 2>(a).run(); }

KERNEL(matmul_q4_k_64, MatmulArgs, 128, 3) { Matmul<DequantQ4K, 2, 1, 2, 2, 8, 3>(a).run(); }
KERNEL(matmul_q5_k_64, MatmulArgs, 128, 3) { Matmul<DequantQ5K, 2, 1, 2, 2, 8, 3>(a).run(); }
KERNEL(matmul_q6_k_64, MatmulArgs, 128, 3) { Matmul<DequantQ6K, 2, 1, 2, 2, 8, 3>(a).run(); }
KERNEL(matmul_q8_0_64, MatmulArgs, 128, 3) { Matmul<DequantQ8, 2, 1, 2, 2, 8, 3>(a).run(); }
KERNEL(matmul_q4_0_64, MatmulArgs, 128, 3) { Matmul<DequantQ4, 2, 1, 2, 2, 8, 3>(a).run(); }
KERNEL(matmul_f16_64, MatmulArgs, 128, 3) { Matmul<DequantF16, 2, 1, 2, 2, 8, 3>(a).run(); }

KERNEL(matmul_q4_k_32, MatmulArgs, 128, 3) { Matmul<DequantQ4K, 2, 1, 2, 2, 4, 3>(a).run(); }
KERNEL(matmul_q5_k_32, MatmulArgs, 128, 3) { Matmul<DequantQ5K, 2, 1, 2, 2, 4, 3>(a).run(); }
KERNEL(matmul_q6_k_32, MatmulArgs, 128, 3) { Matmul<DequantQ6K, 2, 1, 2, 2, 4, 3>(a).run(); }
KERNEL(matmul_q8_0_32, MatmulArgs, 128, 3) { Matmul<DequantQ8, 2, 1, 2, 2, 4, 3>(a).run(); }
KERNEL(matmul_q4_0_32, MatmulArgs, 128, 3) { Matmul<DequantQ4, 2, 1, 2, 2, 4, 3>(a).run(); }
KERNEL(matmul_f16_32, MatmulArgs, 128, 3) { Matmul<DequantF16, 2, 1, 2, 2, 4, 3>(a).run(); }
