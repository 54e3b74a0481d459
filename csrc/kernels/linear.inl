// All of a unit's kernels but attention. The including unit defines the vectors, EDGEFM_LINEAR_UNIT and EDGEFM_ROWS.
#include "linear_fp32.inl"
#include "linear_int8.inl"
#include "rows.inl"
