#include "canonical.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <stdexcept>

namespace edgefm {
namespace {

[[noreturn]] void refuse(const char* what) {
    throw std::invalid_argument(std::string("it is not canonical JSON: ") + what);
}

// Keys in ascending order; UTF-8 sorts as its code points do.
void check_order(const Json& value) {
    if (value.kind() == Json::Kind::array) {
        for (const Json& each : value.array("")) check_order(each);
    } else if (value.kind() == Json::Kind::object) {
        const auto& fields = value.object("");
        for (size_t i = 1; i < fields.size(); ++i) {
            if (fields[i].first < fields[i - 1].first) refuse("keys are not sorted");
        }
        for (const auto& [_, each] : fields) check_order(each);
    }
}

std::string escape(char c) {
    static const char meant[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char* found = c == '\0' ? nullptr : std::strchr(meant, c);
    if (found != nullptr) return {'\\', letters[found - meant]};
    const char* digits = "0123456789abcdef";
    return {'\\', 'u', '0', '0', digits[(c >> 4) & 15], digits[c & 15]};
}

bool is_escaped(char c) {
    return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
}

// The length of the string that begins at `at`, quotes included.
size_t string_length(std::string_view text, size_t at) {
    size_t end = at + 1;
    for (; text[end] != '"'; ++end) end += text[end] == '\\';
    return end + 1 - at;
}

void check_number(std::string_view number) {
    if (number.find_first_of(".eE") == std::string_view::npos) {
        if (number == "-0") refuse("-0");
        return;
    }
    double value = 0;
    std::from_chars(number.data(), number.data() + number.size(), value);
    if (canonical_number(value) != number) refuse("a number is not the shortest");
}

}  // namespace

std::string canonical_string(std::string_view text) {
    std::string written = "\"";
    for (const char c : text) {
        if (is_escaped(c)) {
            written += escape(c);
        } else {
            written += c;
        }
    }
    return written + "\"";
}

// Digits d1 d2 … dn and a point behind the p-th: as they are for -5 < p <= 16, else with an exponent.
std::string canonical_number(double value) {
    char buffer[32];
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
    const std::string_view written(buffer, static_cast<size_t>(end - buffer));  // "-d.ddde+xx"
    const size_t e = written.find('e');
    int exponent = 0;
    const char* power = written.data() + e + 1;
    std::from_chars(power + (*power == '+'), end, exponent);
    const std::string sign = written[0] == '-' ? "-" : "";
    std::string digits(written.substr(sign.size(), e - sign.size()));
    digits.erase(std::remove(digits.begin(), digits.end(), '.'), digits.end());
    const int count = static_cast<int>(digits.size()), point = exponent + 1;
    if (digits == "0") return sign + "0.0";
    if (count <= point && point <= 16) return sign + digits + std::string(static_cast<size_t>(point - count), '0') + ".0";
    if (0 < point && point <= 16) return sign + digits.substr(0, point) + "." + digits.substr(point);
    if (-5 < point && point <= 0) return sign + "0." + std::string(static_cast<size_t>(-point), '0') + digits;
    return sign + digits.substr(0, 1) + (count > 1 ? "." + digits.substr(1) : "") + "e" + std::to_string(exponent);
}

void check_canonical(const Json& value, std::string_view text) {
    check_order(value);
    for (size_t at = 0; at < text.size();) {
        size_t length = 1;
        if (std::strchr(" \t\n\r", text[at]) != nullptr) refuse("space between tokens");
        if (text[at] == '"') {
            length = string_length(text, at);
            const std::string_view whole = text.substr(at, length);
            if (whole.find('\\') != std::string_view::npos) {
                if (canonical_string(Json::parse(whole.data(), whole.size()).string("")) != whole) refuse("an escape");
            }
        } else if (text[at] == '-' || (text[at] >= '0' && text[at] <= '9')) {
            length = std::min(text.find_first_not_of("0123456789+-.eE", at), text.size()) - at;
            check_number(text.substr(at, length));
        }
        at += length;
    }
}

}  // namespace edgefm
