// The one way a bundle's JSON is written (docs/efm-format.md, "Canonical JSON"): does this text keep to it?
// Not the parser (json.h), whose values these texts are.
#pragma once

#include <string>
#include <string_view>

#include "json.h"

namespace edgefm {

// Throws std::invalid_argument unless `text`, which `value` was parsed from, is canonical.
void check_canonical(const Json& value, std::string_view text);

// A float with the fewest digits that give it back, always with a point or an exponent. A finite one.
std::string canonical_number(double value);

// In quotes; only the quote, the backslash and characters below U+0020 are escaped.
std::string canonical_string(std::string_view text);

}  // namespace edgefm
