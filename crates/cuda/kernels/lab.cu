// Kernels that test the ground the others stand on: launches, arguments, shared memory, warps. Not part of
// any model; a few hundred bytes of code.
#include "prelude.cuh"

struct LabCount {
    u32 *out;
    u32 count, add;
};

// out[i] += i + add for i < count: one thread an element.
KERNEL(lab_count, LabCount, 256, 1) {
    u32 i = block_x() * threads() + tid();
    if (i < a.count) a.out[i] += i + a.add;
}

struct LabTurn {
    const float *in;
    float *out;
    float *sums;
};

// Each block turns its own 128 values round through shared memory and sums each warp's: sums[block][warp].
// Needs 512 bytes of shared memory.
KERNEL(lab_turn, LabTurn, 128, 1) {
    float *values = shared<float>(0);
    u32 base = block_x() * 128;
    values[tid()] = a.in[base + tid()];
    sync_block();
    a.out[base + tid()] = values[127 - tid()];
    float sum = values[tid()];
    UNROLL
    for (u32 mask = 16; mask > 0; mask /= 2) sum += shfl_xor(sum, mask);
    if (lane() == 0) a.sums[block_x() * 4 + warp()] = sum;
}
