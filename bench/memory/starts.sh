#!/usr/bin/env bash
# A hundred cold starts, looked at from outside: what they leave in memory, descriptors, processes, files.
#
#   bench/memory/starts.sh [-n STARTS] [PROGRAM [OPTIONS…]]
set -euo pipefail
cd "$(dirname "$0")/../.."
starts=100
while getopts n: option; do
    case $option in
    n) starts=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
program=${1:-target/release/jetson-llm}
[ $# -gt 0 ] && shift

# Memory that ends with no process, KiB; then descriptors of the whole machine, processes of the program,
# shared memory and temporary files.
look() {
    awk '/^(Shmem|SUnreclaim|PageTables|KernelStack|NvMapMemUsed):/ { sum += $2 } END { printf "%d ", sum }' /proc/meminfo
    awk '{ printf "%d ", $1 }' /proc/sys/fs/file-nr
    pgrep -c -x jetson-llm | tr '\n' ' ' || true
    ls -A /dev/shm | wc -l | tr '\n' ' '
    wc -l <"/proc/sysvipc/shm"
}
"$program" run --raw -p 'Once upon a time' -n 4 "$@" >/dev/null 2>&1
before=$(look)
failed=0
began=$EPOCHREALTIME
for ((i = 0; i < starts; i++)); do
    "$program" run --raw -p 'Once upon a time' -n 4 "$@" >/dev/null 2>&1 || failed=$((failed + 1))
done
ended=$EPOCHREALTIME
after=$(look)
echo "$starts starts, $failed failed, $(awk -v a="$began" -v b="$ended" -v n="$starts" 'BEGIN { printf "%.0f", (b - a) / n * 1e3 }') ms each"
echo "            nobody's KiB, descriptors of the machine, processes, files of /dev/shm, System V segments"
echo "before      $before"
echo "after       $after"
exit "$((failed > 0))"
