"""EdgeFM's own operators for the workstation: what no library has for vision encoders, and what is faster fused.

Not the device's engine (that is C++ behind `runtime/`): everything here is torch.

    ops/        each operator once: schema, shapes without data, gradient
    reference/  the naked algorithm in plain torch, which the others are held to
    triton/     the same for NVIDIA cards from compute capability 8.0 on, and in Triton's interpreter
    cuda/       the same for inference in CUDA C++ (csrc/cuda), where it was built: also for 7.5, which hospitals have
    cpu/        the same for inference in C++ (csrc/kernels), with the instruction set that is best here
    select.py   which of them runs, and why

Importing this compiles nothing: a kernel is compiled when it first runs.
"""
