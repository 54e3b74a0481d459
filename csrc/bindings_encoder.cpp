// The vision transformer for Python; no arithmetic here.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <string>

#include "vit_encoder.h"

namespace py = pybind11;

namespace {

constexpr const char* kPhaseNames[] = {"embed", "qkv", "pack", "attention", "proj", "mlp", "pool", "wait"};
constexpr py::ssize_t kPhaseCount = 8;

using Floats = py::array_t<float, py::array::c_style>;

// An encoder, and the bytes that it reads.
class Held {
  public:
    Held(const py::bytes& description, const py::buffer& weights, int threads, int images, const std::string& isa)
        : weights_(weights.request()), threads_(threads) {
        if (weights_.itemsize != 1 || weights_.ndim != 1 || (weights_.size > 1 && weights_.strides[0] != 1)) {
            throw py::value_error("weights must be bytes side by side");
        }
        const std::string json = description;
        const auto* bytes = static_cast<const uint8_t*>(weights_.ptr);
        const auto size = static_cast<size_t>(weights_.size);
        const py::gil_scoped_release released;
        encoder_ = std::make_unique<edgefm::Encoder>(json.data(), json.size(), bytes, size, threads, images, isa);
    }

    const edgefm::Encoder& encoder() const { return *encoder_; }

    py::tuple run(const Floats& prepared, bool heat, const py::object& seconds) const {
        const edgefm::EncoderShape& shape = encoder_->shape();
        if (prepared.ndim() != 4 || prepared.shape(1) != shape.channels || prepared.shape(2) != shape.size ||
            prepared.shape(3) != shape.size || prepared.shape(0) > INT32_MAX) {
            throw py::value_error("prepared must be float32 [N, " + std::to_string(shape.channels) + ", " +
                                  std::to_string(shape.size) + ", " + std::to_string(shape.size) + "]");
        }
        if (heat && !shape.class_token) throw py::value_error("a model without a class token has no heat map");
        const py::ssize_t count = prepared.shape(0);
        py::array_t<float> logits({count, static_cast<py::ssize_t>(shape.classes)});
        py::array_t<float> embedding({count, static_cast<py::ssize_t>(shape.embedding)});
        py::array_t<float> map({heat ? count : 0, static_cast<py::ssize_t>(shape.grid), static_cast<py::ssize_t>(shape.grid)});
        edgefm::EncoderOutputs out;
        out.logits = shape.classes > 0 ? logits.mutable_data() : nullptr;
        out.embedding = embedding.mutable_data();
        out.heat = heat ? map.mutable_data() : nullptr;
        double* times = nullptr;
        if (!seconds.is_none()) {
            auto wanted = py::array_t<double, py::array::c_style>::ensure(seconds);
            if (!wanted || wanted.ptr() != seconds.ptr() || wanted.ndim() != 2 || wanted.shape(0) != threads_ ||
                wanted.shape(1) != kPhaseCount || !wanted.writeable()) {
                throw py::value_error("seconds must be a writable float64 [threads, 8]");
            }
            times = wanted.mutable_data();
        }
        const float* images = prepared.data();
        {
            const py::gil_scoped_release released;
            encoder_->run(images, static_cast<int>(count), out, times);
        }
        return py::make_tuple(shape.classes > 0 ? py::object(logits) : py::none(), embedding,
                              heat ? py::object(map) : py::none());
    }

  private:
    py::buffer_info weights_;
    int threads_;
    std::unique_ptr<edgefm::Encoder> encoder_;
};

}  // namespace

void bind_encoder(py::module_& module) {
    py::tuple phases(kPhaseCount);
    for (py::ssize_t i = 0; i < kPhaseCount; i++) phases[static_cast<size_t>(i)] = kPhaseNames[i];
    module.attr("ENCODER_PHASES") = phases;
    py::class_<Held>(module, "Encoder", "A vision transformer of docs/native-format.md. Safe to call from several threads.")
        .def(py::init<const py::bytes&, const py::buffer&, int, int, const std::string&>(), py::arg("description"),
             py::arg("weights"), py::kw_only(), py::arg("threads"), py::arg("images"), py::arg("isa") = "",
             "`weights`: any buffer, 64-byte aligned, read in place; `images`: the most per pass; `isa`: a table's name, \"\" "
             "for "
             "the best.")
        .def("run", &Held::run, py::arg("prepared"), py::kw_only(), py::arg("heat") = false, py::arg("seconds") = py::none(),
             "Float32 [N, C, S, S] to (logits [N, K] or None, embedding [N, D], heat [N, grid, grid] or None). `seconds`: "
             "float64 "
             "[threads, phases], to which the time of each phase is added.")
        .def_property_readonly("isa", [](const Held& held) { return std::string(held.encoder().isa()); })
        .def_property_readonly("bytes", [](const Held& held) { return held.encoder().bytes(); })
        .def_property_readonly("channels", [](const Held& held) { return held.encoder().shape().channels; })
        .def_property_readonly("size", [](const Held& held) { return held.encoder().shape().size; })
        .def_property_readonly("embedding", [](const Held& held) { return held.encoder().shape().embedding; })
        .def_property_readonly("classes", [](const Held& held) { return held.encoder().shape().classes; })
        .def_property_readonly("grid", [](const Held& held) { return held.encoder().shape().grid; })
        .def_property_readonly("prefix", [](const Held& held) { return held.encoder().shape().prefix; })
        .def_property_readonly("class_token", [](const Held& held) { return held.encoder().shape().class_token; });
}
