#!/bin/bash
# Measure models beside the peer: a run here, a run of llama-bench, in turns.
#
#   pair.sh [OPTIONS] FILE.gguf …
#     -p N,…  prompts (512)          -n N,…  generations (128)      -d N,…  depths (0)
#     -r N    pairs of a test (3)    -s SCOPE  whole, eight or both (both)
#     -t S    most seconds a model and scope may take (200)
#
# Environment: JETSON_LLM (.gpu/bin/jetson-llm of this repository), PEER (llama-bench), DEVICE (cuda),
# BENCH_ARGS (further arguments of `jetson-llm bench`), OUT (folder of results, .), DRY_RUN=1 with
# DEVICE=cpu to try the script where there is no GPU. Appends to $OUT/pairs.jsonl, one line a test, and
# to $OUT/pair.log what the programs said; prints a table of all of $OUT/pairs.jsonl at the end. Where
# jetson-llm fails, the line holds its error, the peer is measured alone and the exit status is 1.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

export PYTHONDONTWRITEBYTECODE=1

prompts=512 generations=128 depths=0 pairs=3 scope=both limit=200 inner=
while getopts p:n:d:r:s:t:i: option; do
    case $option in
    p) prompts=$OPTARG ;;
    n) generations=$OPTARG ;;
    d) depths=$OPTARG ;;
    r) pairs=$OPTARG ;;
    s) scope=$OPTARG ;;
    t) limit=$OPTARG ;;
    i) inner=$OPTARG ;; # the scope we are already in
    *) sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2; }

export JETSON_LLM=${JETSON_LLM:-$root/.gpu/bin/jetson-llm} DEVICE=${DEVICE:-cuda} OUT=${OUT:-.}
export PEER=${PEER:-${TMPDIR:-/tmp}/peer/build/bin/llama-bench}
for program in "$JETSON_LLM" "$PEER"; do
    [ -x "$program" ] || { echo "$program is no program; see README.md" >&2; exit 1; }
done
mkdir -p "$OUT"
tests=(-p "$prompts" -n "$generations" -d "$depths" -r "$pairs")

# One model in the scope $1: rows into pairs.jsonl.
measure() {
    local where=$1 file=$2 began=$SECONDS place=(-ngl 0) code=0 rows said
    rows=$(mktemp) said=$(mktemp)
    # shellcheck disable=SC2086  # several arguments
    timeout -k 5 "$limit" "$JETSON_LLM" bench -m "$file" --device "$DEVICE" "${tests[@]}" --peer "$PEER" \
        --json ${BENCH_ARGS:-} >"$rows" 2>"$said" </dev/null || code=$?
    {
        echo "== $where $file: exit $code after $((SECONDS - began)) s"
        cat "$said"
    } >>"$OUT/pair.log"
    if [ "$code" = 0 ]; then
        python3 "$here/table.py" add "$OUT/pairs.jsonl" "$where" "$file" <"$rows"
    else
        echo "$where $file: jetson-llm bench failed ($code): $(tail -n 1 "$said")" >&2
        python3 "$here/table.py" failed "$OUT/pairs.jsonl" "$where" "$file" "exit $code: $(tail -n 1 "$said")"
        [ "$DEVICE" = cuda ] && place=(-ngl 99 -fa 1)
        timeout -k 5 "$limit" "$PEER" -m "$file" "${place[@]}" "${tests[@]}" -o json \
            >"$rows" 2>>"$OUT/pair.log" </dev/null || echo "$where $file: the peer failed too" >&2
        python3 "$here/table.py" peer "$OUT/pairs.jsonl" "$where" "$file" "$DEVICE" <"$rows" || true
    fi
    rm -f "$rows" "$said"
}

case $inner in
'') ;;
*)
    for file in "$@"; do
        measure "$inner" "$file"
    done
    exit
    ;;
esac
eight=eight
[ "${DRY_RUN:-0}" = 1 ] && eight="eight, dry run"
again=("$here/pair.sh" "${tests[@]}" -t "$limit")
case $scope in
whole | both) "${again[@]}" -i whole "$@" ;;&
eight | both) "$here/eight_sm.sh" "${again[@]}" -i "$eight" "$@" ;;
esac
python3 "$here/table.py" show "$OUT/pairs.jsonl"
