#!/bin/bash
# Builds the C++ module and the C library with AddressSanitizer and UndefinedBehaviorSanitizer in a copy of the tree, and runs
# their tests on them; then a C program with ThreadSanitizer, whose threads share sessions.
# Not part of an ordinary build. PYTHON names the interpreter (default: python3), which needs the test libraries. Without g++
# and its libraries it says so and does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "sanitize: skipped, $1 (Debian: apt install g++)"
    exit 0
}
command -v g++ >/dev/null || skip "there is no g++ here"
for library in libasan.so libubsan.so libtsan.so; do
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

# Races: the whole library and the program see every access.
make -s -C csrc static -j"$(nproc)" BUILD="$copy/build/races" MORE="-fsanitize=thread -O1"
gcc -std=c11 -O1 -fsanitize=thread -Icsrc/include tests/native/threads.c build/races/libedgefm.a -lstdc++ -lm -pthread -o races
./races csrc/fuzz/corpus/native-int8

# The units once for library and module; csrc/Makefile and tests/native take MORE from the environment. -O1: optimizing
# instrumented code takes minutes.
export MORE="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1" STRIP=
make -s -C csrc -j"$(nproc)"
for unit in csrc/bindings*.cpp csrc/png.cpp; do
    echo "$unit build/library/$(basename "$unit").o"
done | xargs -P"$(nproc)" -L1 bash -c 'g++ -std=c++17 -fPIC -fvisibility=hidden -Icsrc $0 $MORE -c $1 -o $2' \
    "$("$python" -m pybind11 --includes)"
suffix=$("$python" -c "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))")
g++ $MORE -shared build/library/*.cpp.o build/library/libedgefm.a -pthread -o "edgefm/_native$suffix"
export LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 OPENBLAS_NUM_THREADS=1
"$python" -c "import edgefm._native"
# The sanitizers write to file descriptor 2, which pytest would swallow.
"$python" -m pytest -q --capture=sys -p no:cacheprovider tests/runtime/test_preprocess_native.py tests/runtime/test_png16.py \
    tests/native/test_sha256.py tests/native/test_json.py tests/native/test_bundle.py tests/native/test_bundle_manifest.py \
    tests/native/test_rows.py tests/native/test_linear_int8.py tests/native/test_linear_fp32.py tests/native/test_attention.py \
    tests/native/test_capi.py tests/native/test_capi_errors.py tests/native/test_golden.py -k "not and_is_small" "$@"
# Of the encoder: every kind of model, with widths and tokens that fill no vector, splits, and hostile files. The plain loops are
# left out, they would take minutes; so is what measures memory.
"$python" -m pytest -q --capture=sys -p no:cacheprovider tests/native/test_vit_encoder.py tests/native/test_vit_files.py \
    -k "not scalar and not every_instruction_set and not 577 and not heat_map and not memory_is and not allocates" "$@"
