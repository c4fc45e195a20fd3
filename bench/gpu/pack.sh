#!/bin/bash
# Build what a machine without Rust needs and put it into .gpu/bin: jetson-llm, and the CUDA crate's
# test programs in .gpu/bin/tests; then all of .gpu/bin into .gpu/bin.tar.xz, in which the kernels that every
# program has are stored once. Git ignores the folder when .git/info/exclude says so.
#
#   pack.sh [program] [tests]         both without a word; environment: CARGO, CARGO_ARGS (of the program),
#                                     CARGO_TEST_ARGS, ARCH (90), NVRTC_LIB as the crate's build.rs takes it
#
# Fails if a program holds no kernels for ARCH: on the GPU machine its tests would all be skipped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
out=.gpu/bin
mkdir -p $out/tests
# shellcheck disable=SC2206  # CARGO may be several words
cargo=(${CARGO:-cargo})
what=${*:-program tests}
made=()
if [[ $what == *program* ]]; then
    # shellcheck disable=SC2086
    "${cargo[@]}" build --release -p jetson-llm ${CARGO_ARGS:-}
    strip -o $out/jetson-llm target/release/jetson-llm
    made+=("$out/jetson-llm")
fi
if [[ $what == *tests* ]]; then
    built=$(mktemp)
    # shellcheck disable=SC2086
    "${cargo[@]}" test -p cuda --no-run --message-format=json-render-diagnostics ${CARGO_TEST_ARGS:-} >"$built"
    rm -f $out/tests/*
    while read -r program name kind; do
        strip -o "$out/tests/$name" "$program"
        # The crate's own unit tests launch nothing.
        [ "$kind" = lib ] || made+=("$out/tests/$name")
    done < <(python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line) if line.startswith("{") else {}
    if message.get("executable") and message.get("profile", {}).get("test"):
        print(message["executable"], message["target"]["name"], message["target"]["kind"][0])
' <"$built")
    rm -f "$built"
fi
failed=0
PYTHONDONTWRITEBYTECODE=1 python3 bench/gpu/cubins.py "${ARCH:-90}" "${made[@]}" || failed=1
# The dictionary holds several programs, so that the second copy of a kernel is found.
tar --sort=name --owner=0 --group=0 -cf - -C .gpu bin | xz -T1 --lzma2=preset=6,dict=128MiB >.gpu/bin.tar.xz
find .gpu -type f -printf '%10s %p\n' | sort -k2
exit $failed
