// The kernels of linear layers and rows for Python, on raw pointers, one table of them by name; use edgefm.kernels. No
// arithmetic here. Sizes and alignment are checked; that the memory is as large as they say is the caller's.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bindings_pointers.h"

namespace py = pybind11;

namespace {

using edgefm::kGroup;
using edgefm::pointer;
using edgefm::require;
using edgefm::round_up;
using edgefm::table;

void check_rows(int rows, int k) {
    require(rows >= 0 && k >= 1 && k <= 1 << 17, "rows must be 0 or more, k 1 to 131072");
}

edgefm::Int8Rows int8_rows(uintptr_t code, int64_t stride, uintptr_t scale, int k) {
    require(stride % 64 == 0 && stride >= round_up(k, kGroup), "the codes' stride must be a multiple of 64 and hold k");
    return {pointer<uint8_t>(code, "code", 64), stride, pointer<float>(scale, "scale", 4)};
}

// (weight, scale, sum, bias or 0, n, k)
edgefm::Int8Weights int8_weights(const py::tuple& from) {
    require(from.size() == 6, "int8 weights are (weight, scale, sum, bias, n, k)");
    edgefm::Int8Weights w;
    w.weight = pointer<const int8_t>(from[0].cast<uintptr_t>(), "weight", 64);
    w.scale = pointer<const float>(from[1].cast<uintptr_t>(), "weight's scale", 4);
    w.sum = pointer<const int32_t>(from[2].cast<uintptr_t>(), "weight's sum", 4);
    w.bias = pointer<const float>(from[3].cast<uintptr_t>(), "bias", 4, false);
    w.n = from[4].cast<int>();
    w.k = from[5].cast<int>();
    require(w.n >= 1, "n must be positive");
    check_rows(0, w.k);
    return w;
}

// (activation, gamma or 0, residual or 0, residual's stride)
edgefm::Epilogue epilogue(const py::tuple& from, int n) {
    require(from.size() == 4, "what follows is (activation, gamma, residual, residual's stride)");
    const std::vector<std::string> names = {"none", "gelu", "gelu_tanh", "swiglu"};
    edgefm::Epilogue after;
    const std::string name = from[0].cast<std::string>();
    const auto found = std::find(names.begin(), names.end(), name);
    require(found != names.end(), "activation must be none, gelu, gelu_tanh or swiglu");
    after.activation = static_cast<edgefm::Activation>(found - names.begin());
    require(name != "swiglu" || n % (2 * edgefm::kColumns) == 0, "swiglu needs n to be a multiple of 32");
    after.gamma = pointer<const float>(from[1].cast<uintptr_t>(), "gamma", 4, false);
    after.residual = pointer<const float>(from[2].cast<uintptr_t>(), "residual", 4, false);
    after.residual_stride = from[3].cast<int64_t>();
    return after;
}

void quantize_rows(const std::string& isa, uintptr_t x, int64_t x_stride, int rows, int k, uintptr_t code, int64_t stride,
                   uintptr_t scale) {
    check_rows(rows, k);
    const edgefm::Kernels& kernels = table(isa);
    const float* from = pointer<const float>(x, "x", 4);
    const edgefm::Int8Rows out = int8_rows(code, stride, scale, k);
    const py::gil_scoped_release released;
    kernels.quantize_rows(from, x_stride, rows, k, out);
}

void layernorm(const std::string& isa, uintptr_t x, int64_t x_stride, int rows, int k, uintptr_t gamma, uintptr_t beta,
               double eps, uintptr_t y, int64_t y_stride, uintptr_t code, int64_t stride, uintptr_t scale) {
    check_rows(rows, k);
    const edgefm::Kernels& kernels = table(isa);
    edgefm::LayerNorm call;
    call.x = pointer<const float>(x, "x", 4);
    call.x_stride = x_stride;
    call.m = rows;
    call.k = k;
    call.gamma = pointer<const float>(gamma, "gamma", 4, false);
    call.beta = pointer<const float>(beta, "beta", 4, false);
    call.eps = static_cast<float>(eps);
    call.y = pointer<float>(y, "y", 4, false);
    call.y_stride = y_stride;
    if (code != 0) call.codes = int8_rows(code, stride, scale, k);
    const py::gil_scoped_release released;
    kernels.layernorm(call);
}

// `adapters`: a list of (a, b), int8 weights each; `adapter_of`: int32 [rows], or 0.
void linear_int8(const std::string& isa, const py::tuple& rows_of_x, const py::tuple& weights, const py::tuple& after,
                 const std::vector<std::pair<py::tuple, py::tuple>>& adapters, uintptr_t adapter_of, int rows, uintptr_t y,
                 int64_t y_stride) {
    const edgefm::Kernels& kernels = table(isa);
    const edgefm::Int8Weights w = int8_weights(weights);
    check_rows(rows, w.k);
    require(rows_of_x.size() == 3, "rows of x are (code, stride, scale)");
    edgefm::LinearInt8 call;
    call.x = int8_rows(rows_of_x[0].cast<uintptr_t>(), rows_of_x[1].cast<int64_t>(), rows_of_x[2].cast<uintptr_t>(), w.k);
    call.m = rows;
    call.w = &w;
    std::vector<edgefm::Int8Adapter> low;
    for (const auto& [a, b] : adapters) {
        low.push_back({int8_weights(a), int8_weights(b)});
        const int rank = low.back().a.n;
        require(rank <= edgefm::kMaxRank, "an adapter's rank is at most 64");
        require(low.back().a.k == w.k && low.back().b.n == w.n && low.back().b.k == rank, "an adapter does not fit its layer");
    }
    const int32_t* index = pointer<const int32_t>(adapter_of, "adapter_of", 4, false);
    require(index == nullptr || !low.empty(), "rows name adapters, but there are none");
    for (int row = 0; index != nullptr && row < rows; ++row) {
        require(index[row] >= -1 && index[row] < static_cast<int>(low.size()), "a row names an adapter that there is not");
    }
    call.adapters = low.empty() ? nullptr : low.data();
    call.adapter_of = index;
    call.after = epilogue(after, w.n);
    call.y = pointer<float>(y, "y", 4);
    call.y_stride = y_stride;
    std::vector<uint8_t> scratch(low.empty() ? 0 : kernels.linear_scratch(rows) + 64);
    if (!low.empty()) call.scratch = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
    const py::gil_scoped_release released;
    kernels.linear_int8(call);
}

void linear_fp32(const std::string& isa, uintptr_t x, int64_t x_stride, uintptr_t weight, uintptr_t bias, int n, int k,
                 const py::tuple& after, int rows, uintptr_t y, int64_t y_stride, bool same_bits) {
    check_rows(rows, k);
    require(n >= 1, "n must be positive");
    const edgefm::Kernels& kernels = table(isa);
    const edgefm::Fp32Weights w = {pointer<const float>(weight, "weight", 64), pointer<const float>(bias, "bias", 4, false), n,
                                   k};
    edgefm::LinearFp32 call;
    call.x = pointer<const float>(x, "x", 4);
    call.x_stride = x_stride;
    call.m = rows;
    call.w = &w;
    call.same_bits = same_bits;
    call.after = epilogue(after, n);
    call.y = pointer<float>(y, "y", 4);
    call.y_stride = y_stride;
    const py::gil_scoped_release released;
    kernels.linear_fp32(call);
}

std::vector<std::string> kernel_tables() {
    std::vector<std::string> found;
    for (const char* name : {"scalar", "sse41", "avx2", "avx_vnni", "avx512_vnni", "neon_dotprod"}) {
        if (edgefm::kernels(name) != nullptr) found.push_back(name);
    }
    return found;
}

}  // namespace

