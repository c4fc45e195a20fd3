// attend.cu over a cache of bytes: see attend/int8.cuh. The same table:
//
//   width                    32    64    96   128   256
//   bytes of a page        2176  4224  6272  8320 16512
//   attend: pairs             8     8     8     8     8
//           instructions    178   221   278   316   503
//           registers        86   128   161   168   253
//           bytes per clock  49    76    90   105   131
//           under way, KiB    2     4     6     8    16   a warp: a whole page
//   prefill: pairs           32    32    32    32    16
//           instructions    450   522   594   679   654
//           registers       155   195   238   255   255
#include "attend/int8.cuh"
#include "attend/kernels.cuh"

KERNEL(attend_int8_32, AttendArgs, 128, 4) { attend<Int8Walk<32, 1, 2>>(a); }
KERNEL(attend_int8_64, AttendArgs, 128, 4) { attend<Int8Walk<64, 1, 4>>(a); }
KERNEL(attend_int8_96, AttendArgs, 128, 3) { attend<Int8Walk<96, 1, 6>>(a); }
KERNEL(attend_int8_128, AttendArgs, 128, 3) { attend<Int8Walk<128, 1, 8>>(a); }
KERNEL(attend_int8_256, AttendArgs, 128, 2) { attend<Int8Walk<256, 1, 16>>(a); }

KERNEL(prefill_int8_32, AttendArgs, 128, 2) { prefill<Int8Walk<32, 4, 1>>(a); }
KERNEL(prefill_int8_64, AttendArgs, 128, 2) { prefill<Int8Walk<64, 4, 2>>(a); }
KERNEL(prefill_int8_96, AttendArgs, 128, 2) { prefill<Int8Walk<96, 4, 3>>(a); }
KERNEL(prefill_int8_128, AttendArgs, 128, 2) { prefill<Int8Walk<128, 4, 2>>(a); }
KERNEL(prefill_int8_256, AttendArgs, 128, 2) { prefill<Int8Walk<256, 2, 8>>(a); }
