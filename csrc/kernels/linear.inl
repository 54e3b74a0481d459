// All of a unit's kernels but attention, in the order in which they need one another. The including unit defines the vectors.
#include "activation.inl"
#include "finish.inl"
#include "rows.inl"

#include "linear_int8.inl"

#include "linear_fp32.inl"
