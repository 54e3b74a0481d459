// What the processor can do and the operating system has switched on; which kernels to run.
// Not a kernel: this unit is compiled for the oldest processor of the architecture.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace edgefm {

// Instruction sets with kernels of their own, in rising order within an architecture. `scalar` is what every processor of the
// architecture has. Processors have gaps: one with avx512_vnni may lack avx_vnni.
enum class Isa { scalar = 0, sse41 = 1, avx2 = 2, avx_vnni = 3, avx512 = 4, avx512_vnni = 5, neon_dotprod = 6 };

// Linux's names for features, each with whether it can be used here (CPUID and XGETBV both say so).
std::vector<std::pair<std::string, bool>> cpu_features();

// Whether this processor has it.
bool has_isa(Isa isa);

// Throws std::invalid_argument on another word than isa_name's.
Isa isa_named(const std::string& name);

// Whether kernels of `isa` may run under this cap, as the variable EDGEFM_ISA holds it: a name, or "" for none.
// Throws std::invalid_argument on another word.
bool below_cap(Isa isa, const std::string& cap);

const char* isa_name(Isa isa);

}  // namespace edgefm
