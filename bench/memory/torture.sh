#!/usr/bin/env bash
# Fifty runs in a memory control group that is tightened while they run, and fifty beside a second program that
# eats the memory of the group: all must end by themselves, with their text. Takes root and some minutes.
# Prints how many did and what the kernel said meanwhile; with -o each run goes to a file as a JSON object.
#
#   bench/memory/torture.sh [-r RUNS] [-o FILE]
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
runs=50 log=
while getopts r:o: option; do
    case $option in
    r) runs=$OPTARG ;;
    o) log=$OPTARG ;;
    *) exit 2 ;;
    esac
done
[ -n "$log" ] || { log=$(mktemp) && trap 'rm -f "$log"' EXIT; }
case $log in /*) ;; *) log=$PWD/$log ;; esac

killed() { dmesg 2>/dev/null | grep -c 'Killed process.*(jetson-llm)'; }
before=$(killed)
TORTURE_RUNS=$runs TORTURE_LOG=$log cargo test --quiet --release -p jetson-llm --test torture -- --nocapture
code=$?
for kind in tightened eaten; do
    all=$(grep -c "\"kind\":\"$kind\"" "$log")
    good=$(grep "\"kind\":\"$kind\"" "$log" | grep -c '"ok":true')
    echo "$kind: $good of $all ended by themselves with their text"
done
echo "killed by the kernel, in its own words: $(($(killed) - before))"
exit "$code"
