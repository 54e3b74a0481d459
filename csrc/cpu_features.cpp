#include "cpu_features.h"

#include <cstdint>
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

Isa best_isa(const std::string& cap) {
    Isa highest = Isa::avx512;
    if (cap == "scalar") {
        highest = Isa::scalar;
    } else if (cap == "avx2") {
        highest = Isa::avx2;
    } else if (!cap.empty() && cap != "avx512") {
        throw std::invalid_argument("unknown instruction set '" + cap + "'; expected scalar, avx2 or avx512");
    }
    bool avx2 = true, avx512 = true;
    bool known = false;
    for (const auto& [name, present] : cpu_features()) {
        if (name == "avx2" || name == "fma") {
            avx2 = avx2 && present;
            known = true;
        } else if (name == "avx512f" || name == "avx512bw" || name == "avx512dq" || name == "avx512vl") {
            avx512 = avx512 && present;
        }
    }
    const Isa found = !known || !avx2 ? Isa::scalar : avx512 ? Isa::avx512 : Isa::avx2;
    return found < highest ? found : highest;
}

const char* isa_name(Isa isa) {
    switch (isa) {
        case Isa::avx512:
            return "avx512";
        case Isa::avx2:
            return "avx2";
        default:
            return "scalar";
    }
}

}  // namespace edgefm
