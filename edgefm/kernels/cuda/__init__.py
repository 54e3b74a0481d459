"""Inference kernels in CUDA C++, for cards where Triton has no matrix instructions (7.5), too. Not for training: no gradient.

Built only by `EDGEFM_CUDA=1 pip install .`, from csrc/cuda.
"""
