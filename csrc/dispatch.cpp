// The tables of kernels, and which of them this processor runs. Compiled for the oldest processor of the architecture.

#include <cstdlib>
#include <string>

#include "cpu_features.h"
#include "kernels/attention.h"
#include "kernels/linear.h"
#include "kernels/table.h"

namespace edgefm {
namespace {

struct Entry {
    Isa isa;
    Kernels table;
};

#define EDGEFM_TABLE(isa)                                                                                                     \
    {                                                                                                                         \
        Isa::isa, {                                                                                                           \
            #isa, linear_##isa::quantize_rows, linear_##isa::layernorm, linear_##isa::linear_int8, linear_##isa::linear_fp32, \
                linear_scratch_bytes, attention_##isa::packed, attention_##isa::scratch, attention_##isa::pack_int8,          \
                attention_##isa::attend_int8, attention_##isa::pack_fp32, attention_##isa::attend_fp32                        \
        }                                                                                                                     \
    }

// In rising order of speed.
constexpr Entry kTables[] = {
    EDGEFM_TABLE(scalar),
#if defined(__x86_64__)
    EDGEFM_TABLE(sse41),  EDGEFM_TABLE(avx2), EDGEFM_TABLE(avx_vnni), EDGEFM_TABLE(avx512_vnni),
#elif defined(__aarch64__)
    EDGEFM_TABLE(neon_dotprod),
#endif
};

#undef EDGEFM_TABLE

}  // namespace

const Kernels* kernels(const char* name) {
    for (const Entry& entry : kTables) {
        if (std::string(name) == entry.table.name && has_isa(entry.isa)) return &entry.table;
    }
    return nullptr;
}

const Kernels& best_kernels() {
    const char* variable = std::getenv("EDGEFM_ISA");
    const std::string cap = variable == nullptr ? "" : variable;
    const Kernels* best = &kTables[0].table;
    for (const Entry& entry : kTables) {
        if (below_cap(entry.isa, cap) && has_isa(entry.isa)) best = &entry.table;
    }
    return *best;
}

}  // namespace edgefm
