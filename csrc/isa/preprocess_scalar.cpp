// Preprocessing on what every processor of the architecture has: four lanes, SSE2 on x86-64, NEON on aarch64.

#include "preprocess_kernels.h"

namespace edgefm {
namespace {

constexpr size_t kLanes = 4;
typedef float Vector __attribute__((vector_size(16)));
typedef int32_t Integers __attribute__((vector_size(16)));

inline Vector zero() {
    return Vector{};
}
inline Vector splat(float x) {
    return Vector{x, x, x, x};
}
inline Vector load(const float* p) {
    Vector v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
inline void store(float* p, Vector v) {
    __builtin_memcpy(p, &v, sizeof v);
}
inline Vector from8(const uint8_t* p) {
    typedef uint8_t Bytes __attribute__((vector_size(4)));
    Bytes v;
    __builtin_memcpy(&v, p, sizeof v);
    return __builtin_convertvector(__builtin_convertvector(v, Integers), Vector);
}
inline Vector from16(const uint8_t* p) {
    typedef uint16_t Words __attribute__((vector_size(8)));
    Words v;
    __builtin_memcpy(&v, p, sizeof v);
    return __builtin_convertvector(__builtin_convertvector(v, Integers), Vector);
}
inline Vector minimum(Vector a, Vector b) {
    return a < b ? a : b;
}
inline Vector maximum(Vector a, Vector b) {
    return a > b ? a : b;
}
inline float sum(Vector v) {
    return (v[0] + v[2]) + (v[1] + v[3]);
}

}  // namespace
}  // namespace edgefm

#include "preprocess.inl"

namespace edgefm {
const PreprocessKernels preprocess_scalar = {load8, load16, down, across, normalise};
}
