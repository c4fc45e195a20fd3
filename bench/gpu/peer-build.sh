#!/bin/bash
# Build llama.cpp's llama-bench, the peer of every figure, from a source archive, in the background.
#
#   peer-build.sh start ARCHIVE [DIR]    unpack and build; returns at once
#   peer-build.sh wait [DIR] [SECONDS]   until it is built; prints the path of llama-bench
#   peer-build.sh status [DIR]           one word and the end of the log
#
# DIR is /tmp/peer. The build outlives the shell that began it (setsid). Environment: PEER_CUDA=0 builds
# for the processor only; CUDA_ARCH (90) names the GPU; PEER_JOBS (all cores); PEER_TARGETS (llama-bench).
# The archive holds one folder with llama.cpp's CMakeLists.txt. README.md says how to make it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

# Prints the root of a CUDA toolkit that has cuBLAS's headers and libraries under the names CMake asks
# for. Where nvcc's own folder lacks them (they may come as Python packages), it is put together in $1.
toolkit() {
    local out=$1 nvcc root lib
    nvcc=$(command -v nvcc || true)
    for root in /usr/local/cuda*; do
        [ -n "$nvcc" ] || [ ! -x "$root/bin/nvcc" ] || nvcc=$root/bin/nvcc
    done
    [ -n "$nvcc" ] || { echo "no nvcc in PATH or /usr/local/cuda*" >&2; return 1; }
    root=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
    for lib in "$root"/lib64 "$root"/targets/x86_64-linux/lib "$root"/lib; do
        if [ -e "$lib/libcublas.so" ] && [ -e "$lib/libcudart.so" ]; then
            echo "$root"
            return
        fi
    done
    rm -rf "$out"
    mkdir -p "$out/lib/stubs" "$out/include"
    # Links, except nvcc and its profile: it looks for the rest beside itself.
    cp -rsf "$root"/. "$out"/ 2>/dev/null || true
    rm -f "$out/bin/nvcc" "$out/bin/nvcc.profile"
    cp -L "$root/bin/nvcc" "$root/bin/nvcc.profile" "$out/bin/"
    local packages path name
    packages=$(python3 - <<'PY' || true
try:
    import nvidia
    print("\n".join(nvidia.__path__))
except ImportError:
    pass
PY
)
    for path in $packages ${CUDA_EXTRA:-}; do
        for name in "$path"/*/include "$path"/include; do
            [ -d "$name" ] && cp -rsn "$name"/. "$out/include/" 2>/dev/null
        done
        for name in "$path"/*/lib/lib*.so* "$path"/lib/lib*.so*; do
            [ -f "$name" ] && ln -sfn "$name" "$out/lib/"
        done
    done
    # libcuda comes with the driver.
    name=$(ldconfig -p | awk '/libcuda\.so/ { print $NF; exit }')
    for path in "$name" /usr/local/nvidia/lib64/libcuda.so.1; do
        [ -n "$path" ] && [ -e "$path" ] && ln -sfn "$path" "$out/lib/stubs/libcuda.so" && break
    done
    for path in "$out"/lib/lib*.so.*; do
        name=${path%%.so.*}.so
        [ -e "$name" ] || ln -sfn "$path" "$name"
    done
    [ -e "$out/lib64" ] || ln -sfn lib "$out/lib64"
    echo "$out"
}

# Unpacks and builds in $2; called by start in a session of its own.
build() {
    local archive=$1 dir=$2 root src flags=()
    "$here/unpack.sh" "$archive" "$dir/src"
    src=$(dirname "$dir"/src/*/CMakeLists.txt)
    if [ "${PEER_CUDA:-1}" = 1 ]; then
        root=$(toolkit "$dir/cuda")
        echo "CUDA toolkit: $root"
        flags=(-DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES="${CUDA_ARCH:-90}" -DCUDAToolkit_ROOT="$root"
            -DCMAKE_CUDA_COMPILER="$root/bin/nvcc" -DGGML_CUDA_FA=ON -DGGML_CUDA_GRAPHS=ON -DGGML_CUDA_NCCL=OFF)
    fi
    [ ! -e "$src/COMMIT" ] || flags+=(-DLLAMA_BUILD_COMMIT="$(cat "$src/COMMIT")")
    cmake -G Ninja -S "$src" -B "$dir/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
        -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF \
        -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_TOOLS=ON "${flags[@]}"
    # shellcheck disable=SC2086  # several targets
    ninja -C "$dir/build" -j "${PEER_JOBS:-$(nproc)}" ${PEER_TARGETS:-llama-bench}
}

case ${1:-} in
start)
    archive=$(readlink -f "${2:?give the archive}")
    dir=${3:-/tmp/peer}
    if [ "$(cat "$dir/state" 2>/dev/null)" = running ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; then
        echo "already building in $dir"
        exit 0
    fi
    mkdir -p "$dir"
    echo running >"$dir/state"
    setsid "$here/peer-build.sh" build "$archive" "$dir" >"$dir/build.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    echo "building in $dir, log in $dir/build.log"
    ;;
build)
    echo failed >"$3/state.end"
    trap 'mv "$3/state.end" "$3/state"' EXIT
    SECONDS=0
    build "$2" "$3"
    echo "built in $SECONDS s"
    echo "done" >"$3/state.end"
    ;;
wait)
    dir=${2:-/tmp/peer}
    for ((i = 0; i < ${3:-500}; i++)); do
        state=$(cat "$dir/state" 2>/dev/null || echo "never started")
        case $state in
        done)
            echo "$dir/build/bin/llama-bench"
            exit 0
            ;;
        running) sleep 1 ;;
        *) break ;;
        esac
    done
    echo "peer: $state; the log ends:" >&2
    tail -n 25 "$dir/build.log" >&2 || true
    exit 1
    ;;
status)
    dir=${2:-/tmp/peer}
    cat "$dir/state" 2>/dev/null || echo "never started"
    tail -n "${3:-3}" "$dir/build.log" 2>/dev/null || true
    ;;
*)
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
