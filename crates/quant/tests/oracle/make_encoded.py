"""Writes rows.bin and FORMAT.encoded.bin beside this script: weights, and their bytes by others.

    pip install gguf numpy
    python make_encoded.py PATH/libggml-base.so

The library is llama.cpp's, built for plain x86-64: there its reference quantizers multiply and add
in two steps. Builds that contract them into one (aarch64, `-march=native`) choose other codes now
and then. F16 is numpy's conversion, BF16 that of the `gguf` package.

rows.bin is little-endian f32; FORMAT.encoded.bin are the encoded blocks of all its weights.
"""

import ctypes
import sys
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import quantize


def rows() -> np.ndarray:
    rng = np.random.default_rng(2)
    integers = np.round(rng.standard_normal((4, 256)) * 2)
    integers[0, 128:] = 0
    scaled = rng.standard_normal((16, 8, 32)) * np.exp(rng.uniform(-6, 6, (16, 8, 1)))
    return np.concatenate([
        np.zeros((1, 256)),
        np.full((1, 256), -3.0),
        np.full((1, 256), 5.0),
        integers,
        rng.standard_normal((16, 256)) * 0.02,  # as weights are
        rng.standard_t(2, (8, 256)),  # with outliers
        rng.random((4, 256)),  # no minimum below zero
        -rng.random((4, 256)),
        scaled.reshape(16, 256) * np.exp(rng.uniform(-20, 20, (16, 1))),  # half floats under- and overflow
        np.where(integers > 0, integers, np.copysign(0.0, integers)),  # zeros of both signs are the minimum
    ]).astype("<f4")


def main() -> None:
    ggml = ctypes.CDLL(sys.argv[1])
    folder = Path(__file__).parent
    x = rows()
    x.tofile(folder / "rows.bin")
    for name in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]:
        length, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        out = np.zeros(x.size // length * size, np.uint8)
        encode = getattr(ggml, f"quantize_row_q{name[1:]}_ref")
        encode(x.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(x.size))
        out.tofile(folder / f"{name}.encoded.bin")
    with np.errstate(over="ignore"):
        x.astype("<f2").tofile(folder / "F16.encoded.bin")
    quantize(x, GGMLQuantizationType.BF16).tofile(folder / "BF16.encoded.bin")


if __name__ == "__main__":
    main()
