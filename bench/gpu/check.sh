#!/bin/bash
# Run the CUDA crate's tests on a real GPU, from test programs that were built elsewhere (pack.sh).
#
#   check.sh [-f FILTER] [-k TOOL,…] [-t S] [-e] [PROGRAM …]
#     -f  tests for the sanitizer: a part of their names (small)   -k  its tools (memcheck,racecheck)
#     -t  most seconds of one program (150)                        -e  on the emulator as well
#     PROGRAM  test programs; without it all of .gpu/bin/tests
#
# First every test, then those of FILTER under compute-sanitizer. Environment: OUT (folder of logs, .),
# REPOSITORY_AS (the path this repository had where the programs were built: a link is made there, for
# paths compiled in), TEST_ARGS (further arguments of each program), DRY_RUN=1 where there is no GPU.
# Prints a line a run; $OUT/check.log has the whole output. Fails if a run failed, ran no test, or had a test
# that found no GPU or no kernels for it: such a test says so and passes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
filter=small tools=memcheck,racecheck limit=150 emulator=0
while getopts f:k:t:e option; do
    case $option in
    f) filter=$OPTARG ;;
    k) tools=$OPTARG ;;
    t) limit=$OPTARG ;;
    e) emulator=1 ;;
    *) sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
programs=()
for program in "$@"; do
    programs+=("$(readlink -f "$program")")
done
[ $# -gt 0 ] || programs=("$root"/.gpu/bin/tests/*)
[ -x "${programs[0]}" ] || { echo "no test programs in .gpu/bin/tests; see pack.sh" >&2; exit 1; }
mkdir -p "${OUT:=.}"
log=$(readlink -f "$OUT")/check.log
if [ -n "${REPOSITORY_AS:-}" ] && [ ! -e "$REPOSITORY_AS" ]; then
    mkdir -p "$(dirname "$REPOSITORY_AS")"
    ln -s "$root" "$REPOSITORY_AS"
fi
export CARGO_MANIFEST_DIR=$root/crates/cuda RUST_BACKTRACE=1
cd "$CARGO_MANIFEST_DIR"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ $emulator = 0 ]; then
    # Tests run on the emulator where a C++ compiler says its version; these do not.
    for name in g++ c++ clang++; do
        printf '#!/bin/sh\nexit 1\n' >"$scratch/$name"
        chmod +x "$scratch/$name"
    done
    export PATH=$scratch:$PATH
fi
[ "${DRY_RUN:-0}" = 1 ] || echo "the driver shows $(PYTHONDONTWRITEBYTECODE=1 python3 "$here/sms.py") SMs"

failed=0
# Runs "$@" under the name $1 and says how it went.
one() {
    local name=$1 began=$SECONDS code=0 said verdict
    shift
    said=$(mktemp)
    timeout -k 5 "$limit" "$@" >"$said" 2>&1 </dev/null || code=$?
    { echo "==== $name: $*"; cat "$said"; } >>"$log"
    # libtest's last line, and how many tests said that they checked nothing.
    verdict=$(grep -a '^test result:' "$said" | tail -n 1 | cut -d';' -f1-2 || true)
    local skipped races
    skipped=$(grep -ac 'skipped:' "$said" || true)
    races=$(grep -a -E '(ERROR|RACECHECK) SUMMARY' "$said" | tail -n 1 || true)
    if [ "$code" = 0 ] && ! grep -q ' [1-9][0-9]* passed' <<<"$verdict"; then
        code="0, but no test ran"
    fi
    if [ "$code" = 0 ] && [ "${DRY_RUN:-0}" != 1 ] && grep -aq 'skipped: no CUDA device' "$said"; then
        code="0, but $(grep -ac 'skipped: no CUDA device' "$said") tests had no GPU or no kernels for it"
    fi
    echo "$name: exit $code, $((SECONDS - began)) s; ${verdict:-no result}; skipped $skipped ${races:+; $races}"
    if [ "$code" != 0 ]; then
        failed=1
        grep -a -E -A4 'panicked at|========= (Invalid|Error|Program hit|Race)|FAILED|error:|no CUDA device' "$said" | cut -c-300 | head -n 30 || true
    fi
    rm -f "$said"
}

# One thread: failures are then read beside the test's name, and the sanitizer sees one context.
for program in "${programs[@]}"; do
    # shellcheck disable=SC2086  # several arguments
    one "$(basename "$program")" "$program" --test-threads=1 --nocapture ${TEST_ARGS:-}
done
for tool in ${tools//,/ }; do
    sanitizer=$(command -v compute-sanitizer || true)
    [ -n "$sanitizer" ] || sanitizer=$(find /usr/local/cuda*/bin -name compute-sanitizer 2>/dev/null | head -n 1 || true)
    [ -n "$sanitizer" ] || { echo "$tool: no compute-sanitizer here" >&2; failed=1; break; }
    for program in "${programs[@]}"; do
        # Programs without a test of the filter are left out.
        "$program" --list "$filter" 2>/dev/null | grep -q ': test$' || continue
        # shellcheck disable=SC2086
        one "$(basename "$program") under $tool" "$sanitizer" --tool "$tool" --error-exitcode 9 \
            --print-limit 20 "$program" --test-threads=1 --nocapture "$filter" ${TEST_ARGS:-}
    done
done
exit $failed
