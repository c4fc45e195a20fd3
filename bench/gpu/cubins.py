#!/usr/bin/env python3
"""Say for which GPUs a program carries kernels, and fail where one carries none for ARCH.

    cubins.py ARCH PROGRAM ...

A cubin is an ELF file of machine 190 inside the program. Its flags hold the architecture: in the lowest
byte up to CUDA 12, in the one above since CUDA 13.
"""

import collections
import os
import struct
import sys

CUDA = 190


def cubins(data):
    """How many cubins of each architecture lie in these bytes."""
    found = collections.Counter()
    at = data.find(b"\x7fELF\x02\x01", 1)
    while at >= 0:
        if len(data) >= at + 64 and struct.unpack_from("<H", data, at + 18)[0] == CUDA:
            flags = struct.unpack_from("<I", data, at + 48)[0]
            newer = data[at + 8] >= 8
            found[flags >> 8 & 255 if newer else flags & 255] += 1
        at = data.find(b"\x7fELF\x02\x01", at + 1)
    return found


def main():
    arch, missing = int(sys.argv[1]), []
    for path in sys.argv[2:]:
        with open(path, "rb") as file:
            found = cubins(file.read())
        print(f"{os.path.basename(path)}: " + (", ".join(f"{n} of sm_{sm}" for sm, n in sorted(found.items())) or "no cubins"))
        if not found[arch]:
            missing.append(os.path.basename(path))
    if missing:
        sys.exit(f"no kernels for sm_{arch} in {', '.join(missing)}")


main()
