#include "cuda/cluster.cuh"

#include "cuda/ops.h"

namespace r3dad::cuda {

cudaError_t cluster_distance(const float* points, const float* reconstruction, int64_t batch, int64_t n, int64_t m, int k,
                             int32_t* near_points, int32_t* near_reconstruction, float* means, float* out, cudaStream_t on) {
  if (batch * n == 0) return cudaSuccess;
  const auto blocks = [](int64_t rows) { return static_cast<unsigned>((rows + kClusterWarps - 1) / kClusterWarps); };
  cudaError_t error = knn(points, points, batch, n, n, k, nullptr, near_points, on);
  if (error == cudaSuccess) error = knn(reconstruction, reconstruction, batch, m, m, k, nullptr, near_reconstruction, on);
  if (error != cudaSuccess) return error;
  float* others = means + 3 * batch * n;
  cluster_means<<<blocks(batch * n), 32 * kClusterWarps, 0, on>>>(points, near_points, reconstruction, batch * n, n, m, k, means);
  cluster_means<<<blocks(batch * m), 32 * kClusterWarps, 0, on>>>(reconstruction, near_reconstruction, reconstruction, batch * m, m, m, k,
                                                                  others);
  cluster_nearest<<<blocks(batch * n), 32 * kClusterWarps, 0, on>>>({points, near_points, means, n},
                                                                    {reconstruction, near_reconstruction, others, m}, batch * n, k, out);
  return cudaGetLastError();
}

}  // namespace r3dad::cuda
