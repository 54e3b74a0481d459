// The CUDA kernels on the processor, as C functions for ctypes. Not for use: see emulator.h.

#define EDGEFM_EMULATOR "emulator.h"  // found with -I

#include "../../../csrc/cuda/attention.cu"
#include "../../../csrc/cuda/lora_linear.cu"

extern "C" {

void emulated_lora(const edgefm::LoraLinear* problem, int weight, int type) {
    edgefm::lora_linear(*problem, static_cast<edgefm::Weight>(weight), static_cast<edgefm::Type>(type), false, nullptr);
}

void emulated_attention(const edgefm::Attention* problem, int type, int multiprocessors) {
    edgefm::attention(*problem, static_cast<edgefm::Type>(type), multiprocessors, nullptr);
}

void emulated_nf4(const uint32_t* stored, int words, int bf16, uint32_t* to) {
    for (int i = 0; i < words; ++i) {
        uint32_t pairs[4];
        if (bf16) {
            edgefm::nf4_pairs<__nv_bfloat16>(stored[i], pairs);
        } else {
            edgefm::nf4_pairs<__half>(stored[i], pairs);
        }
        std::copy(pairs, pairs + 4, to + 4 * i);
    }
}

void emulated_int8(const uint32_t* stored, int words, int bf16, uint32_t* to) {
    for (int i = 0; i < words; ++i) {
        uint32_t pairs[2];
        if (bf16) {
            edgefm::int8_pairs<__nv_bfloat16>(stored[i], pairs);
        } else {
            edgefm::int8_pairs<__half>(stored[i], pairs);
        }
        std::copy(pairs, pairs + 2, to + 2 * i);
    }
}

// Bank conflicts of a quarter of a warp that reads sixteen bytes each from the staged rows of x: 1 is none.
int emulated_conflicts(int first_lane, int half) {
    int banks[32] = {}, worst = 0;
    for (int lane = first_lane; lane < first_lane + 8; ++lane) {
        for (int word = 0; word < 4; ++word) {
            const int at = edgefm::x_offset(lane / 4, 2 * (lane % 4) + half) / 4 + word;
            worst = std::max(worst, ++banks[at % 32]);
        }
    }
    return worst;
}
}
