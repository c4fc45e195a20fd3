#!/usr/bin/env python3
"""Print how many multiprocessors (SMs) this process sees on GPU 0, asked of the driver itself."""

import ctypes
import sys

MULTIPROCESSOR_COUNT = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT


def from_driver():
    cuda = ctypes.CDLL("libcuda.so.1")

    def call(name, *arguments):
        code = getattr(cuda, name)(*arguments)
        if code != 0:
            raise OSError(f"{name} gave error {code}")

    count, device, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    # Under MPS the attribute is this client's share, which is settled when it has a context.
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuDeviceGetAttribute", ctypes.byref(count), MULTIPROCESSOR_COUNT, device)
    call("cuDevicePrimaryCtxRelease_v2", device)
    return count.value


def from_torch():
    import torch

    return torch.cuda.get_device_properties(0).multi_processor_count


try:
    print(from_driver())
except (OSError, AttributeError) as error:
    print(f"the driver did not say ({error}); asking torch", file=sys.stderr)
    print(from_torch())
