// The attention kernels for Python, on raw pointers, one table of them by name; use edgefm.kernels. No arithmetic here.
// Sizes and alignment are checked; that the memory is as large as they say is the caller's.

#include <pybind11/pybind11.h>

#include <cmath>
#include <string>

#include "kernels/table.h"

namespace py = pybind11;

namespace {

void require(bool right, const std::string& wrong) {
    if (!right) throw py::value_error(wrong);
}

template <typename T>
T* pointer(uintptr_t address, const char* name, uintptr_t alignment, bool needed = true) {
    require(address != 0 || !needed, std::string(name) + " is null");
    require(address % alignment == 0, std::string(name) + " must be aligned to " + std::to_string(alignment) + " bytes");
    return reinterpret_cast<T*>(address);
}

const edgefm::Kernels& table(const std::string& isa) {
    const edgefm::Kernels* found = isa.empty() ? &edgefm::best_kernels() : edgefm::kernels(isa.c_str());
    require(found != nullptr, "this processor has no " + isa);
    return *found;
}

void check_sizes(int tokens, int width) {
    require(tokens >= 1 && tokens <= 8192, "tokens must be 1 to 8192");
    require(width >= 32 && width <= 128 && width % 8 == 0, "width must be 32 to 128 and a multiple of 8");
}

py::tuple attention_bytes(const std::string& isa, int tokens, int width) {
    check_sizes(tokens, width);
    const edgefm::Kernels& kernels = table(isa);
    return py::make_tuple(kernels.attention_packed(tokens, width), kernels.attention_scratch(tokens, width));
}

// One head: packs K and V, or with `rows` = (first, last) attends from those rows to what was packed.
void attention(const std::string& isa, const std::string& precision, uintptr_t q, uintptr_t k, uintptr_t v, int64_t stride,
               int tokens, int width, double scale, uintptr_t packed, uintptr_t scratch, const py::object& rows, uintptr_t y,
               int64_t y_stride, uintptr_t lse, uintptr_t row0) {
    check_sizes(tokens, width);
    require(precision == "int8" || precision == "fp32", "precision must be int8 or fp32");
    require(std::isfinite(scale) && scale > 0, "scale must be finite and above 0");
    require(stride >= width && (y == 0 || y_stride >= width), "rows overlap");
    edgefm::Attention a;
    a.q = pointer<const float>(q, "q", 4);
    a.k = pointer<const float>(k, "k", 4);
    a.v = pointer<const float>(v, "v", 4);
    a.stride = stride;
    a.tokens = tokens;
    a.width = width;
    a.scale = static_cast<float>(scale);
    a.packed = pointer<uint8_t>(packed, "packed", 64);
    a.scratch = pointer<uint8_t>(scratch, "scratch", 64);
    a.y = pointer<float>(y, "y", 4, !rows.is_none());
    a.y_stride = y_stride;
    a.lse = pointer<float>(lse, "lse", 4, false);
    a.row0 = pointer<float>(row0, "row0", 4, false);
    int first = 0, last = 0;
    if (!rows.is_none()) std::tie(first, last) = rows.cast<std::pair<int, int>>();
    require(0 <= first && first <= last && last <= tokens, "rows must lie within the tokens");
    const edgefm::Kernels& kernels = table(isa);
    const bool int8 = precision == "int8", pack = rows.is_none();
    const py::gil_scoped_release released;
    if (pack) {
        (int8 ? kernels.attention_pack_int8 : kernels.attention_pack_fp32)(a);
    } else {
        (int8 ? kernels.attention_int8 : kernels.attention_fp32)(a, first, last);
    }
}

}  // namespace

void bind_attention(py::module_& module) {
    module.def("attention_bytes", &attention_bytes, py::arg("isa"), py::arg("tokens"), py::arg("width"),
               "(bytes of `packed`, bytes of `scratch`) that attention wants, both aligned to 64.");
    module.def("attention", &attention, py::kw_only(), py::arg("isa"), py::arg("precision"), py::arg("q"), py::arg("k"),
               py::arg("v"), py::arg("stride"), py::arg("tokens"), py::arg("width"), py::arg("scale"), py::arg("packed"),
               py::arg("scratch"), py::arg("rows") = py::none(), py::arg("y") = 0, py::arg("y_stride") = 0, py::arg("lse") = 0,
               py::arg("row0") = 0,
               "One head, see Attention in csrc/kernels/table.h: packs K and V, or attends from `rows` to what was packed.");
}
