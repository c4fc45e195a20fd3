#!/usr/bin/env python3
"""Measure what bounds decode on the GPU this process sees: read bandwidth and the cost of launches.

    roof.py [--gigabytes 4] [--json LINES] [--label WORDS] [--dry-run]

Run it as it is for the whole GPU and through eight_sm.sh for eight SMs. A kernel of 1024-thread blocks
reads a buffer far larger than the second cache, 16 bytes a thread at a time with several in flight,
and keeps a sum so that nothing is left out. Times are medians between device events. Also read: a buffer
that fits the second cache, many times over. Needs CuPy; --dry-run computes the same sums with numpy
on a small buffer, to try the script where there is no GPU.
"""

import argparse
import json
import statistics
import time

import numpy as np

SOURCE = r"""
extern "C" __global__ void __launch_bounds__(1024)
read_all(const uint4* __restrict__ data, unsigned long long count, unsigned* __restrict__ sums) {
    const unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    unsigned sum = 0;
    for (; i + 7 * step < count; i += 8 * step) {
        uint4 v[8];
#pragma unroll
        for (int k = 0; k < 8; ++k) v[k] = data[i + k * step];
#pragma unroll
        for (int k = 0; k < 8; ++k) sum += v[k].x + v[k].y + v[k].z + v[k].w;
    }
    for (; i < count; i += step) { uint4 v = data[i]; sum += v.x + v.y + v.z + v.w; }
    atomicAdd(sums, sum);
}
extern "C" __global__ void nothing(unsigned* sums) { if (sums == nullptr) sums[0] = 1; }
"""


class Gpu:
    """CuPy's side of the measurements."""

    def __init__(self):
        import cupy

        self.cupy = cupy
        module = cupy.RawModule(code=SOURCE, options=("-std=c++17",))
        self.read_all, self.nothing = module.get_function("read_all"), module.get_function("nothing")
        facts = cupy.cuda.runtime.getDeviceProperties(0)
        self.name, self.sms, self.cache = facts["name"].decode(), facts["multiProcessorCount"], facts["l2CacheSize"]
        self.sums = cupy.zeros(1, cupy.uint32)

    def buffer(self, bytes_):
        # Knuth's multiplicative hash of the index: every word differs.
        return self.cupy.arange(bytes_ // 4, dtype=self.cupy.uint32) * self.cupy.uint32(2654435761)

    def milliseconds(self, work, runs=9):
        """Median time of `work` on the stream, after two warm-ups."""
        cuda, times = self.cupy.cuda, []
        for run in range(runs + 2):
            begin, end = cuda.Event(), cuda.Event()
            begin.record()
            work()
            end.record()
            end.synchronize()
            if run >= 2:
                times.append(cuda.get_elapsed_time(begin, end))
        return statistics.median(times)

    def read(self, data, blocks, times=1):
        """Gigabytes a second of reading `data` so many times over."""
        count = np.uint64(data.nbytes // 16)

        def work():
            for _ in range(times):
                self.read_all((blocks,), (1024,), (data, count, self.sums))

        self.check(data, blocks, count)
        return times * data.nbytes / 1e6 / self.milliseconds(work)

    def check(self, data, blocks, count):
        """The kernel's sum is that of the buffer, modulo 2^32."""
        self.sums.fill(0)
        self.read_all((blocks,), (1024,), (data, count, self.sums))
        expected = int(data.sum(dtype=self.cupy.uint64)) % (1 << 32)
        if int(self.sums[0]) != expected:
            raise SystemExit(f"{blocks} blocks read {int(self.sums[0])}, the buffer adds up to {expected}")

    def launches(self, count=1000):
        """Microseconds of an empty kernel: one after another on a stream, and as nodes of a graph."""
        cuda = self.cupy.cuda

        def work():
            for _ in range(count):
                self.nothing((1,), (32,), (self.sums,))

        stream = self.milliseconds(work) * 1e3 / count
        side = cuda.Stream(non_blocking=True)
        with side:
            side.begin_capture()
            work()
            graph = side.end_capture()
        return stream, self.milliseconds(graph.launch) * 1e3 / count


class Numpy:
    """The same, on the processor, to try the script."""

    name, sms, cache = "dry run: the processor", 2, 1 << 20

    def buffer(self, bytes_):
        return np.random.default_rng(1).integers(0, 1 << 32, bytes_ // 4, np.uint32)

    def read(self, data, blocks, times=1):
        begin = time.perf_counter()
        for _ in range(times):
            data.sum(dtype=np.uint64)
        return times * data.nbytes / 1e9 / (time.perf_counter() - begin)

    def launches(self):
        return 0.0, 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--json", help="append the results to this file, one line")
    parser.add_argument("--label", default="")
    parser.add_argument("--dry-run", action="store_true")
    asked = parser.parse_args()
    gpu = Numpy() if asked.dry_run else Gpu()
    bytes_ = int((1 << 24) if asked.dry_run else asked.gigabytes * (1 << 30)) // 4096 * 4096
    print(f"{asked.label or 'GPU'}: {gpu.name}, {gpu.sms} SMs, {gpu.cache >> 20} MiB of second cache")
    data = gpu.buffer(bytes_)
    rates = {}
    for blocks in sorted({1, 2, 4, 8, 16, gpu.sms // 4, gpu.sms // 2, gpu.sms, 2 * gpu.sms} - {0}):
        # A tenth of the buffer is plenty for a few blocks.
        part = data if blocks >= 8 else data[: data.size // 40 * 4]
        rates[blocks] = gpu.read(part, blocks)
        print(f"  {blocks:4} blocks of 1024: {rates[blocks]:7.0f} GB/s")
    near = gpu.buffer(min(bytes_, gpu.cache // 4 // 4096 * 4096))
    cached = gpu.read(near, 2 * gpu.sms, 200)
    print(f"  from the second cache ({near.nbytes >> 20} MiB again and again): {cached:7.0f} GB/s")
    try:
        stream, node = gpu.launches()
        print(f"  empty kernel: {stream:.2f} us on a stream, {node:.2f} us as a node of a graph")
    except Exception as error:  # the figures above are worth keeping whatever happens to these two
        stream = node = None
        print(f"  empty kernel: not measured ({error})")
    if asked.json:
        line = dict(label=asked.label, name=gpu.name, sms=gpu.sms, bytes=bytes_, gbps=rates, cached_gbps=cached,
                    stream_us=stream, node_us=node)
        with open(asked.json, "a") as out:
            out.write(json.dumps(line) + "\n")


main()
