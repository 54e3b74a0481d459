"""The operators in C++ for processors (`edgefm._native`, csrc/kernels), for inference. Not the engine that a device runs."""
