// attend.cu over a cache of bytes.
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
