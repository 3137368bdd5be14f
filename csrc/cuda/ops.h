// The C++ face of the operations on the GPU: device pointers, sizes and a stream; nothing is allocated, the caller synchronises.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace r3dad::cuda {

// query [batch, queries, 3], reference [batch, points, 3], finite; 1 <= k <= min(points, 512). Out: [batch, queries, k], ascending, ties to
// the smaller index; distances may be null, indices are int32_t or int64_t.
template <class Index>
cudaError_t knn(const float* query, const float* reference, int64_t batch, int64_t queries, int64_t points, int k, float* distances,
                Index* indices, cudaStream_t on);

// points [batch, n, 3], reconstruction [batch, m, 3], finite; 1 <= k <= min(n, m, 512). Room for near_points [batch, n, k],
// near_reconstruction [batch, m, k] and means [3 batch (n + m)]. Out: [batch, n].
cudaError_t cluster_distance(const float* points, const float* reconstruction, int64_t batch, int64_t n, int64_t m, int k,
                             int32_t* near_points, int32_t* near_reconstruction, float* means, float* out, cudaStream_t on);

// good [batch, points, 3], finite; seeds [batch]; 1 <= moved <= min(points, 2048); kind 0, 1, 2: sink, bulge, damage; below 0: drawn.
// Out: defective [batch, points, 3], mask [batch, points].
cudaError_t displace_patch(const float* good, const int64_t* seeds, int64_t batch, int64_t points, int moved, float scale, bool gaussian,
                           int kind, float* defective, bool* mask, cudaStream_t on);

// gates [steps, clouds, width]: gate, and bias * gate + shift, of padded columns; column [width] says which of `total` each is, or -1.
cudaError_t gate_rows(const int32_t* column, const float* bias, const float* gate_time, const float* gate_shape, const float* shift_time,
                      const float* shift_shape, int64_t steps, int clouds, int total, int width, float2* gates, cudaStream_t on);

// All steps of all layers. Widths: multiples of 128 up to 512. `cluster` 0: csrc/cuda/reverse.cuh, tiles of 32, 64 or 128 points, 0:
// chosen; 1, 2, 4 or 8: that many blocks share the weights (csrc/cuda/reverse_sm90.cuh), tiles of 64 or 128, 0: chosen.
struct Reverse;
cudaError_t reverse_steps(const Reverse& r, int tile, int cluster, cudaStream_t on);
cudaError_t reverse_clusters(const Reverse& r, int tile, int cluster, cudaStream_t on);

}  // namespace r3dad::cuda
