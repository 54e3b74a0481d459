// Starting a kernel, if the card can, before the one ahead of it in the stream has ended (it waits where it must). No kernel.

#pragma once

#include <cuda_runtime.h>

namespace edgefm {

#ifndef EDGEFM_EMULATOR
template <typename Problem>
inline cudaError_t launch(void (*kernel)(Problem), dim3 grid, int threads, bool early, cudaStream_t stream, Problem problem) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = early ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, problem);
}
#endif

}  // namespace edgefm
