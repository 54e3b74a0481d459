// The attention kernels for Python, on raw pointers, one table of them by name; use edgefm.kernels. No arithmetic here.
// Sizes and alignment are checked; that the memory is as large as they say is the caller's.

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "attention_long.h"
#include "bindings_pointers.h"
#include "threads.h"

namespace py = pybind11;

namespace {

using edgefm::pointer;
using edgefm::require;
using edgefm::table;

void check_sizes(int tokens, int width) {
    require(tokens >= 1 && tokens <= edgefm::kMostTokens, "tokens must be 1 to 65536");
    require(width >= 32 && width <= 128 && width % 8 == 0, "width must be 32 to 128 and a multiple of 8");
}

bool is_int8(const std::string& precision) {
    require(precision == "int8" || precision == "fp32", "precision must be int8 or fp32");
    return precision == "int8";
}

py::tuple attention_bytes(const std::string& isa, const std::string& precision, int tokens, int width) {
    check_sizes(tokens, width);
    const edgefm::Kernels& kernels = table(isa);
    const bool int8 = is_int8(precision);
    return py::make_tuple(edgefm::attention_packed(kernels, tokens, width, int8),
                          edgefm::attention_scratch(kernels, tokens, width, int8));
}

// One head: packs K and V, or with `rows` = (first, last) attends from those rows to what was packed.
void attention(const std::string& isa, const std::string& precision, uintptr_t q, uintptr_t k, uintptr_t v, int64_t stride,
               int tokens, int width, double scale, uintptr_t packed, uintptr_t scratch, const py::object& rows, uintptr_t y,
               int64_t y_stride, uintptr_t lse, uintptr_t row0) {
    check_sizes(tokens, width);
    const bool int8 = is_int8(precision);
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
    const bool pack = rows.is_none();
    const py::gil_scoped_release released;
    if (pack) {
        edgefm::pack_attention(kernels, a, int8);
    } else {
        edgefm::attend(kernels, a, int8, first, last);
    }
}

// Where [batch, head, token] begins: an address and floats from one to the next.
struct Strides {
    uintptr_t address = 0;
    int64_t batch = 0, head = 0, token = 0;

    Strides(const py::tuple& t, const char* name) {
        require(t.size() == 4, std::string(name) + " must be (address, strides of batch, head and token)");
        address = reinterpret_cast<uintptr_t>(pointer<const float>(t[0].cast<uintptr_t>(), name, 4));
        batch = t[1].cast<int64_t>();
        head = t[2].cast<int64_t>();
        token = t[3].cast<int64_t>();
    }
    float* at(int64_t b, int64_t h) const { return reinterpret_cast<float*>(address) + b * batch + h * head; }
};

// All heads of a batch on a team of threads. Keeps the threads and the memory between calls, which take turns.
class Heads {
  public:
    Heads(const std::string& isa, const std::string& precision, int threads) : kernels_(table(isa)), int8_(is_int8(precision)) {
        require(threads >= 1 && threads <= 256, "threads must be 1 to 256");
        team_ = std::make_unique<edgefm::Team>(threads);
    }

    void run(const py::tuple& q, const py::tuple& k, const py::tuple& v, const py::tuple& y, uintptr_t lse, uintptr_t row0,
             int batch, int heads, int tokens, int width, double scale) {
        team_->demand_here();
        check_sizes(tokens, width);
        require(batch >= 1 && heads >= 1 && int64_t{batch} * heads * tokens < (int64_t{1} << 31), "too many rows");
        require(std::isfinite(scale) && scale > 0, "scale must be finite and above 0");
        Job job = {
            *this,   Strides(q, "q"), Strides(k, "k"), Strides(v, "v"), Strides(y, "y"), nullptr, nullptr,
            nullptr, nullptr,         heads,           batch * heads,   tokens,          width,   static_cast<float>(scale)};
        require(job.q.token == job.k.token && job.k.token == job.v.token, "q, k and v must have one stride of tokens");
        job.lse = pointer<float>(lse, "lse", 4, false);
        job.row0 = pointer<float>(row0, "row0", 4, false);
        job.packed_bytes = edgefm::attention_packed(kernels_, tokens, width, int8_);
        job.scratch_bytes = edgefm::attention_scratch(kernels_, tokens, width, int8_);
        const size_t wanted = job.all * job.packed_bytes + team_->count() * job.scratch_bytes + 64;
        if (memory_.size() < wanted) memory_.resize(wanted);
        job.packed = reinterpret_cast<uint8_t*>(edgefm::round_up(reinterpret_cast<uintptr_t>(memory_.data()), 64));
        job.scratch = job.packed + job.all * job.packed_bytes;
        team_->run(&work, &job);
    }

