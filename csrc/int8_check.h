// Whether a layer's int8 weights are what every instruction set takes them for: some read the sums beside them, some add the
// codes up as they go, and some multiply the padding with what lies behind a row. Not their place in the file
// (`vit_weights.cpp`).
#pragma once

#include <string>

#include "kernels/table.h"

namespace edgefm {

// What is wrong with codes, padding or sums, for a message; "" if they are right. Reads all of them once.
std::string wrong_codes(const Int8Weights& weights);

}  // namespace edgefm
