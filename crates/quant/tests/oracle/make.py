"""Writes FORMAT.bin beside this script: random blocks and what the `gguf` package decodes them to.

    pip install gguf numpy
    python make.py              # the committed files
    python make.py DIR BLOCKS   # a larger set; QUANT_ORACLE=DIR points tests/oracle.rs at it

A file is little-endian: u32 number of blocks, the blocks' bytes, then one f32 a weight.

Bytes are uniformly random, so codes and packed scales take every value. Half-float scales are too
(a thirty-second of them is infinite or NaN, as many are subnormal or zero); on top, the first
blocks get the special scales of SPECIALS one by one.
"""

import sys
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

# Where each format keeps its half-float scales.
HALVES = {
    "F16": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0],
}
FORMATS = ["F32", "BF16", "MXFP4", *HALVES]
# Zeros, the smallest and largest subnormals, the smallest normal, one, the largest, infinities, NaNs.
SPECIALS = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0x7C00, 0xFC00,
            0x7E00, 0xFE00, 0x7C01, 0xFDFF]
# The same of BF16, and of F32 with 16 zero bits below.
WIDE_SPECIALS = [0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x0080, 0x3F80, 0xBF80, 0x7F7F, 0x7F80, 0xFF80,
                 0x7FC0, 0xFFC0, 0x7F81, 0xFFBF]


def blocks_of(name: str, count: int, rng: np.random.Generator) -> np.ndarray:
    length, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    special = [(scale, at) for scale in SPECIALS for at in HALVES.get(name, [])]
    for block, (scale, at) in zip(blocks, special):
        block[at], block[at + 1] = scale & 0xFF, scale >> 8
    if name in ("F32", "BF16"):
        wide = np.array(WIDE_SPECIALS, dtype="<u2").view(np.uint8).reshape(-1, 2)
        blocks[: len(wide), :-2] = 0
        blocks[: len(wide), -2:] = wide
    if name == "MXFP4":
        # Every exponent there is, the two subnormal ones and 255 among them.
        blocks[: min(count, 256), 0] = np.arange(min(count, 256))
    return blocks


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name in FORMATS:
        length, _ = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        # About 20 to 40 kB a file; MXFP4 needs a block for each exponent.
        count = int(sys.argv[2]) if len(sys.argv) > 2 else {1: 512, 32: 96, 256: 32}[length]
        if name == "MXFP4":
            count = max(count, 256)
        rng = np.random.default_rng([GGMLQuantizationType[name].value, count])
        blocks = blocks_of(name, count, rng)
        with np.errstate(all="ignore"):
            weights = dequantize(blocks, GGMLQuantizationType[name]).astype("<f4")
        assert weights.size == count * length
        with open(folder / f"{name}.bin", "wb") as file:
            file.write(np.uint32(count).astype("<u4").tobytes())
            file.write(blocks.tobytes())
            file.write(weights.tobytes())


if __name__ == "__main__":
    main()
