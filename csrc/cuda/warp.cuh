// What a warp can do that C++ cannot say: matrix instructions, ldmatrix, asynchronous copies, byte permutation, early launch.
// No kernel. Fragment layouts are those of the PTX ISA, "Matrix Fragments for mma.m16n8k16"; g = lane / 4, t = lane % 4:
//     A [16 x 16] register 0: row g, columns 2t, 2t+1   1: row g+8   2: row g, columns 2t+8, 2t+9   3: row g+8, these columns
//     B [16 x 8]  register 0: rows 2t, 2t+1, column g   1: rows 2t+8, 2t+9
//     C [16 x 8]  0, 1: row g, columns 2t, 2t+1         2, 3: row g+8
// EDGEFM_EMULATOR names a header that does the same on the processor, for the tests.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace edgefm {

template <typename T>
__host__ __device__ inline float to_float(T value);
template <>
__host__ __device__ inline float to_float(__half value) {
    return __half2float(value);
}
template <>
__host__ __device__ inline float to_float(__nv_bfloat16 value) {
    return __bfloat162float(value);
}
template <>
__host__ __device__ inline float to_float(float value) {
    return value;
}

template <typename T>
__host__ __device__ inline T from_float(float value);
template <>
__host__ __device__ inline __half from_float(float value) {
    return __float2half_rn(value);
}
template <>
__host__ __device__ inline __nv_bfloat16 from_float(float value) {
    return __float2bfloat16_rn(value);
}

// Two values of T in one register, the first in the low half, as fragments want them.
template <typename T>
__host__ __device__ inline uint32_t pack(T low, T high) {
    static_assert(sizeof(T) == 2, "two bytes each");
    union {
        T values[2];
        uint32_t bits;
    } both = {{low, high}};
    return both.bits;
}

template <typename T>
__host__ __device__ inline void unpack(uint32_t bits, float& low, float& high) {
    union {
        uint32_t bits;
        T values[2];
    } both = {bits};
    low = to_float(both.values[0]);
    high = to_float(both.values[1]);
}

}  // namespace edgefm

#ifdef EDGEFM_EMULATOR
#include EDGEFM_EMULATOR
#else

namespace edgefm {

// Result byte i is byte (selector >> 4i) & 7 of the eight bytes high:low.
__device__ inline uint32_t permute(uint32_t low, uint32_t high, uint32_t selector) {
    return __byte_perm(low, high, selector);
}

__device__ inline float shuffle_xor(float value, int mask) {
    return __shfl_xor_sync(0xffffffffu, value, mask);
}

// c += a b, T is __half or __nv_bfloat16. Compute capability 7.5 has only half of it, and no bf16.
template <typename T>
__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

template <>
__device__ inline void mma<__half>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

template <>
__device__ inline void mma<__nv_bfloat16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    __trap();  // the launchers refuse bf16 there
#endif
}

// Four 8 x 8 matrices of 16-bit values; lane l points at row l % 8 of matrix l / 8. Register i is a fragment of matrix i.
__device__ inline void ldmatrix(uint32_t (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
                 : "memory");
}

__device__ inline void ldmatrix_transposed(uint32_t (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
                 : "memory");
}

// Copies BYTES (8 or 16) into shared memory, zeros where `there` is false; done after copies_wait. Before 8.0: at once.
template <int BYTES>
__device__ inline void copy_async(void* shared, const void* global, bool there) {
    static_assert(BYTES == 8 || BYTES == 16, "");
#if __CUDA_ARCH__ >= 800
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(global), "n"(BYTES), "r"(there ? BYTES : 0)
                 : "memory");
#else
    if constexpr (BYTES == 8) {
        *static_cast<uint2*>(shared) = there ? *static_cast<const uint2*>(global) : make_uint2(0, 0);
    } else {
        *static_cast<uint4*>(shared) = there ? *static_cast<const uint4*>(global) : make_uint4(0, 0, 0, 0);
    }
#endif
}

__device__ inline void copies_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits for this thread's groups of copies but the latest PENDING.
template <int PENDING>
__device__ inline void copies_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

// Programmatic dependent launch, from 9.0 on: lets the next kernel begin, and waits for the one before to end.
__device__ inline void let_next_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace edgefm

#endif
