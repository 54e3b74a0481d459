#include "preprocess.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <thread>
#include <vector>

#include "float_environment.h"
#include "isa/preprocess_kernels.h"

namespace edgefm {
namespace {

constexpr size_t kTileBytes = 96 * 1024;     // source rows of one tile as floats: half of the smallest second-level cache
constexpr size_t kBlockBytes = 2048 * 1024;  // vertically resized rows of one block
constexpr size_t kSamplesPerThread = 256 * 1024;
constexpr int64_t kRowsAhead = 4;  // prefetched: a tile's rows lie in different pages, where the hardware does not look ahead

size_t round_up(size_t n, size_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

void prefetch(const uint8_t* bytes, size_t n) {
    for (size_t i = 0; i < n; i += 64) __builtin_prefetch(bytes + i);
}

// The rows of one axis's weight matrix that survive the crop, each for the source pixels its kernel reaches.
struct Axis {
    std::vector<int32_t> first, taps;  // [size]
    std::vector<float> weights;        // [size, stride]
    size_t stride = 0;

    int64_t low() const { return first.front(); }
    int64_t high() const { return int64_t{first.back()} + taps.back(); }
};

double kernel(double t, bool bicubic) {
    t = std::fabs(t);
    if (!bicubic) return t < 1.0 ? 1.0 - t : 0.0;
    if (t < 1.0) return (1.5 * t - 2.5) * t * t + 1.0;
    if (t < 2.0) return ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0;
    return 0.0;
}

// n source pixels, m after the resize, the centre `size` of them after the crop. `gain` multiplies every weight.
Axis make_axis(int64_t n, int64_t m, int size, bool bicubic, double gain) {
    const int64_t longer = std::max(n, m), extra = m - size;
    const int64_t corner = (extra + ((extra / 2) & 1)) / 2;  // halves to even
    const double reach = (bicubic ? 2.0 : 1.0) * static_cast<double>(longer) / static_cast<double>(m);
    Axis axis;
    axis.stride = round_up(static_cast<size_t>(std::min<double>(2.0 * reach + 2.0, static_cast<double>(n))), 16);
    axis.first.resize(size);
    axis.taps.resize(size);
    axis.weights.assign(axis.stride * size, 0.0f);
    std::vector<double> row(axis.stride);
    for (int j = 0; j < size; ++j) {
        const int64_t odd = 2 * (corner + j) + 1;
        const double centre = static_cast<double>(odd * n) / (2.0 * static_cast<double>(m));
        // Not trimmed to the weights that are not 0: both ends must rise with j, and a window without zeros need not.
        const int64_t low = std::max<int64_t>(0, static_cast<int64_t>(centre - reach));
        const int64_t high = std::min<int64_t>(n, static_cast<int64_t>(centre + reach) + 1);
        double total = 0.0;
        for (int64_t i = low; i < high; ++i) {
            const int64_t distance = (2 * i + 1) * m - odd * n;
            total += row[i - low] = kernel(static_cast<double>(distance) / (2.0 * static_cast<double>(longer)), bicubic);
        }
        for (int64_t i = low; i < high; ++i) {
            axis.weights[j * axis.stride + (i - low)] = static_cast<float>(row[i - low] / total * gain);
        }
        axis.first[j] = static_cast<int32_t>(low);
        axis.taps[j] = static_cast<int32_t>(high - low);
    }
    return axis;
}

const PreprocessKernels& kernels(Isa isa) {
#if defined(__x86_64__)
    if (isa == Isa::avx512) return preprocess_avx512;
    if (isa == Isa::avx2) return preprocess_avx2;
#endif
    (void)isa;
    return preprocess_scalar;
}

// One image: the source columns that matter, cut into tiles that stay in cache; rows of the output, cut into blocks.
class Job {
  public:
    Job(const PreprocessSpec& spec, const Pixels& pixels, Isa isa, float* out)
        : spec_(spec), pixels_(pixels), kernels_(kernels(isa)), out_(out) {
        const int64_t shorter = std::min(pixels.height, pixels.width);
        const int64_t tall = spec.squash ? spec.resize_to : spec.resize_to * pixels.height / shorter;
        const int64_t wide = spec.squash ? spec.resize_to : spec.resize_to * pixels.width / shorter;
        low_ = pixels.bits == 16 ? spec.low : 0.0;
        range_ = pixels.bits == 16 ? spec.high - spec.low : 255.0;
        down_ = make_axis(pixels.height, tall, spec.size, spec.bicubic, 1.0 / range_);
        across_ = make_axis(pixels.width, wide, spec.size, spec.bicubic, 1.0);

        left_ = across_.low();
        columns_ = static_cast<size_t>(across_.high() - left_);
        for (int32_t& first : across_.first) first -= static_cast<int32_t>(left_);
        samples_ = columns_ * static_cast<size_t>(pixels.channels);
        ring_ = static_cast<size_t>(*std::max_element(down_.taps.begin(), down_.taps.end()));
        const size_t fitting = std::max(kTileBytes / (ring_ * sizeof(float)) / kStrip, size_t{4}) * kStrip;
        tile_ = std::min(fitting, round_up(samples_, kStrip));
        wide_ = round_up(samples_, kStrip) + kStrip;
        plane_ = round_up(columns_, kStrip) + kStrip;
    }

    // Splits the output's rows into blocks, a multiple of `threads` where that keeps them all busy.
    void split(int threads) {
        const size_t size = static_cast<size_t>(spec_.size);
        const size_t most = std::clamp<size_t>(kBlockBytes / (wide_ * sizeof(float)), 1, size);
        const size_t blocks = round_up((size + most - 1) / most, static_cast<size_t>(threads));
        rows_ = (size + blocks - 1) / blocks;
    }

    size_t work() const { return samples_ * static_cast<size_t>(down_.high() - down_.low()); }

    size_t scratch_floats() const {
        return ring_ * tile_ + rows_ * wide_ + 3 * plane_ + round_up(static_cast<size_t>(spec_.size), kStrip);
    }

    // Rows of the largest window.
    size_t ring() const { return ring_; }

    // Works on blocks until none is left. `scratch` holds zeros.
    void run(float* scratch, std::vector<const float*>& window) noexcept {
        const PlainFloats plain;  // a new thread has its maker's
        const size_t size = static_cast<size_t>(spec_.size);
        for (;;) {
            const size_t begin = next_.fetch_add(rows_, std::memory_order_relaxed);
            if (begin >= size) return;
            const size_t end = std::min(begin + rows_, size);
            float* ring = scratch;
            float* tall = ring + ring_ * tile_;
            float* planes = tall + rows_ * wide_;
            float* line = planes + 3 * plane_;
            for (size_t x = 0; x < samples_; x += tile_) vertical(x, begin, end, ring, tall + x, window);
            for (size_t j = begin; j < end; ++j) horizontal(j, tall + (j - begin) * wide_, planes, line);
        }
    }

  private:
    // Rows begin .. end of the vertical pass for the samples x .. x + tile: [end - begin, wide_] at `out`.
    void vertical(size_t x, size_t begin, size_t end, float* ring, float* out,
                  std::vector<const float*>& window) const noexcept {
        const size_t n = std::min(tile_, samples_ - x);
        const size_t bytes = static_cast<size_t>(pixels_.bits / 8);
        const auto load = pixels_.bits == 16 ? kernels_.load16 : kernels_.load8;
        const uint8_t* source = pixels_.data + (static_cast<size_t>(left_) * static_cast<size_t>(pixels_.channels) + x) * bytes;
        int64_t loaded = down_.first[begin];
        for (size_t j = begin; j < end; ++j) {
            const int64_t first = down_.first[j];
            const size_t taps = static_cast<size_t>(down_.taps[j]);
            loaded = std::max(loaded, first);
            for (; loaded < first + static_cast<int64_t>(taps); ++loaded) {
                const uint8_t* row = source + loaded * pixels_.stride;
                if (loaded + kRowsAhead < pixels_.height) prefetch(row + kRowsAhead * pixels_.stride, n * bytes);
                load(row, n, static_cast<float>(low_), static_cast<float>(range_),
                     ring + static_cast<size_t>(loaded) % ring_ * tile_);
            }
            size_t at = static_cast<size_t>(first) % ring_;
            for (size_t t = 0; t < taps; ++t, at = at + 1 < ring_ ? at + 1 : 0) window[t] = ring + at * tile_;
            kernels_.down(window.data(), down_.weights.data() + j * down_.stride, taps, n, out + (j - begin) * wide_);
        }
    }

    // One output row of every channel from one vertically resized row of interleaved samples.
    void horizontal(size_t j, const float* row, float* planes, float* line) const noexcept {
        const size_t size = static_cast<size_t>(spec_.size);
        const bool colour = pixels_.channels >= 3;
        const bool luma = colour && spec_.channels == 1;
        if (colour) separate(row, luma, planes);
        for (int c = 0; c < spec_.channels; ++c) {
            if (c == 0 || colour) {
                const float* source = colour ? planes + static_cast<size_t>(c) * plane_ : row;
                kernels_.across(source, across_.first.data(), across_.taps.data(), across_.weights.data(), across_.stride, size,
                                line);
            }
            const float gain = 1.0f / spec_.std[c];
            kernels_.normalise(line, size, gain, -spec_.mean[c] * gain, out_ + (static_cast<size_t>(c) * size + j) * size);
        }
    }

    void separate(const float* row, bool luma, float* planes) const noexcept {
        const size_t step = static_cast<size_t>(pixels_.channels);
        for (size_t x = 0; x < columns_; ++x, row += step) {
            if (luma) {
                planes[x] = 0.299f * row[0] + 0.587f * row[1] + 0.114f * row[2];
            } else {
                planes[x] = row[0];
                planes[plane_ + x] = row[1];
                planes[2 * plane_ + x] = row[2];
            }
        }
    }

    const PreprocessSpec& spec_;
    const Pixels& pixels_;
    const PreprocessKernels& kernels_;
    float* out_;
    double low_ = 0.0, range_ = 1.0;
    Axis down_, across_;
    int64_t left_ = 0;
    size_t columns_ = 0, samples_ = 0;       // of a source row that matter
    size_t ring_ = 0, tile_ = 0, rows_ = 0;  // source rows of one window, samples of a tile, output rows of a block
    size_t wide_ = 0, plane_ = 0;            // padded lengths of a row of samples, of a row of one channel
    std::atomic<size_t> next_{0};
};

}  // namespace

std::string check(const PreprocessSpec& spec, const Pixels& pixels) {
    if (spec.channels != 1 && spec.channels != 3) return "channels must be 1 or 3";
    if (spec.size < 1 || spec.size > 8192) return "size must be 1 to 8192";
    if (spec.resize_to < spec.size || spec.resize_to > 8192) return "resize_to must be size to 8192";
    // Beyond these, float32 would overflow.
    if (!(spec.low >= -1e6 && spec.high <= 1e6 && spec.high - spec.low >= 1e-3))
        return "the window must be 0.001 wide, within 1e6";
    for (int c = 0; c < spec.channels; ++c) {
        if (!(std::fabs(spec.mean[c]) <= 1e6f)) return "mean must be within 1e6";
        if (!(spec.std[c] >= 1e-6f && spec.std[c] <= 1e6f)) return "std must be 1e-6 to 1e6";
    }
    if (pixels.data == nullptr || pixels.height < 1 || pixels.width < 1) return "the image is empty";
    if (pixels.height > kLongestSide || pixels.width > kLongestSide) return "the image is longer than 16777216 pixels";
    if (pixels.channels != 1 && pixels.channels != 3 && pixels.channels != 4) return "pixels must have 1, 3 or 4 channels";
    if (pixels.bits != 8 && pixels.bits != 16) return "pixels must have 8 or 16 bits";
    return "";
}

Isa preprocess_isa(const std::string& cap) {
    for (const Isa isa : {Isa::avx512, Isa::avx2}) {
        if (below_cap(isa, cap) && has_isa(isa)) return isa;
    }
    return Isa::scalar;
}

void preprocess(const PreprocessSpec& spec, const Pixels& pixels, int threads, Isa isa, float* out) {
    const std::string wrong = check(spec, pixels);
    if (!wrong.empty()) throw std::invalid_argument(wrong);
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");

    const PlainFloats plain;
    Job job(spec, pixels, isa, out);
    threads = static_cast<int>(
        std::min<size_t>({static_cast<size_t>(threads), static_cast<size_t>(spec.size), 1 + job.work() / kSamplesPerThread}));
    job.split(threads);

    // Everything is allocated here: an exception inside a thread would end the process.
    const size_t count = static_cast<size_t>(threads);
    std::vector<std::vector<float>> scratch(count);
    std::vector<std::vector<const float*>> windows(count);
    for (size_t i = 0; i < count; ++i) {
        scratch[i].assign(job.scratch_floats(), 0.0f);
        windows[i].resize(job.ring());
    }
    std::vector<std::thread> others;
    others.reserve(count - 1);
    try {
        for (size_t i = 1; i < count; ++i) others.emplace_back([&, i] { job.run(scratch[i].data(), windows[i]); });
    } catch (...) {
        // No more threads, or no memory for one: those that started, and this one, do all the blocks.
    }
    job.run(scratch[0].data(), windows[0]);
    for (std::thread& other : others) other.join();
}

}  // namespace edgefm
