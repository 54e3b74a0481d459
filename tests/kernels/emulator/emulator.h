// Runs the CUDA kernels on the processor, thread by thread, for their tests: blocks one after another, the threads of a block
// as fibers that meet at each barrier and at each instruction of a whole warp. No timing, no memory model.
//
// Written from the PTX ISA's tables, not from csrc/cuda. Asynchronous copies happen as late as the kernel permits, and until
// then their target holds NaN.

#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#undef __global__
#undef __device__
#undef __shared__
#undef __launch_bounds__
#define __global__
#define __device__
#define __launch_bounds__(...)
#define __shared__ static
#define threadIdx (emulator::now->thread)
#define blockIdx (emulator::block)
#define __syncthreads() emulator::meet_block()

using std::min;

namespace emulator {

struct Copy {
    void* to;
    const void* from;
    int bytes;
    bool there;
};

struct Barrier {
    int waiting = 0, generation = 0;
};

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    uint3 thread;
    bool done = false;
    std::vector<std::vector<Copy>> groups;  // committed, oldest first
    std::vector<Copy> open;
};

struct Warp {
    Barrier barrier;
    uint32_t a[32][4], b[32][2];
    float value[32];
    const void* row[32];
};

inline Fiber* now;
inline uint3 block;
inline ucontext_t home;
inline std::vector<Fiber> fibers;
inline std::vector<Warp> warps;
inline Barrier everyone;
inline std::function<void()> body;

inline void meet(Barrier& barrier, int count) {
    const int generation = barrier.generation;
    if (++barrier.waiting == count) {
        barrier.waiting = 0;
        ++barrier.generation;
        return;
    }
    while (barrier.generation == generation) swapcontext(&now->context, &home);
}

inline Warp& warp() {
    return warps[now->thread.x / 32];
}
inline int lane() {
    return now->thread.x % 32;
}
inline void meet_warp() {
    meet(warp().barrier, 32);
}
inline void meet_block() {
    meet(everyone, static_cast<int>(fibers.size()));
}

inline void enter() {
    body();
    if (!now->open.empty()) throw std::logic_error("copies that were never committed");
    now->done = true;
    swapcontext(&now->context, &home);
}

inline void run_block(int threads) {
    fibers.clear();
    fibers.resize(threads);
    warps.assign((threads + 31) / 32, Warp());
    everyone = Barrier();
    for (int i = 0; i < threads; ++i) {
        Fiber& fiber = fibers[i];
        fiber.thread = {static_cast<unsigned>(i), 0, 0};
        constexpr size_t SIZE = 1 << 17;
        fiber.stack.reset(new char[SIZE]);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = SIZE;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, enter, 0);
    }
    // Last thread first, so that nobody leans on the order.
    for (int left = threads, rounds = 0; left > 0; ++rounds) {
        if (rounds > 10000000) throw std::logic_error("threads wait for each other for ever");
        for (int i = threads - 1; i >= 0; --i) {
            if (fibers[i].done) continue;
            now = &fibers[i];
            swapcontext(&home, &now->context);
            left -= fibers[i].done;
        }
    }
}

}  // namespace emulator

