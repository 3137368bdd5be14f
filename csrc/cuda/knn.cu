#include "cuda/knn.cuh"

#include "cuda/ops.h"

namespace r3dad::cuda {

template <class Index>
cudaError_t knn(const float* query, const float* reference, int64_t batch, int64_t queries, int64_t points, int k, float* distances,
                Index* indices, cudaStream_t on) {
  const int64_t total = batch * queries, blocks = (total + kKnnWarps - 1) / kKnnWarps;
  if (total == 0) return cudaSuccess;
  if (k < 1 || k > kMostNeighbours || k > points || points > INT32_MAX - 256 || blocks > INT32_MAX) return cudaErrorInvalidValue;
  knn_warp<<<static_cast<unsigned>(blocks), 32 * kKnnWarps, 0, on>>>(query, reference, total, queries, static_cast<int>(points), k,
                                                                      distances, indices);
  return cudaGetLastError();
}

template cudaError_t knn(const float*, const float*, int64_t, int64_t, int64_t, int, float*, int32_t*, cudaStream_t);
template cudaError_t knn(const float*, const float*, int64_t, int64_t, int64_t, int, float*, int64_t*, cudaStream_t);

}  // namespace r3dad::cuda
