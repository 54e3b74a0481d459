#include "int8_check.h"

#include <cstring>

namespace edgefm {
namespace {

// A group's codes as bytes, and as pairs of them. Vectors of 16 bytes are what the oldest processors have.
typedef uint8_t Bytes __attribute__((vector_size(16)));
typedef int16_t Pairs __attribute__((vector_size(16)));
typedef uint16_t Bits __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));

constexpr int kGroupBytes = kColumns * kGroup;
constexpr int kVectors = kGroupBytes / 16;
constexpr int kMostGroups = 64;  // a pair's sum stays above -64 * 256

struct Block {
    int32_t sum[kColumns];
    bool least;                 // whether -128 was among the codes
    uint8_t seen[kGroupBytes];  // or of all groups: what is 0 was 0 in each
};

// One vector's columns through all groups: four of the block's.
void add_columns(const int8_t* code, int groups, Ints& sum, Bytes& least, Bytes& seen) {
    for (int first = 0; first < groups; first += kMostGroups) {
        const int last = first + kMostGroups < groups ? first + kMostGroups : groups;
        Pairs low = {}, high = {};
        for (int g = first; g < last; ++g) {
            Bytes bytes;
            std::memcpy(&bytes, code + g * kGroupBytes, sizeof bytes);
            least |= reinterpret_cast<Bytes>(bytes == 128);
            seen |= bytes;
            low += reinterpret_cast<Pairs>(reinterpret_cast<Bits>(bytes) << 8) >> 8;
            high += reinterpret_cast<Pairs>(bytes) >> 8;
        }
        const Pairs both = low + high;
        sum += (reinterpret_cast<Ints>(both) << 16 >> 16) + (reinterpret_cast<Ints>(both) >> 16);
    }
}

Block read_block(const int8_t* code, int groups) {
    Block block;
    Bytes least = {};
    for (int v = 0; v < kVectors; ++v) {
        Ints sum = {};
        Bytes seen = {};
        add_columns(code + v * 16, groups, sum, least, seen);
        std::memcpy(block.sum + v * 4, &sum, sizeof sum);
        std::memcpy(block.seen + v * 16, &seen, sizeof seen);
    }
    block.least = false;
    for (int i = 0; i < 16; ++i) block.least = block.least || least[i] != 0;
    return block;
}

}  // namespace

std::string wrong_codes(const Int8Weights& w) {
    const int groups = static_cast<int>(round_up(w.k, kGroup)) / kGroup, last = w.k % kGroup;
    for (int first = 0; first < w.n; first += kColumns) {
        const int8_t* code = w.weight + int64_t{first} * groups * kGroup;
        const Block block = read_block(code, groups);
        if (block.least) return "has a code of -128; expected -127 to 127";
        const int8_t* end = code + int64_t{groups - 1} * kGroupBytes;
        for (int column = 0; column < kColumns; ++column) {
            const bool live = first + column < w.n;
            for (int i = 0; i < kGroup; ++i) {
                const bool added =
                    live ? last != 0 && i >= last && end[column * kGroup + i] != 0 : block.seen[column * kGroup + i] != 0;
                if (added) return "has codes behind its last input or column; expected zeros";
            }
            if (block.sum[column] != w.sum[first + column]) {
                return "adds up to " + std::to_string(block.sum[column]) + " in column " + std::to_string(first + column) +
                       "; expected " + std::to_string(w.sum[first + column]) + ", as its sum says";
            }
        }
    }
    return "";
}

}  // namespace edgefm