  private:
    struct Job {
        Heads& owner;
        Strides q, k, v, y;
        float *lse, *row0;
        uint8_t *packed, *scratch;
        int heads, all, tokens, width;
        float scale;
        int64_t packed_bytes = 0, scratch_bytes = 0;

        edgefm::Attention head(int index, int thread) const {
            const int64_t b = index / heads, h = index % heads;
            edgefm::Attention a;
            a.q = q.at(b, h);
            a.k = k.at(b, h);
            a.v = v.at(b, h);
            a.stride = q.token;
            a.tokens = tokens;
            a.width = width;
            a.scale = scale;
            a.packed = packed + index * packed_bytes;
            a.scratch = scratch + thread * scratch_bytes;
            a.y = y.at(b, h);
            a.y_stride = y.token;
            if (lse != nullptr) a.lse = lse + int64_t{index} * tokens;
            if (row0 != nullptr) a.row0 = row0 + int64_t{index} * tokens;
            return a;
        }
    };

    static void work(void* context, int thread) {
        const Job& job = *static_cast<const Job*>(context);
        Heads& self = job.owner;
        const int threads = self.team_->count();
        for (int index = thread; index < job.all; index += threads) {
            edgefm::pack_attention(self.kernels_, job.head(index, thread), self.int8_);
        }
        self.team_->barrier();
        const int64_t rows = int64_t{job.all} * job.tokens;
        const int64_t last = rows * (thread + 1) / threads;
        for (int64_t row = rows * thread / threads; row < last;) {
            const int index = static_cast<int>(row / job.tokens), first = static_cast<int>(row % job.tokens);
            const int64_t count = std::min<int64_t>(job.tokens - first, last - row);
            edgefm::attend(self.kernels_, job.head(index, thread), self.int8_, first, first + static_cast<int>(count));
            row += count;
        }
    }

    const edgefm::Kernels& kernels_;
    const bool int8_;
    std::unique_ptr<edgefm::Team> team_;
    std::vector<uint8_t> memory_;
};

}  // namespace

void bind_attention(py::module_& module) {
    module.def("attention_bytes", &attention_bytes, py::arg("isa"), py::arg("precision"), py::arg("tokens"), py::arg("width"),
               "(bytes of `packed`, bytes of `scratch`) that attention wants, both aligned to 64.");
    module.def("attention", &attention, py::kw_only(), py::arg("isa"), py::arg("precision"), py::arg("q"), py::arg("k"),
               py::arg("v"), py::arg("stride"), py::arg("tokens"), py::arg("width"), py::arg("scale"), py::arg("packed"),
               py::arg("scratch"), py::arg("rows") = py::none(), py::arg("y") = 0, py::arg("y_stride") = 0, py::arg("lse") = 0,
               py::arg("row0") = 0,
               "One head, see Attention in csrc/kernels/table.h: packs K and V, or attends from `rows` to what was packed.");
    py::class_<Heads>(module, "AttentionHeads", "Attention of all heads of a batch on threads of its own.")
        .def(py::init<const std::string&, const std::string&, int>(), py::kw_only(), py::arg("isa") = "",
             py::arg("precision") = "int8", py::arg("threads") = 1)
        .def("run", &Heads::run, py::kw_only(), py::arg("q"), py::arg("k"), py::arg("v"), py::arg("y"), py::arg("lse") = 0,
             py::arg("row0") = 0, py::arg("batch"), py::arg("heads"), py::arg("tokens"), py::arg("width"), py::arg("scale"),
             "q, k, v, y: (address, strides of batch, head and token in floats). lse, row0: [batch, heads, tokens] or 0.");
}
