// edgefm._cuda: the CUDA kernels for Python, without torch: pointers and the stream come as integers. No arithmetic here.
// Sizes, alignment and the card are checked before anything is launched; tensors' dtypes and devices are edgefm/kernels/cuda's.

#include <cuda_runtime.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "attention.h"
#include "lora_linear.h"

namespace py = pybind11;

namespace {

void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

void require(bool right, const std::string& wrong) {
    if (!right) throw py::value_error(wrong);
}

int attribute(cudaDeviceAttr which, int device) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, device), "asking for the card's properties");
    return value;
}

// Makes a device current, and at the end the one before.
class OnDevice {
  public:
    explicit OnDevice(int device) {
        check(cudaGetDevice(&before_), "asking for the current card");
        if (before_ != device) {
            check(cudaSetDevice(device), "choosing the card");
            changed_ = true;
        }
    }
    ~OnDevice() {
        if (changed_) cudaSetDevice(before_);
    }
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

  private:
    int before_ = 0;
    bool changed_ = false;
};

template <typename T>
T* pointer(uintptr_t address, const char* name, int alignment, bool needed = true) {
    require(address != 0 || !needed, std::string(name) + " is null");
    require(address % alignment == 0, std::string(name) + " must be aligned to " + std::to_string(alignment) + " bytes");
    return reinterpret_cast<T*>(address);
}

edgefm::Type type_of(const std::string& name, int major) {
    require(name == "fp16" || name == "bf16", "type must be fp16 or bf16");
    require(name == "fp16" || major >= 8, "bf16 needs compute capability 8.0 or later");
    return name == "fp16" ? edgefm::Type::fp16 : edgefm::Type::bf16;
}

void check_sizes(int rows, int inner, int outer, int rank) {
    require(rows >= 1 && outer >= 1, "rows and outer must be positive");
    require(inner >= 64 && inner % 64 == 0, "inner must be a positive multiple of 64");
    require(rank >= 0 && rank <= 128, "rank must be 0 to 128");
    require((rows + 63) / 64 <= 65535, "too many rows");
}

py::tuple lora_workspace(int rows, int inner, int outer, int rank, int device) {
    check_sizes(rows, inner, outer, rank);
    const edgefm::Workspace space =
        edgefm::lora_workspace(rows, inner, outer, rank, attribute(cudaDevAttrMultiProcessorCount, device));
    return py::make_tuple(space.splits, space.down_bytes, space.partial_bytes);
}

void lora_linear(const std::string& kind, const std::string& type, uintptr_t x, uintptr_t weight, uintptr_t absmax,
                 uintptr_t quantized, uintptr_t nested_code, uintptr_t nested_absmax, uintptr_t offset, uintptr_t row_scale,
                 uintptr_t bias, uintptr_t a, uintptr_t b, uintptr_t y, uintptr_t down, uintptr_t partial, double scale,
                 int rows, int inner, int outer, int rank, int splits, const std::string& activation, int device,
                 uintptr_t stream) {
    check_sizes(rows, inner, outer, rank);
    require(kind == "nf4" || kind == "int8", "kind must be nf4 or int8");
    require(activation == "none" || activation == "gelu" || activation == "silu", "activation must be none, gelu or silu");
    require(splits >= 1 && splits <= inner / 64, "splits must be 1 to inner / 64");
    const bool nf4 = kind == "nf4", nested = nf4 && absmax == 0;
    edgefm::LoraLinear problem;
    problem.x = pointer<const void>(x, "x", 16);
    problem.weight = pointer<const void>(weight, "weight", 16);
    problem.absmax.plain = pointer<const float>(absmax, "absmax", 4, false);
    problem.absmax.quantized = pointer<const uint8_t>(quantized, "quantized", 1, nested);
    problem.absmax.nested_code = pointer<const float>(nested_code, "nested_code", 4, nested);
    problem.absmax.nested_absmax = pointer<const float>(nested_absmax, "nested_absmax", 4, nested);
    problem.absmax.offset = pointer<const float>(offset, "offset", 4, nested);
    problem.row_scale = pointer<const float>(row_scale, "row_scale", 4, !nf4);
    problem.bias = pointer<const void>(bias, "bias", 2, false);
    problem.a = pointer<const void>(a, "a", 16, rank > 0);
    problem.b = pointer<const void>(b, "b", 2, rank > 0);
    problem.y = pointer<void>(y, "y", 4);
    problem.down = pointer<void>(down, "down", 16, rank > 0);
    problem.partial = pointer<float>(partial, "partial", 16, splits > 1);
    problem.scale = static_cast<float>(scale);
    problem.rows = rows;
    problem.inner = inner;
    problem.outer = outer;
    problem.rank = rank;
    problem.splits = splits;
    problem.activation = activation == "none"   ? edgefm::Activation::none
                         : activation == "gelu" ? edgefm::Activation::gelu
                                                : edgefm::Activation::silu;
    const int major = attribute(cudaDevAttrComputeCapabilityMajor, device);
    const edgefm::Type number = type_of(type, major);
    const py::gil_scoped_release released;
    const OnDevice current(device);
    check(edgefm::lora_linear(problem, nf4 ? edgefm::Weight::nf4 : edgefm::Weight::int8, number, major >= 9,
                              reinterpret_cast<cudaStream_t>(stream)),
          "lora_linear");
}

