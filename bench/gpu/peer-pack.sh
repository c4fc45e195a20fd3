#!/bin/bash
# Make the source archive that peer-build.sh takes: the part of llama.cpp that llama-bench needs for
# processors of x86-64 and for CUDA, from the source distribution of llama-cpp-python, which vendors it.
#
#   peer-pack.sh llama_cpp_python-VERSION.tar.gz OUT.tar.xz
#
# The tools' and vendor's CMakeLists.txt are replaced by lists of what stays; nothing else is changed.
set -euo pipefail
sdist=$(readlink -f "${1:?give the source distribution}")
out=$(readlink -m "${2:?give the archive to write}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
tar -xzf "$sdist"
from=$(echo llama_cpp_python-*/vendor/llama.cpp)
mkdir -p peer/vendor peer/tools peer/ggml/src
cp -r "$from"/{CMakeLists.txt,LICENSE,licenses,cmake,include,src,common} peer/
cp -r "$from"/vendor/{cpp-httplib,nlohmann,sheredom} peer/vendor/
cp -r "$from"/tools/{llama-bench,batched-bench,perplexity} peer/tools/
cp -r "$from"/ggml/{CMakeLists.txt,cmake,include} peer/ggml/
find "$from/ggml/src" -maxdepth 1 -type f -exec cp {} peer/ggml/src/ \;
cp -r "$from"/ggml/src/ggml-{cpu,cuda} peer/ggml/src/
rm -r peer/ggml/src/ggml-cpu/spacemit
find peer/ggml/src/ggml-cpu/arch -mindepth 1 -maxdepth 1 ! -name x86 -exec rm -r {} +
cat >peer/vendor/CMakeLists.txt <<'CMAKE'
add_subdirectory(nlohmann)
add_subdirectory(sheredom)
add_subdirectory(cpp-httplib)
CMAKE
cat >peer/tools/CMakeLists.txt <<'CMAKE'
find_package(Threads REQUIRED)
llama_add_compile_flags()
add_subdirectory(batched-bench)
add_subdirectory(llama-bench)
add_subdirectory(perplexity)
CMAKE
# The changelog's first mention is of what this version vendors.
sed -n 's/.*llama\.cpp@\([0-9a-f]\{7,40\}\).*/\1/p' llama_cpp_python-*/CHANGELOG.md | head -n 1 >peer/COMMIT
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - peer | xz -9 >"$out"
echo "$out: llama.cpp $(cat peer/COMMIT), $(stat -c %s "$out") bytes"
