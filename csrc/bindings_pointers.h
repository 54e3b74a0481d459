// What the bindings of kernels share: checks that become ValueError, addresses as pointers, a table by its name.
// Not a binding.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "kernels/table.h"

namespace edgefm {

inline void require(bool right, const std::string& wrong) {
    if (!right) throw pybind11::value_error(wrong);
}

template <typename T>
T* pointer(uintptr_t address, const char* name, uintptr_t alignment, bool needed = true) {
    require(address != 0 || !needed, std::string(name) + " is null");
    require(address % alignment == 0, std::string(name) + " must be aligned to " + std::to_string(alignment) + " bytes");
    return reinterpret_cast<T*>(address);
}

inline const Kernels& table(const std::string& isa) {
    const Kernels* found = isa.empty() ? &best_kernels() : kernels(isa.c_str());
    require(found != nullptr, "this processor has no " + isa);
    return *found;
}

}  // namespace edgefm
