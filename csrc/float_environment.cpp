#include "float_environment.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace edgefm {
namespace {

// The register and what a new process has in it: MXCSR with all exceptions masked, FPCR of zeros. The x87 registers compute
// nothing here.
#if defined(__x86_64__)
constexpr uint64_t kPlain = 0x1f80;
uint64_t read() {
    return _mm_getcsr();
}
void write(uint64_t value) {
    _mm_setcsr(static_cast<unsigned>(value));
}
#elif defined(__aarch64__)
constexpr uint64_t kPlain = 0;
uint64_t read() {
    uint64_t value;
    __asm__ volatile("mrs %0, fpcr" : "=r"(value));
    return value;
}
void write(uint64_t value) {
    __asm__ volatile("msr fpcr, %0" : : "r"(value));
}
#else
constexpr uint64_t kPlain = 0;
uint64_t read() {
    return kPlain;
}
void write(uint64_t) {}
#endif

}  // namespace

PlainFloats::PlainFloats() : before_(read()) {
    if (before_ != kPlain) write(kPlain);
}

// Always, since the work has raised flags, which are the caller's.
PlainFloats::~PlainFloats() {
    write(before_);
}

}  // namespace edgefm
