// The C++ face of the operations on the GPU: device pointers, sizes and a stream; nothing is allocated, the caller synchronises.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace r3dad::cuda {

// Fills out [batch, points, 3] with the noise of one step; seeds [batch].
cudaError_t philox_normal(const int64_t* seeds, int64_t batch, int64_t points, uint32_t step, uint32_t stream, float* out,
                          cudaStream_t on);

}  // namespace r3dad::cuda
