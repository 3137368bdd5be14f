// k nearest neighbours, one warp per query: exact, ascending, ties to the smaller index; k <= 512.
//
// A squared distance is not negative, so its bits are ordered as it is: four passes over the reference find the k-th smallest digit by
// digit (histograms of 256 in shared memory), a fifth notes what is nearer, and of the equally far the first by index; then the k keys
// (distance, index) are sorted. Distances are recomputed in each pass: eight operations against a table of R values per query.
#pragma once
#include <cstdint>

namespace r3dad::cuda {

constexpr int kKnnMost = 512, kKnnWarps = 4;
constexpr unsigned kAll = 0xFFFFFFFFu;

// In the order of the definition, without fused multiply-adds.
__device__ inline uint32_t distance_bits(const float* q, const float* r) {
  const float x = __fsub_rn(q[0], r[0]), y = __fsub_rn(q[1], r[1]), z = __fsub_rn(q[2], r[2]);
  return __float_as_uint(__fadd_rn(__fadd_rn(__fmul_rn(x, x), __fmul_rn(y, y)), __fmul_rn(z, z)));
}

// The digit that holds the rank-th smallest of a histogram of 256; rank becomes the rank within the digit. All lanes get both.
__device__ inline uint32_t find_digit(const uint32_t* histogram, int lane, int* rank) {
  int own = 0;
  for (int i = 0; i < 8; ++i) own += static_cast<int>(histogram[8 * lane + i]);
  int up_to = own;
  for (int step = 1; step < 32; step *= 2) {
    const int below = __shfl_up_sync(kAll, up_to, step);
    if (lane >= step) up_to += below;
  }
  const int holder = __ffs(static_cast<int>(__ballot_sync(kAll, up_to >= *rank))) - 1;
  int left = *rank - (up_to - own), digit = 0;
  if (lane == holder) {
    while (left > static_cast<int>(histogram[8 * lane + digit])) left -= static_cast<int>(histogram[8 * lane + digit++]);
  }
  *rank = __shfl_sync(kAll, left, holder);
  return static_cast<uint32_t>(8 * holder + __shfl_sync(kAll, digit, holder));
}

// query [clouds, queries, 3], reference [clouds, points, 3] -> distances, indices [clouds, queries, k]; total = clouds * queries.
__global__ void __launch_bounds__(32 * kKnnWarps) knn_warp(const float* query, const float* reference, int64_t total, int64_t queries,
                                                           int points, int k, float* distances, int64_t* indices) {
  __shared__ uint32_t histograms[kKnnWarps][256];
  __shared__ unsigned long long all_keys[kKnnWarps][kKnnMost];
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

  int size = 1;
  while (size < k) size *= 2;
  for (int i = k + lane; i < size; i += 32) keys[i] = ~0ull;
  __syncwarp();
  for (int run = 2; run <= size; run *= 2) {  // bitonic sort
    for (int stride = run / 2; stride > 0; stride /= 2) {
      for (int i = lane; i < size / 2; i += 32) {
        const int low = 2 * i - (i & (stride - 1)), high = low + stride;
        const unsigned long long a = keys[low], b = keys[high];
        if ((a > b) == ((low & run) == 0)) {
          keys[low] = b;
          keys[high] = a;
        }
      }
      __syncwarp();
    }
  }
  for (int i = lane; i < k; i += 32) {
    distances[row * k + i] = __uint_as_float(static_cast<uint32_t>(keys[i] >> 32));
    indices[row * k + i] = static_cast<int64_t>(keys[i] & kAll);
  }
}

}  // namespace r3dad::cuda
