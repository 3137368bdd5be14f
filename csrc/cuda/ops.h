// The C++ face of the operations on the GPU: device pointers, sizes and a stream; nothing is allocated, the caller synchronises.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace r3dad::cuda {

// Fills out [batch, points, 3] with the noise of one step; seeds [batch].
cudaError_t philox_normal(const int64_t* seeds, int64_t batch, int64_t points, uint32_t step, uint32_t stream, float* out,
                          cudaStream_t on);

// query [batch, queries, 3], reference [batch, points, 3], finite; 1 <= k <= min(points, 512). Out: [batch, queries, k], ascending, ties to
// the smaller index.
cudaError_t knn(const float* query, const float* reference, int64_t batch, int64_t queries, int64_t points, int k, float* distances,
                int64_t* indices, cudaStream_t on);

}  // namespace r3dad::cuda
