// attend.cu over a cache of nibbles: see attend/int4.cuh. The same table; what the walk costs beside the codes is
// that of bytes, so half the bytes are not twice as fast.
//
//   width                    32    64    96   128   256
//   bytes of a page        1280  2560  3840  5120 10240
//   attend: pairs             8     8     8     8     8
//           instructions    251   366   433   566   864
//           registers       101   127   168   168   245
//           bytes per clock  20    28    35    36    47
//           under way, KiB  1.3   2.5   3.8   5.0   2.5   a warp
//   prefill: pairs           32    32    32    16    16
//           instructions    628   825  1048   768  1271
//           registers       191   254   252   250   255
#include "attend/int4.cuh"
#include "attend/kernels.cuh"

KERNEL(attend_int4_32, AttendArgs, 128, 4) { attend<Int4Walk<32, 1, 2>>(a); }
KERNEL(attend_int4_64, AttendArgs, 128, 4) { attend<Int4Walk<64, 1, 4>>(a); }
KERNEL(attend_int4_96, AttendArgs, 128, 3) { attend<Int4Walk<96, 1, 6>>(a); }
KERNEL(attend_int4_128, AttendArgs, 128, 3) { attend<Int4Walk<128, 1, 8>>(a); }
KERNEL(attend_int4_256, AttendArgs, 128, 2) { attend<Int4Walk<256, 1, 4>>(a); }

KERNEL(prefill_int4_32, AttendArgs, 128, 2) { prefill<Int4Walk<32, 4, 1>>(a); }
KERNEL(prefill_int4_64, AttendArgs, 128, 2) { prefill<Int4Walk<64, 4, 2>>(a); }
KERNEL(prefill_int4_96, AttendArgs, 128, 2) { prefill<Int4Walk<96, 4, 1>>(a); }
KERNEL(prefill_int4_128, AttendArgs, 128, 2) { prefill<Int4Walk<128, 2, 4>>(a); }
KERNEL(prefill_int4_256, AttendArgs, 128, 2) { prefill<Int4Walk<256, 2, 2>>(a); }
