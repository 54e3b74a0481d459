// What a thread's floats obey: rounding, denormals, traps.
// Not the arithmetic: this only makes it the same whatever the caller's program has set, so that one image has one answer.
#pragma once

#include <cstdint>

namespace edgefm {

// While it lives, this thread rounds to nearest, keeps denormals and traps nothing; then all is as it was before.
class PlainFloats {
  public:
    PlainFloats();
    ~PlainFloats();
    PlainFloats(const PlainFloats&) = delete;
    PlainFloats& operator=(const PlainFloats&) = delete;

  private:
    uint64_t before_ = 0;
};

}  // namespace edgefm
