#include "json.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <stdexcept>

namespace edgefm {
namespace {

constexpr int kMostLevels = 64;            // of nesting: the parser calls itself
constexpr size_t kMostValues = 1'000'000;  // of a document: each takes about 100 bytes

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// The length of the UTF-8 sequence at `p` (RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF), or 0.
size_t utf8_length(const char* p, const char* end) {
    const auto byte = [&](ptrdiff_t i) { return i < end - p ? static_cast<uint8_t>(p[i]) : uint8_t{0}; };
    const auto follows = [&](ptrdiff_t i) { return (byte(i) & 0xc0) == 0x80; };
    const uint8_t first = byte(0), second = byte(1);
    if (first < 0x80) return 1;
    if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
    if (first >= 0xe0 && first <= 0xef) {
        const bool overlong = first == 0xe0 && second < 0xa0, surrogate = first == 0xed && second > 0x9f;
        return follows(1) && follows(2) && !overlong && !surrogate ? 3 : 0;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        const bool overlong = first == 0xf0 && second < 0x90, above = first == 0xf4 && second > 0x8f;
        return follows(1) && follows(2) && follows(3) && !overlong && !above ? 4 : 0;
    }
    return 0;
}

void append_utf8(std::string& text, uint32_t code) {
    const auto add = [&](uint32_t byte) { text += static_cast<char>(byte); };
    if (code < 0x80) {
        add(code);
    } else if (code < 0x800) {
        add(0xc0 | code >> 6), add(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        add(0xe0 | code >> 12), add(0x80 | (code >> 6 & 0x3f)), add(0x80 | (code & 0x3f));
    } else {
        add(0xf0 | code >> 18), add(0x80 | (code >> 12 & 0x3f)), add(0x80 | (code >> 6 & 0x3f)), add(0x80 | (code & 0x3f));
    }
}

}  // namespace

// Recursive descent over RFC 8259's grammar.
class JsonParser {
  public:
    JsonParser(const char* text, size_t size) : begin_(text), at_(text), end_(text + size) {}

    Json document() {
        Json value = this->value(0);
        space();
        if (at_ != end_) fail("something stands behind the value");
        return value;
    }

  private:
    [[noreturn]] void fail(const char* what) const {
        throw std::invalid_argument(std::string(what) + " at byte " + std::to_string(at_ - begin_));
    }

    void space() {
        while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
    }

    // The next byte behind white space, which may be looked at.
    char next() {
        space();
        if (at_ == end_) fail("the text ends too early");
        return *at_;
    }

    bool take(char c) {
        if (next() != c) return false;
        ++at_;
        return true;
    }

    Json value(int level) {
        Json value;
        if (++values_ > kMostValues) fail("more than 1000000 values");
        switch (next()) {
            case '{':
                object(value, level + 1);
                break;
            case '[':
                array(value, level + 1);
                break;
            case '"':
                value.kind_ = Json::Kind::string;
                value.string_ = string();
                break;
            case 't':
            case 'f':
                value.kind_ = Json::Kind::boolean;
                value.boolean_ = *at_ == 't';
                word(value.boolean_ ? "true" : "false");
                break;
            case 'n':
                word("null");
                break;
            default:
                number(value);
        }
        return value;
    }

    void word(const char* expected) {
        const size_t length = std::strlen(expected);
        if (static_cast<size_t>(end_ - at_) < length || std::memcmp(at_, expected, length) != 0) fail("a word is unknown");
        at_ += length;
    }

    void enter(int level) {
        if (level > kMostLevels) fail("more than 64 levels");
        ++at_;
    }

    void array(Json& value, int level) {
        value.kind_ = Json::Kind::array;
        enter(level);
        if (take(']')) return;
        do value.array_.push_back(this->value(level));
        while (take(','));
        if (!take(']')) fail("an array lacks ',' or ']'");
    }

    void object(Json& value, int level) {
        value.kind_ = Json::Kind::object;
        enter(level);
        if (take('}')) return;
        do {
            if (next() != '"') fail("a key is no string");
            std::string key = string();
            if (!take(':')) fail("a key lacks ':'");
            value.object_.emplace_back(std::move(key), this->value(level));
        } while (take(','));
        if (!take('}')) fail("an object lacks ',' or '}'");
        std::vector<std::string_view> keys;
        keys.reserve(value.object_.size());
        for (const auto& [key, _] : value.object_) keys.push_back(key);
        std::sort(keys.begin(), keys.end());
        if (std::adjacent_find(keys.begin(), keys.end()) != keys.end()) fail("a key comes twice in the object that ends");
    }

