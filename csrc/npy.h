// Arrays as NumPy writes them (`.npy`, format 1 to 3), of the three kinds that golden inputs and outputs have.
// Not a reader of everything that NumPy can write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace edgefm {

struct Npy {
    enum class Kind { u8, u16, f32 };
    Kind kind = Kind::u8;
    std::vector<int64_t> shape;
    const uint8_t* data = nullptr;  // row by row, in place, not aligned
    size_t count = 0;               // elements
};

// Throws std::invalid_argument where the bytes are no such array or are cut short.
Npy read_npy(const uint8_t* data, size_t size);

}  // namespace edgefm
