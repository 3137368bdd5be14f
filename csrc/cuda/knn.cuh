// k nearest neighbours, one warp per query: exact, ascending, ties to the smaller index; k <= 512.
//
// Two passes over the reference. In the first each lane keeps the minima of eight groups of points; the k-th smallest of the warp's 256
// bounds the k-th neighbour. The second notes what lies within, a little more than k points, and their keys (distance, index) are sorted.
// Where more are within than can be noted (exact ties, k near 256 and above), four passes find the k-th smallest distance digit by digit
// (histograms in shared memory), and another notes what is nearer, and of the equally far the first by index.
#pragma once
#include "cuda/warp.cuh"

namespace r3dad::cuda {

constexpr int kKnnWarps = 4;

// Calls use(group, index, bits of the squared distance to q) for 256 points at a time, eight groups a lane; where there is no point, kAll.
template <class Use>
__device__ inline void for_each(const float* q, const float* cloud, int points, int lane, Use use) {
  const bool aligned = reinterpret_cast<uintptr_t>(cloud) % 16 == 0;
  for (int first = 0; first < points; first += 256) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int j = first + 128 * half + 4 * lane;
      float p[12] = {};
      if (aligned && j + 4 <= points) {
        for (int i = 0; i < 3; ++i) {
          const float4 four = reinterpret_cast<const float4*>(cloud + 3 * static_cast<int64_t>(j))[i];
          p[4 * i] = four.x, p[4 * i + 1] = four.y, p[4 * i + 2] = four.z, p[4 * i + 3] = four.w;
        }
      } else {
        for (int i = 0; i < 12; ++i)
          if (j + i / 3 < points) p[i] = cloud[3 * static_cast<int64_t>(j) + i];
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) use(4 * half + i, j + i, j + i < points ? distance_bits(q, p + 3 * i) : kAll);
    }
  }
}

// A bound of the k-th smallest distance, its lower half all ones.
__device__ inline uint32_t bound_by_groups(const float* q, const float* cloud, int points, int k, int lane) {
  uint32_t least[8];
  for (int group = 0; group < 8; ++group) least[group] = kAll;
  for_each(q, cloud, points, lane, [&](int group, int, uint32_t bits) { least[group] = bits < least[group] ? bits : least[group]; });
  uint32_t bound = 0;  // the largest multiple of 2^16 that fewer than k minima are below
  for (uint32_t bit = 1u << 30; bit >= 1u << 16; bit /= 2) {
    int below = 0;
    for (int group = 0; group < 8; ++group) below += __popc(__ballot_sync(kAll, least[group] < (bound | bit)));
    if (below < k) bound |= bit;
  }
  return bound | 0xFFFF;
}

// Notes the keys of all points within the bound, in any order; gives their number, which may be more than there is room for.
__device__ inline int note_within(const float* q, const float* cloud, int points, uint32_t bound, int lane, unsigned long long* keys) {
  int noted = 0;
  for_each(q, cloud, points, lane, [&](int, int j, uint32_t bits) {
    const unsigned mask = __ballot_sync(kAll, bits <= bound);
    const int to = noted + __popc(mask & ((1u << lane) - 1));
    if (bits <= bound && to < kMostNeighbours) keys[to] = static_cast<unsigned long long>(bits) << 32 | static_cast<unsigned>(j);
    noted += __popc(mask);
  });
  return noted;
}

// Notes the keys of the k nearest points, in any order.
__device__ inline void note_by_digits(const float* q, const float* cloud, int points, int k, int lane, uint32_t* histogram,
                                      unsigned long long* keys) {
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
}

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
  unsigned long long* keys = all_keys[warp];

  int noted = note_within(q, cloud, points, bound_by_groups(q, cloud, points, k, lane), lane, keys);
  if (noted > kMostNeighbours) {
    note_by_digits(q, cloud, points, k, lane, histograms[warp], keys);
    noted = k;
  }
  const int size = power_of_two(noted);
  for (int i = noted + lane; i < size; i += 32) keys[i] = ~0ull;
  sort(keys, size, lane, 32, [] { __syncwarp(); });
  for (int i = lane; i < k; i += 32) {
    if (distances) distances[row * k + i] = __uint_as_float(static_cast<uint32_t>(keys[i] >> 32));
    indices[row * k + i] = static_cast<Index>(keys[i] & kAll);
  }
}

}  // namespace r3dad::cuda
