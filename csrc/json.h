// Strict reading of small JSON documents: the manifest, preprocessing, an
// encoder's description. Not a writer, and no streaming: the text stays where
// it is and must outlive the values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace edgefm {

// One value. Numbers keep their kind: integers that fit into int64 are exact,
// others are doubles.
class Json {
  public:
    enum class Kind { null, boolean, integer, real, string, array, object };

    // Throws std::invalid_argument("… at byte N") on anything that RFC 8259
    // refuses, on duplicate keys, on more than 64 levels or 1,000,000 values, on
    // invalid UTF-8, on anything behind the value.
    static Json parse(const char* text, size_t size);

    Kind kind() const { return kind_; }
    // Each throws std::invalid_argument naming `what` if the value is of another
    // kind.
    bool boolean(const char* what) const;
    int64_t integer(const char* what) const;
    double number(const char* what) const;  // an integer or a real
    const std::string& string(const char* what) const;
    const std::vector<Json>& array(const char* what) const;
    const std::vector<std::pair<std::string, Json>>& object(const char* what) const;  // in the document's order
    const Json* find(std::string_view key) const;                                     // null if absent or no object
    const Json& at(std::string_view key) const;                                       // throws naming the key

  private:
    friend class JsonParser;
    Kind kind_ = Kind::null;
    bool boolean_ = false;
    int64_t integer_ = 0;
    double real_ = 0;
    std::string string_;
    std::vector<Json> array_;
    std::vector<std::pair<std::string, Json>> object_;
};

}  // namespace edgefm
