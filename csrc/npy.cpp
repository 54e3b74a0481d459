#include "npy.h"

#include <charconv>
#include <cstring>
#include <stdexcept>
#include <string_view>

namespace edgefm {
namespace {

void demand(bool right, const char* what) {
    if (!right) throw std::invalid_argument(what);
}

// What stands behind `key` in the header, a Python dictionary in the one way in which NumPy writes it.
std::string_view behind(std::string_view header, std::string_view key) {
    const size_t at = header.find(key);
    demand(at != std::string_view::npos, "the header of an array lacks a field");
    return header.substr(at + key.size());
}

constexpr int64_t kLongest = int64_t{1} << 40;  // of a side: an array without elements may state any

std::vector<int64_t> read_shape(std::string_view text) {
    std::vector<int64_t> shape;
    const size_t end = text.find(')');
    demand(end != std::string_view::npos, "an array's shape does not end");
    for (size_t at = 0; at < end;) {
        int64_t side = 0;
        const auto read = std::from_chars(text.data() + at, text.data() + end, side);
        demand(read.ec == std::errc() && side >= 0 && side <= kLongest, "an array's shape is no list of sizes");
        shape.push_back(side);
        at = static_cast<size_t>(read.ptr - text.data());
        while (at < end && (text[at] == ',' || text[at] == ' ')) ++at;
    }
    return shape;
}

}  // namespace

Npy read_npy(const uint8_t* data, size_t size) {
    demand(size >= 12 && std::memcmp(data, "\x93NUMPY", 6) == 0 && data[6] >= 1 && data[6] <= 3, "it is no .npy file");
    const size_t begin = data[6] == 1 ? 10 : 12;
    size_t length = data[8] | size_t{data[9]} << 8;
    if (begin == 12) length |= size_t{data[10]} << 16 | size_t{data[11]} << 24;
    demand(length <= size - begin, "the header of an array is cut short");
    const std::string_view header(reinterpret_cast<const char*>(data + begin), length);

    Npy array;
    const std::string_view type = behind(header, "'descr': '").substr(0, 3);
    demand(type == "|u1" || type == "<u2" || type == "<f4", "an array is not of uint8, uint16 or float32");
    array.kind = type == "|u1" ? Npy::Kind::u8 : type == "<u2" ? Npy::Kind::u16 : Npy::Kind::f32;
    demand(behind(header, "'fortran_order': ").substr(0, 5) == "False", "an array is stored column by column");
    array.shape = read_shape(behind(header, "'shape': ("));
    array.data = data + begin + length;
    const size_t item = array.kind == Npy::Kind::u8 ? 1 : array.kind == Npy::Kind::u16 ? 2 : 4;
    const size_t most = (size - begin - length) / item;
    array.count = 1;
    for (const int64_t side : array.shape) {
        demand(side == 0 || array.count <= most / static_cast<size_t>(side), "an array is cut short");
        array.count *= static_cast<size_t>(side);
    }
    demand(array.count == most && (size - begin - length) % item == 0, "an array is cut short or too long");
    return array;
}

}  // namespace edgefm
