// A = softmax(cap(Q·Kᵀ · scale)) · V over the cached positions p of a row's slot with
// position - window < p <= position. See attend.cuh for the walk over pages.
//
// attend_W: few rows. All warps of a block work on one tile of 16 pairs and take turns at its pages; the
// splits of a tile (grid.x) share the pages in runs, told by the positions on the device, so that one graph
// serves every length. The last block of a tile to arrive adds the partial results in the order of splits.
// Fused, a row's K and V are turned and stored by the block that reads their page.
// prefill_W: many rows. A warp has a tile of its own and walks all its pages; four tiles of a block follow
// each other, so that the L1 serves most of what they read.
//
// attend_int8.cu and attend_int4.cu are the same over smaller caches.
//
// A page of one KV head in a warp, away from edges, without a cap or a new maximum; sm_87, NVRTC 12.6 (sm_90
// and nvcc 13 differ by 3 % at most). Bytes of cache per clock of an SM are at four instructions a clock, as
// fast as they issue; tensor cores of 1024 products a clock allow 128 for attend, 64 for prefill of two m-tiles.
//
//   width                    32    64    96   128   256
//   bytes of a page        4096  8192 12288 16384 32768
//   attend: instructions    146   178   208   238   366
//           registers       105   150   151   182   255
//           bytes per clock 112   184   236   275   358
//           under way, KiB    4     8     6     8     8   a warp
//   prefill: m-tiles          2     2     2     2     1
//           instructions    249   305   348   398   365
//           registers       159   217   226   255   255
#include "attend/f16.cuh"
#include "attend/kernels.cuh"

KERNEL(attend_32, AttendArgs, 128, 3) { attend<F16Walk<32, 1, 2>>(a); }
KERNEL(attend_64, AttendArgs, 128, 3) { attend<F16Walk<64, 1, 4>>(a); }
KERNEL(attend_96, AttendArgs, 128, 3) { attend<F16Walk<96, 1, 3>>(a); }
KERNEL(attend_128, AttendArgs, 128, 2) { attend<F16Walk<128, 1, 4>>(a); }
KERNEL(attend_256, AttendArgs, 128, 2) { attend<F16Walk<256, 1, 4>>(a); }

KERNEL(prefill_32, AttendArgs, 128, 2) { prefill<F16Walk<32, 2, 2>>(a); }
KERNEL(prefill_64, AttendArgs, 128, 2) { prefill<F16Walk<64, 2, 4>>(a); }
KERNEL(prefill_96, AttendArgs, 128, 2) { prefill<F16Walk<96, 2, 2>>(a); }
KERNEL(prefill_128, AttendArgs, 128, 2) { prefill<F16Walk<128, 2, 2>>(a); }
KERNEL(prefill_256, AttendArgs, 128, 2) { prefill<F16Walk<256, 1, 4>>(a); }
