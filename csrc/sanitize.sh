#!/bin/bash
# Builds the C++ module with AddressSanitizer and UndefinedBehaviorSanitizer in a copy of the tree, and runs its tests on it.
# Not part of an ordinary build. PYTHON names the interpreter (default: python3), which needs the test libraries. Without g++
# and its two libraries it says so and does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "sanitize: skipped, $1 (Debian: apt install g++)"
    exit 0
}
command -v g++ >/dev/null || skip "there is no g++ here"
for library in libasan.so libubsan.so; do
    [[ $(g++ -print-file-name=$library) = /* ]] || skip "g++ brings no $library here"
done

python=${PYTHON:-python3}
python=$(command -v "$python")
[[ $python = /* ]] || python=$PWD/$python

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r setup.py pyproject.toml csrc edgefm tests "$copy"
touch "$copy/README.md"
cd "$copy"
rm -f edgefm/_native*.so

flags="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
CFLAGS="$flags" CXXFLAGS="$flags" LDFLAGS="$flags" "$python" setup.py -q build_ext --inplace
export LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 OPENBLAS_NUM_THREADS=1
"$python" -c "import edgefm._native"
# The sanitizers write to file descriptor 2, which pytest would swallow.
"$python" -m pytest -q --capture=sys -p no:cacheprovider tests/runtime/test_preprocess_native.py tests/runtime/test_png16.py \
    tests/native/test_attention.py "$@"