namespace edgefm {

template <typename Problem>
cudaError_t launch(void (*kernel)(Problem), dim3 grid, int threads, bool, cudaStream_t, Problem problem) {
    emulator::body = [=] { kernel(problem); };
    for (unsigned z = 0; z < grid.z; ++z) {
        for (unsigned y = 0; y < grid.y; ++y) {
            for (unsigned x = 0; x < grid.x; ++x) {
                emulator::block = {x, y, z};
                emulator::run_block(threads);
            }
        }
    }
    return cudaSuccess;
}

// PTX ISA, prmt: the default mode.
inline uint32_t permute(uint32_t low, uint32_t high, uint32_t selector) {
    const uint64_t bytes = static_cast<uint64_t>(high) << 32 | low;
    uint32_t result = 0;
    for (int i = 0; i < 4; ++i) {
        const uint32_t nibble = selector >> (4 * i) & 15;
        if (nibble > 7) throw std::logic_error("a selector that replicates signs");
        result |= static_cast<uint32_t>(bytes >> (8 * nibble) & 255) << (8 * i);
    }
    return result;
}

inline float shuffle_xor(float value, int mask) {
    emulator::Warp& warp = emulator::warp();
    const int lane = emulator::lane();
    warp.value[lane] = value;
    emulator::meet_warp();
    const float other = warp.value[lane ^ mask];
    emulator::meet_warp();
    return other;
}

template <typename T>
float element(uint32_t bits, int i) {
    const uint16_t half = static_cast<uint16_t>(bits >> (16 * i));
    T value;
    std::memcpy(static_cast<void*>(&value), &half, 2);
    return to_float(value);
}

// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type", element i of a thread:
//     A: row groupID for i in 0, 1, 4, 5, else groupID + 8; column 2 threadID_in_group + (i & 1), + 8 for i >= 4
//     B: row 2 threadID_in_group + (i & 1), + 8 for i >= 2; column groupID
//     C: row groupID for i < 2, else groupID + 8; column 2 threadID_in_group + (i & 1)
template <typename T>
void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    emulator::Warp& warp = emulator::warp();
    const int lane = emulator::lane();
    std::copy(a, a + 4, warp.a[lane]);
    warp.b[lane][0] = b0;
    warp.b[lane][1] = b1;
    emulator::meet_warp();
    for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + (i < 2 ? 0 : 8), column = lane % 4 * 2 + (i & 1);
        double sum = c[i];
        for (int k = 0; k < 16; ++k) {
            const int left = row % 8 * 4 + k % 8 / 2, ai = (k & 1) + (row >= 8 ? 2 : 0) + (k >= 8 ? 4 : 0);
            const int right = column * 4 + k % 8 / 2, bi = (k & 1) + (k >= 8 ? 2 : 0);
            sum += static_cast<double>(element<T>(warp.a[left][ai / 2], ai % 2)) * element<T>(warp.b[right][bi / 2], bi % 2);
        }
        c[i] = static_cast<float>(sum);
    }
    emulator::meet_warp();
}

// PTX ISA, ldmatrix .x4: threads 8i to 8i + 7 hold the addresses of the rows of matrix i; thread l gets of each matrix row l /
// 4, columns 2 (l % 4) and the next. With .trans each matrix is transposed first.
inline void ldmatrix_any(uint32_t (&to)[4], const void* row, bool transposed) {
    emulator::Warp& warp = emulator::warp();
    const int lane = emulator::lane();
    if (reinterpret_cast<uintptr_t>(row) % 16) throw std::logic_error("ldmatrix of a row that is not aligned");
    warp.row[lane] = row;
    emulator::meet_warp();
    for (int i = 0; i < 4; ++i) {
        uint16_t both[2];
        for (int j = 0; j < 2; ++j) {
            const int r = transposed ? lane % 4 * 2 + j : lane / 4, c = transposed ? lane / 4 : lane % 4 * 2 + j;
            std::memcpy(&both[j], static_cast<const char*>(warp.row[8 * i + r]) + 2 * c, 2);
        }
        to[i] = both[0] | static_cast<uint32_t>(both[1]) << 16;
    }
    emulator::meet_warp();
}

inline void ldmatrix(uint32_t (&to)[4], const void* row) {
    ldmatrix_any(to, row, false);
}
inline void ldmatrix_transposed(uint32_t (&to)[4], const void* row) {
    ldmatrix_any(to, row, true);
}

template <int BYTES>
void copy_async(void* shared, const void* global, bool there) {
    if (reinterpret_cast<uintptr_t>(shared) % BYTES || reinterpret_cast<uintptr_t>(global) % BYTES) {
        throw std::logic_error("a copy that is not aligned");
    }
    std::memset(shared, 0xff, BYTES);
    emulator::now->open.push_back({shared, global, BYTES, there});
}

inline void copies_commit() {
    emulator::now->groups.push_back(std::move(emulator::now->open));
    emulator::now->open.clear();
}

template <int PENDING>
void copies_wait() {
    auto& groups = emulator::now->groups;
    while (groups.size() > PENDING) {
        for (const emulator::Copy& copy : groups.front()) {
            if (copy.there) {
                std::memcpy(copy.to, copy.from, copy.bytes);
            } else {
                std::memset(copy.to, 0, copy.bytes);
            }
        }
        groups.erase(groups.begin());
    }
}

inline void let_next_begin() {}
inline void wait_for_previous() {}

}  // namespace edgefm
