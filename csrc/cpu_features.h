// What the processor can do and the operating system has switched on; which kernels to run.
// Not a kernel: this unit is compiled for the oldest processor of the architecture.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace edgefm {

// Instruction sets with kernels of their own, in rising order. `scalar` is what every processor of the architecture has.
enum class Isa { scalar = 0, avx2 = 1, avx512 = 2 };

// Linux's names for features, each with whether it can be used here (CPUID and XGETBV both say so).
std::vector<std::pair<std::string, bool>> cpu_features();

// The highest instruction set of this processor, not above `cap` ("scalar", "avx2", "avx512"; "" for no cap).
// Throws std::invalid_argument on another word.
Isa best_isa(const std::string& cap);

const char* isa_name(Isa isa);

}  // namespace edgefm
