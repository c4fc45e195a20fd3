#!/bin/bash
# Build what a machine without Rust needs and put it into .gpu/bin: jetson-llm, and the CUDA crate's
# test programs in .gpu/bin/tests. Git ignores the folder when .git/info/exclude says so.
#
#   pack.sh [CARGO ARGUMENT …]        as in: pack.sh --features cuda. CARGO, CARGO_TEST_ARGS
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
out=.gpu/bin
mkdir -p $out/tests
# shellcheck disable=SC2206  # CARGO may be several words
cargo=(${CARGO:-cargo})
"${cargo[@]}" build --release -p jetson-llm "$@"
strip -o $out/jetson-llm target/release/jetson-llm
rm -f $out/tests/*
# shellcheck disable=SC2086
"${cargo[@]}" test -p cuda --no-run --message-format=json ${CARGO_TEST_ARGS:-} |
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line) if line.startswith("{") else {}
    if message.get("executable") and message.get("profile", {}).get("test"):
        print(message["executable"], message["target"]["name"])
' | while read -r program name; do
    strip -o "$out/tests/$name" "$program"
done
find .gpu -type f -printf '%10s %p\n' | sort -k2
du -sh .gpu
