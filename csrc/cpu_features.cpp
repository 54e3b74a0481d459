#include "cpu_features.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace edgefm {
namespace {

#if defined(__x86_64__)

struct Registers {
    unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
    Registers r;
    __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);  // leaves zeros where the leaf does not exist
    return r;
}

// Register files that the operating system saves at a context switch. Needs OSXSAVE; written as bytes because the
// compiler's intrinsic would need -mxsave.
uint64_t saved_state() {
    uint32_t low, high;
    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<uint64_t>(high) << 32) | low;
}

bool bit(unsigned value, unsigned index) {
    return (value >> index) & 1u;
}

#endif

}  // namespace

std::vector<std::pair<std::string, bool>> cpu_features() {
#if defined(__x86_64__)
    const Registers one = cpuid(1, 0), seven = cpuid(7, 0), seven_one = cpuid(7, 1);
    const uint64_t saved = bit(one.c, 27) ? saved_state() : 0;
    const bool ymm = (saved & 0x6) == 0x6;           // SSE and AVX state
    const bool zmm = ymm && (saved & 0xe0) == 0xe0;  // opmask, upper halves of zmm0-15, zmm16-31
    const bool tile = (saved & 0x60000) == 0x60000;  // AMX configuration and data
    return {
        {"sse4_1", bit(one.c, 19)},
        {"sse4_2", bit(one.c, 20)},
        {"avx", ymm && bit(one.c, 28)},
        {"avx2", ymm && bit(seven.b, 5)},
        {"fma", ymm && bit(one.c, 12)},
        {"f16c", ymm && bit(one.c, 29)},
        {"avx512f", zmm && bit(seven.b, 16)},
        {"avx512bw", zmm && bit(seven.b, 30)},
        {"avx512dq", zmm && bit(seven.b, 17)},
        {"avx512vl", zmm && bit(seven.b, 31)},
        {"avx512_vnni", zmm && bit(seven.c, 11)},
        {"avx512_bf16", zmm && bit(seven_one.a, 5)},
        {"avx512_fp16", zmm && bit(seven.d, 23)},
        {"avx_vnni", ymm && bit(seven_one.a, 4)},
        {"amx_tile", tile && bit(seven.d, 24)},
        {"amx_int8", tile && bit(seven.d, 25)},
        {"amx_bf16", tile && bit(seven.d, 22)},
        {"sha_ni", bit(seven.b, 29)},
    };
#elif defined(__aarch64__) && defined(__linux__)
    const unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
    return {
        {"asimd", (one >> 1) & 1},
        {"sha2", (one >> 6) & 1},
        {"asimddp", (one >> 20) & 1},
        {"i8mm", (two >> 13) & 1},
    };
#else
    return {};
#endif
}

namespace {

// In the order of `Isa`.
const char* const kNames[] = {"scalar", "sse41", "avx2", "avx_vnni", "avx512", "avx512_vnni", "neon_dotprod"};

// The features that an instruction set's kernels are compiled for, in the order of `Isa`.
std::vector<std::vector<const char*>> needs() {
    return {
        {},
        {"sse4_1"},
        {"avx2", "fma"},
        {"avx2", "fma", "avx_vnni"},
        {"avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"},
        {"avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"},
        {"asimd", "asimddp"},
    };
}

}  // namespace

bool has_isa(Isa isa) {
    static const auto features = cpu_features();  // asked once: in a virtual machine CPUID takes tens of microseconds
    const auto wanted = needs()[static_cast<size_t>(isa)];
    return std::all_of(wanted.begin(), wanted.end(), [&](const char* name) {
        return std::any_of(features.begin(), features.end(), [&](const auto& f) { return f.first == name && f.second; });
    });
}

Isa isa_named(const std::string& name) {
    std::string known;
    for (size_t i = 0; i < std::size(kNames); ++i) {
        if (name == kNames[i]) return static_cast<Isa>(i);
        known += (i == 0 ? "" : i + 1 == std::size(kNames) ? " or " : ", ") + std::string(kNames[i]);
    }
    throw std::invalid_argument("unknown instruction set '" + name + "'; expected " + known);
}

bool below_cap(Isa isa, const std::string& cap) {
    if (cap.empty()) return true;
    const Isa highest = isa_named(cap);
    // A cap of another architecture's leaves what every processor has.
    return isa == Isa::scalar || (isa <= highest && (isa == Isa::neon_dotprod) == (highest == Isa::neon_dotprod));
}

const char* isa_name(Isa isa) {
    return kNames[static_cast<size_t>(isa)];
}

}  // namespace edgefm
