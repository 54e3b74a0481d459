// edgefm._native: the C++ code for Python. The only unit that includes Python's headers; no arithmetic here.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>

#include "cpu_features.h"
#include "png.h"
#include "preprocess.h"

namespace py = pybind11;

void bind_encoder(py::module_& module);    // bindings_encoder.cpp
void bind_attention(py::module_& module);  // bindings_attention.cpp
void bind_kernels(py::module_& module);    // bindings_kernels.cpp

namespace {

py::dict features() {
    py::dict found;
    for (const auto& [name, present] : edgefm::cpu_features()) found[py::str(name)] = present;
    return found;
}

std::string isa() {
    const char* cap = std::getenv("EDGEFM_ISA");
    return edgefm::isa_name(edgefm::preprocess_isa(cap == nullptr ? "" : cap));
}

// Whether the elements are of this kind ('u' unsigned, 'f' float) and size, in the machine's byte order.
bool is(const py::array& array, char kind, py::ssize_t bytes) {
    const py::dtype type = array.dtype();
    return type.kind() == kind && type.itemsize() == bytes && (type.byteorder() == '=' || type.byteorder() == '|');
}

edgefm::Pixels view(const py::array& pixels) {
    edgefm::Pixels image;
    if (!is(pixels, 'u', 1) && !is(pixels, 'u', 2)) throw py::type_error("pixels must be uint8 or uint16");
    image.bits = static_cast<int>(8 * pixels.itemsize());
    if (pixels.ndim() != 2 && pixels.ndim() != 3) throw py::value_error("pixels must be [H, W] or [H, W, C]");
    image.height = pixels.shape(0);
    image.width = pixels.shape(1);
    const py::ssize_t channels = pixels.ndim() == 3 ? pixels.shape(2) : 1;
    if (channels != 1 && channels != 3 && channels != 4) throw py::value_error("pixels must have 1, 3 or 4 channels");
    image.channels = static_cast<int>(channels);
    const py::ssize_t item = pixels.itemsize();
    if ((image.width > 1 && pixels.strides(1) != item * channels) || (channels > 1 && pixels.strides(2) != item)) {
        throw py::value_error("the samples of a row must lie side by side; make the array contiguous");
    }
    image.stride = pixels.strides(0);
    image.data = static_cast<const uint8_t*>(pixels.data());
    return image;
}

void preprocess(const py::array& pixels, int channels, int size, const std::string& resize, int resize_to,
                const std::string& filter, std::pair<double, double> window16, const std::vector<float>& mean,
                const std::vector<float>& std, py::array& out, int threads, const std::string& isa) {
    edgefm::PreprocessSpec spec;
    spec.channels = channels;
    spec.size = size;
    if (resize != "shorter" && resize != "squash") throw py::value_error("resize must be shorter or squash");
    spec.squash = resize == "squash";
    spec.resize_to = resize_to;
    if (filter != "bicubic" && filter != "bilinear") throw py::value_error("filter must be bicubic or bilinear");
    spec.bicubic = filter == "bicubic";
    spec.low = window16.first;
    spec.high = window16.second;
    if (mean.size() > 3 || mean.size() != std.size() || static_cast<int>(mean.size()) != channels) {
        throw py::value_error("mean and std need one value per channel");
    }
    std::copy(mean.begin(), mean.end(), spec.mean);
    std::copy(std.begin(), std.end(), spec.std);

    const edgefm::Pixels image = view(pixels);
    const std::string wrong = edgefm::check(spec, image);
    if (!wrong.empty()) throw py::value_error(wrong);
    if (!is(out, 'f', 4) || out.ndim() != 3 || out.shape(0) != channels || out.shape(1) != size || out.shape(2) != size ||
        !(out.flags() & py::array::c_style) || !out.writeable()) {
        throw py::value_error("out must be a contiguous, writable float32 [channels, size, size]");
    }
    const edgefm::Isa wanted = edgefm::preprocess_isa(isa);
    if (!isa.empty() && isa != edgefm::isa_name(wanted)) throw py::value_error("this processor has no " + isa);
    float* target = static_cast<float*>(out.mutable_data());
    const py::gil_scoped_release released;
    edgefm::preprocess(spec, image, threads, wanted, target);
}

// -1, or the first row whose filter is unknown.
int64_t png_unfilter(const py::array& rows, int pixel_bytes, py::array& out) {
    if (!is(rows, 'u', 1) || rows.ndim() != 2 || !(rows.flags() & py::array::c_style)) {
        throw py::value_error("rows must be a contiguous uint8 [H, 1 + stride]");
    }
    if (pixel_bytes < 1 || pixel_bytes > 8) throw py::value_error("pixel_bytes must be 1 to 8");
    if (!is(out, 'u', 1) || out.ndim() != 2 || out.shape(0) != rows.shape(0) || out.shape(1) != rows.shape(1) - 1 ||
        !(out.flags() & py::array::c_style) || !out.writeable()) {
        throw py::value_error("out must be a contiguous, writable uint8 [H, stride]");
    }
    const uint8_t* source = static_cast<const uint8_t*>(rows.data());
    uint8_t* target = static_cast<uint8_t*>(out.mutable_data());
    const int64_t height = rows.shape(0), stride = out.shape(1);
    const py::gil_scoped_release released;
    return edgefm::png_unfilter(source, height, stride, pixel_bytes, target);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "EdgeFM's C++ code: CPU features, preprocessing, PNG filters.";
    module.def("cpu_features", &features, "Instruction sets by Linux's names, and whether they can be used here.");
    module.def("isa", &isa, "The kernels that run here: scalar, avx2 or avx512, capped by the variable EDGEFM_ISA.");
    module.def("preprocess", &preprocess, py::arg("pixels"), py::kw_only(), py::arg("channels"), py::arg("size"),
               py::arg("resize"), py::arg("resize_to"), py::arg("filter"), py::arg("window16"), py::arg("mean"), py::arg("std"),
               py::arg("out"), py::arg("threads") = 1, py::arg("isa") = "",
               "Prepares one image as edgefm/spec/preprocess.py says. `isa`: the kernels to use, \"\" for the best.");
    module.def("png_unfilter", &png_unfilter, py::arg("rows"), py::arg("pixel_bytes"), py::arg("out"),
               "Undoes the filters of PNG rows; -1, or the first row whose filter is unknown.");
    bind_encoder(module);
    bind_attention(module);
    bind_kernels(module);
}
