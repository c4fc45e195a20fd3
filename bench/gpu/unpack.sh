#!/bin/bash
# Unpack an archive, also where there is no xz.
#
#   unpack.sh ARCHIVE.tar.xz DIR
set -euo pipefail
mkdir -p "$2"
if command -v xz >/dev/null; then
    tar -xf "$1" -C "$2"
else
    python3 -m tarfile -e "$1" "$2"
fi
