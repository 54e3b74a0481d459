// Attention's kernels by instruction set, for the tables of `dispatch.cpp`. What they take: `Attention` in `table.h`.
// Functions, not tables: a table made here might be filled by code of this instruction set when the library is loaded.
#pragma once

#include "table.h"

namespace edgefm {

#define EDGEFM_ATTENTION(isa)                                \
    namespace isa {                                          \
    size_t packed(int tokens, int width, bool int8);         \
    size_t scratch(int tokens, int width, bool int8);        \
    void pack_int8(const Attention&);                        \
    void attend_int8(const Attention&, int first, int last); \
    void pack_fp32(const Attention&);                        \
    void attend_fp32(const Attention&, int first, int last); \
    }

EDGEFM_ATTENTION(attention_scalar)
#if defined(__x86_64__)
EDGEFM_ATTENTION(attention_sse41)
EDGEFM_ATTENTION(attention_avx2)
EDGEFM_ATTENTION(attention_avx_vnni)
EDGEFM_ATTENTION(attention_avx512_vnni)
#elif defined(__aarch64__)
EDGEFM_ATTENTION(attention_neon_dotprod)
#endif

#undef EDGEFM_ATTENTION

}  // namespace edgefm
