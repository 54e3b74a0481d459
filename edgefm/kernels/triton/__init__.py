"""Each operator as Triton kernels. Not for cards before compute capability 8.0, where Triton has no matrix instructions."""