void bind_kernels(py::module_& module) {
    module.def("kernel_tables", &kernel_tables, "The instruction sets whose kernels this processor runs, in rising order.");
    module.def(
        "best_table", [] { return std::string(edgefm::best_kernels().name); },
        "The kernels that run here, capped by the variable EDGEFM_ISA. Throws ValueError on an unknown word.");
    module.def("quantize_rows", &quantize_rows, py::kw_only(), py::arg("isa"), py::arg("x"), py::arg("x_stride"),
               py::arg("rows"), py::arg("k"), py::arg("code"), py::arg("stride"), py::arg("scale"),
               "See quantize_rows in csrc/kernels/table.h.");
    module.def("layernorm", &layernorm, py::kw_only(), py::arg("isa"), py::arg("x"), py::arg("x_stride"), py::arg("rows"),
               py::arg("k"), py::arg("gamma") = 0, py::arg("beta") = 0, py::arg("eps") = 1e-6, py::arg("y") = 0,
               py::arg("y_stride") = 0, py::arg("code") = 0, py::arg("stride") = 0, py::arg("scale") = 0,
               "See LayerNorm in csrc/kernels/table.h.");
    module.def("linear_int8", &linear_int8, py::kw_only(), py::arg("isa"), py::arg("x"), py::arg("weights"), py::arg("after"),
               py::arg("adapters"), py::arg("adapter_of") = 0, py::arg("rows"), py::arg("y"), py::arg("y_stride"),
               "See LinearInt8 in csrc/kernels/table.h.");
    module.def("linear_fp32", &linear_fp32, py::kw_only(), py::arg("isa"), py::arg("x"), py::arg("x_stride"), py::arg("weight"),
               py::arg("bias"), py::arg("n"), py::arg("k"), py::arg("after"), py::arg("rows"), py::arg("y"),
               py::arg("y_stride"), py::arg("same_bits") = false, "See LinearFp32 in csrc/kernels/table.h.");
}
