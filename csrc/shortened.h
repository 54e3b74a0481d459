// The beginning of a text for a message, cut at the end of a character.
#pragma once

#include <cstddef>
#include <string_view>

namespace edgefm {

// At most `most` bytes. Text that is no UTF-8 is cut somewhere.
inline std::string_view shortened(std::string_view text, size_t most) {
    if (text.size() <= most) return text;
    size_t end = most;
    while (end != 0 && most - end < 3 && (text[end] & 0xc0) == 0x80) --end;  // a character has four bytes at most
    return text.substr(0, (text[end] & 0xc0) == 0x80 ? most : end);
}

}  // namespace edgefm
