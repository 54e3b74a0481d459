// The beginning of a name for a message: UTF-8, cut in front of a character and not within one.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace edgefm {

// At most `most` bytes of it.
inline std::string excerpt(std::string_view text, size_t most) {
    if (text.size() <= most) return std::string(text);
    size_t end = most;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // bytes 10xxxxxx continue a character
    return std::string(text.substr(0, end));
}

}  // namespace edgefm
