#!/usr/bin/env bash
# A hundred thousand tokens of the built-in model with a window of 512 that slides all along: the memory of the
# program looked at from outside ten times a second, and allocations of each step counted from inside.
# Prints one JSON object; with -o also appends it to a file.
#
#   bench/memory/long.sh [-n TOKENS] [-o FILE] [PROGRAM]
set -euo pipefail
cd "$(dirname "$0")/../.."
tokens=100000 to=/dev/null
while getopts n:o: option; do
    case $option in
    n) tokens=$OPTARG ;;
    o) to=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
program=${1:-target/release/jetson-llm}
[ -x "$program" ] || { echo "no program $program: cargo build --release first" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$program" run --raw -p 'Once upon a time' -c 512 --ignore-eos -n "$tokens" --seed 7 --device cpu \
    >"$folder/out" 2>"$folder/err" &
pid=$!
while kill -0 "$pid" 2>/dev/null; do
    resident=$(awk '/^VmRSS:/ { print $2 }' "/proc/$pid/status" 2>/dev/null) || break
    [ -n "$resident" ] && echo "${EPOCHREALTIME/,/.} $resident" >>"$folder/resident"
    sleep 0.1
done
code=0
wait "$pid" || code=$?
inside=$(cargo test --quiet --release -p jetson-llm --test soak_sliding -- "$tokens" | grep '^{')

awk -v code="$code" -v tokens="$tokens" -v inside="$inside" -v commit="$(git describe --always --dirty)" '
    { at[NR] = $1; held[NR] = $2 * 1024 }
    END {
        # The first tenth warms up.
        first = int(NR / 10) + 1
        for (i = first; i <= NR; i++) { n++; x += at[i] - at[1]; y += held[i] }
        x /= n; y /= n
        for (i = first; i <= NR; i++) {
            products += (at[i] - at[1] - x) * (held[i] - y); squares += (at[i] - at[1] - x) ^ 2
        }
        slope = squares > 0 ? products / squares : 0
        printf "{\"commit\":\"%s\",\"tokens\":%d,\"exit\":%d,\"seconds\":%.1f,\"samples\":%d,", \
            commit, tokens, code, at[NR] - at[1], NR
        printf "\"resident_mb\":%.2f,\"growth_bytes\":%.0f,\"inside\":%s}\n", \
            held[NR] / 1e6, slope * (at[NR] - at[first]), inside
    }' "$folder/resident" | tee -a "$to"
grep -c '^\[kv\] evicted' "$folder/err" | sed 's/^/lines of evictions: /' >&2
tail -n 1 "$folder/err" >&2
exit "$code"
