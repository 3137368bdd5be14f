// k nearest neighbours, one warp per query: exact, ascending, ties to the smaller index; k <= 512.
//
// Four passes over the reference find the bits of the k-th smallest squared distance digit by digit (histograms of 256 in shared memory), a
// fifth notes what is nearer, and of the equally far the first by index; then the k keys (distance, index) are sorted. Distances are
// recomputed in each pass: eight operations against a table of R values per query.
#pragma once
#include "cuda/warp.cuh"

namespace r3dad::cuda {

constexpr int kKnnWarps = 4;

// query [clouds, queries, 3], reference [clouds, points, 3] -> distances (where wanted), indices [clouds, queries, k]; total = clouds *
// queries.
template <class Index>
__global__ void __launch_bounds__(32 * kKnnWarps) knn_warp(const float* query, const float* reference, int64_t total, int64_t queries,
                                                           int points, int k, float* distances, Index* indices) {
  __shared__ uint32_t histograms[kKnnWarps][256];
  __shared__ unsigned long long all_keys[kKnnWarps][kMostNeighbours];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kKnnWarps + warp;
  if (row >= total) return;  // a whole warp
  const float q[3] = {query[3 * row], query[3 * row + 1], query[3 * row + 2]};
  const float* cloud = reference + row / queries * points * 3;
  uint32_t* histogram = histograms[warp];
  unsigned long long* keys = all_keys[warp];

  uint32_t bound = 0;  // bits of the k-th distance, found from the top
  int rank = k;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = lane; i < 256; i += 32) histogram[i] = 0;
    __syncwarp();
    for (int j = lane; j < points; j += 32) {
      const uint32_t bits = distance_bits(q, cloud + 3 * static_cast<int64_t>(j));
      if (shift == 24 || (bits ^ bound) >> (shift + 8) == 0) atomicAdd(&histogram[(bits >> shift) & 255], 1u);
    }
    __syncwarp();
    bound |= find_digit(histogram, lane, &rank) << shift;
    __syncwarp();
  }

  int noted = 0, equal = 0;
  const unsigned before = (1u << lane) - 1;
  for (int first = 0; first < points; first += 32) {
    const int j = first + lane;
    const uint32_t bits = j < points ? distance_bits(q, cloud + 3 * static_cast<int64_t>(j)) : kAll;
    const unsigned ties = __ballot_sync(kAll, bits == bound);
    const bool taken = bits < bound || (bits == bound && equal + __popc(ties & before) < rank);
    const unsigned mask = __ballot_sync(kAll, taken);
    if (taken) keys[noted + __popc(mask & before)] = static_cast<unsigned long long>(bits) << 32 | static_cast<unsigned>(j);
    noted += __popc(mask);
    equal += __popc(ties);
  }

  const int size = power_of_two(k);
  for (int i = k + lane; i < size; i += 32) keys[i] = ~0ull;
  sort(keys, size, lane, 32, [] { __syncwarp(); });
  for (int i = lane; i < k; i += 32) {
    if (distances) distances[row * k + i] = __uint_as_float(static_cast<uint32_t>(keys[i] >> 32));
    indices[row * k + i] = static_cast<Index>(keys[i] & kAll);
  }
}

}  // namespace r3dad::cuda
