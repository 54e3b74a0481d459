#!/bin/bash
# Fuzzes the opening of bundles with libFuzzer and AddressSanitizer: once with bytes as they come, once with the digests made
# right again after each change. FUZZ_SECONDS (default: 60) for both together. What is found is kept in build/fuzz/. Without
# clang it says so and does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "fuzz: skipped, $1 (Debian: apt install clang libclang-rt-dev g++)"
    exit 0
}
command -v g++ >/dev/null || skip "there is no g++ here"
command -v clang++ >/dev/null || skip "there is no clang++ here"
echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
    clang++ -x c++ - -fsanitize=fuzzer,address -o /dev/null 2>/dev/null || skip "clang++ brings no libFuzzer here"
build=$(realpath -m ../build/fuzz)
seconds=${FUZZ_SECONDS:-60}
sanitizers="-O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all"
# The kernels need g++; its AddressSanitizer calls the same functions as clang's.
make -s -j"$(nproc)" static CXX=clang++ BUILD="$build" MORE="$sanitizers" ISA_CXX=g++ ISA_MORE="-fsanitize=address"

link() {
    clang++ -std=c++17 $sanitizers -fsanitize=fuzzer -I. "$@" "$build/libedgefm.a" -pthread
}
link fuzz/open_bundle.cpp -o "$build/open_bundle"
link fuzz/open_bundle.cpp fuzz/mutate_members.cpp fuzz/repair.cpp -o "$build/open_repaired"

for target in open_bundle open_repaired; do
    mkdir -p "$build/$target.corpus"
    # A dictionary of what bundles hold; a limit on memory (2 GiB of activations are allowed) and on the time of one input.
    "$build/$target" -max_total_time=$((seconds / 2)) -max_len=65536 -rss_limit_mb=2048 -malloc_limit_mb=2304 -timeout=20 \
        -dict=fuzz/bundle.dict -print_final_stats=1 -verbosity=0 -artifact_prefix="$build/$target." \
        "$build/$target.corpus" fuzz/corpus 2>&1 | tail -12
done
