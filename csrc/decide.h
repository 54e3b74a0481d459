// Logits to probabilities, probabilities to decisions: edgefm/runtime/decide.py in C++, one image at a time.
// Not a model: functions of numbers.
#pragma once

#include <cstdint>

#include "manifest.h"

namespace edgefm {

// softmax(z / T), or sigmoid(z / T) for a multilabel task, in double. No finite logit overflows, unless T is so
// small that z / T does: then softmax is NaN, and the caller must look. logits, out: [K].
void probabilities(const float* logits, const Task& task, double* out);

// 1 where a label holds, by the task's rule. probabilities, out: [K].
void decide(const double* probabilities, const Task& task, uint8_t* out);

}  // namespace edgefm
