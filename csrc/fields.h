// The fields of one JSON object that shall become a struct: each known, each of its kind.
// Not the parser (json.h): this is how its values are taken.
#pragma once

#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "json.h"

namespace edgefm {

class Fields {
  public:
    // Throws std::invalid_argument where there is another field than these, or no object.
    Fields(const Json& json, const char* what, std::initializer_list<std::string_view> known) : json_(json) {
        for (const auto& [key, _] : json.object(what)) {
            bool found = false;
            for (const std::string_view each : known) found = found || each == key;
            if (!found) throw std::invalid_argument(std::string(what) + " has a field that this EdgeFM does not know");
        }
    }

    const Json& operator[](std::string_view key) const { return json_.at(key); }
    const Json* find(std::string_view key) const { return json_.find(key); }

    // Null where the field is absent or null.
    const Json* value(std::string_view key) const {
        const Json* found = json_.find(key);
        return found == nullptr || found->kind() == Json::Kind::null ? nullptr : found;
    }

    std::string string(const char* key) const { return json_.at(key).string(key); }

    std::vector<std::string> strings(const char* key) const {
        std::vector<std::string> all;
        for (const Json& each : json_.at(key).array(key)) all.push_back(each.string(key));
        return all;
    }

    std::vector<double> numbers(const char* key) const {
        std::vector<double> all;
        for (const Json& each : json_.at(key).array(key)) all.push_back(each.number(key));
        return all;
    }

  private:
    const Json& json_;
};

}  // namespace edgefm