    std::string string() {
        std::string text;
        ++at_;
        for (;;) {
            if (at_ == end_) fail("a string does not end");
            const uint8_t c = static_cast<uint8_t>(*at_);
            if (c == '"') break;
            if (c == '\\') {
                escape(text);
            } else if (c < 0x20) {
                fail("a control character is in a string");
            } else {
                const size_t length = utf8_length(at_, end_);
                if (length == 0) fail("invalid UTF-8");
                text.append(at_, length);
                at_ += length;
            }
        }
        ++at_;
        return text;
    }

    void escape(std::string& text) {
        ++at_;
        if (at_ == end_) fail("a string does not end");
        static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        const char c = *at_++;
        if (c == 'u') {
            uint32_t code = four_digits();
            if (code >= 0xdc00 && code <= 0xdfff) fail("half a surrogate pair");
            if (code >= 0xd800 && code <= 0xdbff) {
                if (end_ - at_ < 2 || at_[0] != '\\' || at_[1] != 'u') fail("half a surrogate pair");
                at_ += 2;
                const uint32_t low = four_digits();
                if (low < 0xdc00 || low > 0xdfff) fail("half a surrogate pair");
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            }
            append_utf8(text, code);
            return;
        }
        const char* found = c == '\0' ? nullptr : std::strchr(letters, c);
        if (found == nullptr) fail("an unknown escape");
        text += meant[found - letters];
    }

    uint32_t four_digits() {
        uint32_t code = 0;
        for (int i = 0; i < 4; ++i, ++at_) {
            if (at_ == end_) fail("a string does not end");
            const char c = *at_;
            const int digit = is_digit(c)            ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                     : -1;
            if (digit < 0) fail("no hexadecimal digit");
            code = code << 4 | static_cast<uint32_t>(digit);
        }
        return code;
    }

    void digits() {
        if (at_ == end_ || !is_digit(*at_)) fail("a digit is missing");
        while (at_ != end_ && is_digit(*at_)) ++at_;
    }

    void number(Json& value) {
        const char* start = at_;
        if (*at_ == '-') ++at_;
        if (at_ == end_ || !is_digit(*at_)) fail("no JSON value");
        if (*at_ == '0' && at_ + 1 != end_ && is_digit(at_[1])) fail("a number begins with 0");
        digits();
        bool whole = true;
        if (at_ != end_ && *at_ == '.') {
            whole = false, ++at_;
            digits();
        }
        if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
            whole = false, ++at_;
            if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
            digits();
        }
        value.kind_ = Json::Kind::integer;
        if (whole && std::from_chars(start, at_, value.integer_).ec == std::errc()) return;
        value.kind_ = Json::Kind::real;
        // Not strtod: it reads a decimal comma where the locale has one.
        if (std::from_chars(start, at_, value.real_).ec != std::errc()) fail("a number that no double can hold ends");
    }

    const char *begin_, *at_, *end_;
    size_t values_ = 0;
};

namespace {

void expect(bool right, const char* what, const char* kind) {
    if (!right) throw std::invalid_argument(std::string(what) + " is not " + kind);
}

}  // namespace

Json Json::parse(const char* text, size_t size) {
    return JsonParser(text, size).document();
}

bool Json::boolean(const char* what) const {
    expect(kind_ == Kind::boolean, what, "true or false");
    return boolean_;
}

int64_t Json::integer(const char* what) const {
    expect(kind_ == Kind::integer, what, "an integer");
    return integer_;
}

double Json::number(const char* what) const {
    expect(kind_ == Kind::integer || kind_ == Kind::real, what, "a number");
    return kind_ == Kind::integer ? static_cast<double>(integer_) : real_;
}

const std::string& Json::string(const char* what) const {
    expect(kind_ == Kind::string, what, "a string");
    return string_;
}

const std::vector<Json>& Json::array(const char* what) const {
    expect(kind_ == Kind::array, what, "an array");
    return array_;
}

const std::vector<std::pair<std::string, Json>>& Json::object(const char* what) const {
    expect(kind_ == Kind::object, what, "an object");
    return object_;
}

const Json* Json::find(std::string_view key) const {
    for (const auto& [name, value] : object_) {
        if (name == key) return &value;
    }
    return nullptr;
}

const Json& Json::at(std::string_view key) const {
    const Json* value = find(key);
    if (value == nullptr) throw std::invalid_argument("\"" + std::string(key) + "\" is absent");
    return *value;
}

}  // namespace edgefm
