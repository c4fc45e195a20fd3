#!/bin/bash
# Make models of random weights, in parallel, where they do not exist yet.
#
#   models.sh DIR NAME[:MIX[:LAYERS]] …      as in: models.sh /dev/shm llama-3.2-3b qwen3-1.7b:q8_0
#
# Writes DIR/NAME-MIX.gguf (DIR/NAME-MIX-LAYERS.gguf for a test model) and prints the paths.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?give a folder}
shift
mkdir -p "$dir"
jobs=() paths=()
for model in "$@"; do
    IFS=: read -r name mix layers <<<"$model"
    mix=${mix:-q4_k_m}
    path=$dir/$name-$mix${layers:+-$layers}.gguf
    paths+=("$path")
    [ -e "$path" ] && continue
    (
        python3 "$here/random_model.py" "$name" "$path.part" --mix "$mix" ${layers:+--layers "$layers"}
        mv "$path.part" "$path"
    ) &
    jobs+=($!)
done
for job in "${jobs[@]}"; do
    wait "$job"
done
printf '%s\n' "${paths[@]}"
