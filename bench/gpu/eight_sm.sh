#!/bin/bash
# Run a command on 8 SMs of a large GPU, the stand-in for an Orin Nano.
#
#   eight_sm.sh COMMAND [ARGUMENT …]        SMS=16 for another number
#   eight_sm.sh --check                     says how many SMs a process sees; fails unless it is SMS
#
# Through a CUDA MPS daemon of this command's own (its pipes and logs are in a new folder), which gives
# each of its clients a share of the SMs. Clocks, power and compute mode stay as they are. DRY_RUN=1
# prints what would be run.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
here=$(cd "$(dirname "$0")" && pwd)
want=${SMS:-8}
[ $# -gt 0 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
if [ "${DRY_RUN:-0}" = 1 ]; then
    [ "$1" = --check ] && exit 0
    echo "on $want SMs: $*" >&2
    exec "$@"
fi
all=${GPU_SMS:-$(python3 "$here/sms.py")}
# MPS takes whole per cents and gives whole pairs of SMs: 6 % of 132 is 7.92, seen as 8. So the per cent
# that hits is searched for, beginning below. A program that finds no daemon runs on the whole GPU without
# a word, hence the look at what a process sees before anything is measured.
folder=$(mktemp -d)
export CUDA_MPS_PIPE_DIRECTORY=$folder/pipe CUDA_MPS_LOG_DIRECTORY=$folder/log
mkdir "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
nvidia-cuda-mps-control -d
finish() {
    echo quit | timeout 20 nvidia-cuda-mps-control >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap finish EXIT
for _ in $(seq 50); do
    [ -e "$CUDA_MPS_PIPE_DIRECTORY/control" ] && break
    sleep 0.1
done
seen=0
below=$((want * 100 / all))
for percent in "$below" $((below + 1)) $((below - 1)) $((below + 2)); do
    [ "$percent" -ge 1 ] || continue
    export CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=$percent
    seen=$(python3 "$here/sms.py")
    [ "$seen" = "$want" ] && break
done
if [ "$seen" != "$want" ]; then
    echo "MPS shows $seen SMs at $percent % of $all, not $want" >&2
    tail -n 5 "$CUDA_MPS_LOG_DIRECTORY"/*.log >&2 || true
    exit 1
fi
echo "MPS: $percent % of $all SMs, seen as $seen" >&2
[ "$1" = --check ] && exit 0
"$@"