edgefm::Heads heads(const py::tuple& tensor, const char* name, int alignment, int multiple, bool needed) {
    require(tensor.size() == 4, std::string(name) + " must be (pointer, stride of batch, of head, of token)");
    edgefm::Heads result;
    result.data = pointer<const void>(tensor[0].cast<uintptr_t>(), name, alignment, needed);
    result.batch = tensor[1].cast<int64_t>();
    result.head = tensor[2].cast<int64_t>();
    result.token = tensor[3].cast<int64_t>();
    require(result.batch % multiple == 0 && result.head % multiple == 0 && result.token % multiple == 0,
            std::string(name) + "'s strides must be multiples of " + std::to_string(multiple));
    return result;
}

void attention(const std::string& type, const py::tuple& q, const py::tuple& k, const py::tuple& v, const py::tuple& bias,
               bool bias_fp32, const py::tuple& out, double scale, int batch, int heads_, int tokens, int head_size, int device,
               uintptr_t stream) {
    require(batch >= 1 && batch <= 65535 && heads_ >= 1 && heads_ <= 65535, "batch and heads must be 1 to 65535");
    require(tokens >= 1 && tokens <= 1024, "tokens must be 1 to 1024");
    require(head_size == 32 || head_size == 64 || head_size == 80 || head_size == 128, "head_size must be 32, 64, 80 or 128");
    edgefm::Attention problem;
    problem.q = heads(q, "q", 16, 8, true);
    problem.k = heads(k, "k", 16, 8, true);
    problem.v = heads(v, "v", 16, 8, true);
    problem.bias = heads(bias, "bias", bias_fp32 ? 4 : 2, 1, false);
    problem.out = heads(out, "out", 16, 8, true);
    problem.scale = static_cast<float>(scale);
    problem.batch = batch;
    problem.heads = heads_;
    problem.tokens = tokens;
    problem.head_size = head_size;
    problem.bias_fp32 = bias_fp32;
    const edgefm::Type number = type_of(type, attribute(cudaDevAttrComputeCapabilityMajor, device));
    const int multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device);
    const py::gil_scoped_release released;
    const OnDevice current(device);
    check(edgefm::attention(problem, number, multiprocessors, reinterpret_cast<cudaStream_t>(stream)), "attention");
}

}  // namespace

PYBIND11_MODULE(_cuda, module) {
    module.doc() = "EdgeFM's CUDA kernels on raw pointers; use edgefm.kernels.cuda.";
    module.def("lora_workspace", &lora_workspace, py::arg("rows"), py::arg("inner"), py::arg("outer"), py::arg("rank"),
               py::arg("device"), "(splits, bytes of `down`, bytes of `partial`) that lora_linear wants.");
    module.def("lora_linear", &lora_linear, py::kw_only(), py::arg("kind"), py::arg("type"), py::arg("x"), py::arg("weight"),
               py::arg("absmax"), py::arg("quantized"), py::arg("nested_code"), py::arg("nested_absmax"), py::arg("offset"),
               py::arg("row_scale"), py::arg("bias"), py::arg("a"), py::arg("b"), py::arg("y"), py::arg("down"),
               py::arg("partial"), py::arg("scale"), py::arg("rows"), py::arg("inner"), py::arg("outer"), py::arg("rank"),
               py::arg("splits"), py::arg("activation"), py::arg("device"), py::arg("stream"), "See csrc/cuda/lora_linear.h.");
    module.def("attention", &attention, py::kw_only(), py::arg("type"), py::arg("q"), py::arg("k"), py::arg("v"),
               py::arg("bias"), py::arg("bias_fp32"), py::arg("out"), py::arg("scale"), py::arg("batch"), py::arg("heads"),
               py::arg("tokens"), py::arg("head_size"), py::arg("device"), py::arg("stream"), "See csrc/cuda/attention.h.");
}
