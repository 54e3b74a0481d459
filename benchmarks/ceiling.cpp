// What one core can do at most, from registers alone: billions of operations (multiplications and additions) per second of the
// instructions that the kernels live on. A name and a number per line; instructions that the processor lacks are left out.

#include <immintrin.h>

#include <chrono>
#include <cstdio>

namespace {

constexpr int kTimes = 100000, kTries = 40;

double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Twelve sums that do not wait for one another: more than latency times ports.
#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define DECLARE(i) auto sum##i = zero;
#define STEP(i) asm volatile(INSTRUCTION : "+v"(sum##i) : "v"(zero));
#define KEEP(i) asm volatile("" ::"v"(sum##i));
#define CEILING(name, target_, zero_, operations)                             \
    __attribute__((target(target_))) void name() {                            \
        const auto zero = zero_;                                              \
        double best = 1e9;                                                    \
        TWELVE(DECLARE)                                                       \
        for (int attempt = 0; attempt < kTries; ++attempt) {                  \
            const double start = seconds();                                   \
            for (int i = 0; i < kTimes; ++i) {                                \
                TWELVE(STEP)                                                  \
            }                                                                 \
            const double taken = seconds() - start;                           \
            if (taken < best) best = taken;                                   \
        }                                                                     \
        TWELVE(KEEP)                                                          \
        std::printf(#name " %.1f\n", 12.0 * kTimes * operations / best / 1e9); \
    }

#define INSTRUCTION "vpdpbusd %1, %1, %0"
CEILING(int8_avx512_vnni, "avx512f,avx512vnni", _mm512_setzero_si512(), 128)
#undef INSTRUCTION
#define INSTRUCTION "vfmadd231ps %1, %1, %0"
CEILING(fp32_avx512, "avx512f", _mm512_setzero_ps(), 32)
#undef INSTRUCTION
#define INSTRUCTION "vfmadd231ps %1, %1, %0"
CEILING(fp32_avx2, "avx2,fma", _mm256_setzero_ps(), 16)

}  // namespace

int main() {
    if (__builtin_cpu_supports("avx512vnni")) int8_avx512_vnni();
    if (__builtin_cpu_supports("avx512f")) fp32_avx512();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) fp32_avx2();
}
