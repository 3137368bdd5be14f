// What the neighbour kernels share: exact squared distances, digits of a histogram, sums and sorts.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace r3dad::cuda {

constexpr int kMostNeighbours = 512;
constexpr unsigned kAll = 0xFFFFFFFFu;

// In the order of the definition, without fused multiply-adds.
__device__ inline float squared(float x, float y, float z) {
  return __fadd_rn(__fadd_rn(__fmul_rn(x, x), __fmul_rn(y, y)), __fmul_rn(z, z));
}

// A squared distance is not negative, so its bits are ordered as it is.
__device__ inline uint32_t distance_bits(const float* q, const float* r) {
  return __float_as_uint(squared(__fsub_rn(q[0], r[0]), __fsub_rn(q[1], r[1]), __fsub_rn(q[2], r[2])));
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

// The same bits in all lanes, whatever the lane.
template <class T>
__device__ inline T warp_sum(T value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAll, value, step);
  return value;
}

__device__ inline int power_of_two(int count) {
  int size = 1;
  while (size < count) size *= 2;
  return size;
}

// Bitonic sort of keys[size], ascending, size a power of two, by `threads` threads of which this is number `me`; all have written their
// keys and come here together, and `wait` makes them meet.
template <class Wait>
__device__ inline void sort(unsigned long long* keys, int size, int me, int threads, Wait wait) {
  wait();
  for (int run = 2; run <= size; run *= 2) {
    for (int stride = run / 2; stride > 0; stride /= 2) {
      for (int i = me; i < size / 2; i += threads) {
        const int low = 2 * i - (i & (stride - 1)), high = low + stride;
        const unsigned long long a = keys[low], b = keys[high];
        if ((a > b) == ((low & run) == 0)) {
          keys[low] = b;
          keys[high] = a;
        }
      }
      wait();
    }
  }
}

}  // namespace r3dad::cuda
