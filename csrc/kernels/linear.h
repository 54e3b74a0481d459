// The kernels of linear layers and of rows by instruction set, for the tables of `dispatch.cpp`. Not what they take:
// that is `table.h`. Functions, not tables: a table made in a unit of an instruction set might be filled by its code.
#pragma once

#include "table.h"

namespace edgefm {

#define EDGEFM_LINEAR(isa)                                                            \
    namespace isa {                                                                   \
    void quantize_rows(const float* x, int64_t x_stride, int m, int k, Int8Rows out); \
    void layernorm(const LayerNorm&);                                                 \
    void linear_int8(const LinearInt8&);                                              \
    void linear_fp32(const LinearFp32&);                                              \
    }

EDGEFM_LINEAR(linear_scalar)
#if defined(__x86_64__)
EDGEFM_LINEAR(linear_sse41)
EDGEFM_LINEAR(linear_avx2)
EDGEFM_LINEAR(linear_avx_vnni)
EDGEFM_LINEAR(linear_avx512_vnni)
#elif defined(__aarch64__)
EDGEFM_LINEAR(linear_neon_dotprod)
#endif

#undef EDGEFM_LINEAR

// Of LinearInt8::scratch: for each row the codes of x A^T, kMaxRank of them, and their scale. The same for every set.
constexpr size_t linear_scratch_bytes(int m) {
    return static_cast<size_t>(round_up(int64_t{m} * (kMaxRank + sizeof(float)), 64));
}

// Rows whose largest value is below this count as zeros: 127 / largest must not overflow.
constexpr float kSmallest = 1e-30f;

}  // namespace edgefm
