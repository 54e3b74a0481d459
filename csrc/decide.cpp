#include "decide.h"

#include <algorithm>
#include <cmath>

namespace edgefm {

void probabilities(const float* logits, const Task& task, double* out) {
    const size_t count = task.labels.size();
    for (size_t k = 0; k < count; ++k) out[k] = logits[k] / task.temperature;
    if (task.kind == TaskKind::multilabel) {
        for (size_t k = 0; k < count; ++k) {
            const double small = std::exp(-std::fabs(out[k]));
            out[k] = (out[k] >= 0 ? 1.0 : small) / (1.0 + small);
        }
        return;
    }
    const double highest = *std::max_element(out, out + count);
    double sum = 0.0;
    for (size_t k = 0; k < count; ++k) sum += out[k] = std::exp(out[k] - highest);
    for (size_t k = 0; k < count; ++k) out[k] /= sum;
}

void decide(const double* probabilities, const Task& task, uint8_t* out) {
    const size_t count = task.labels.size();
    if (task.kind == TaskKind::multilabel) {
        for (size_t k = 0; k < count; ++k) out[k] = probabilities[k] >= task.thresholds[k];
        return;
    }
    const size_t decided = task.kind == TaskKind::binary
                               ? size_t{probabilities[1] >= task.thresholds[0]}
                               : static_cast<size_t>(std::max_element(probabilities, probabilities + count) - probabilities);
    for (size_t k = 0; k < count; ++k) out[k] = k == decided;
}

}  // namespace edgefm
