// Patch-Gen of a batch (Alg. 1, eq. 7-8), one block per cloud: viewpoint and kind drawn, the patch selected, drawn amounts sorted, points
// moved.
//
// The patch is the points with the smallest keys (squared distance, index). Keys differ, so a selection digit by digit from the top ends as
// soon as a digit's keys are all taken: mostly after three or four of eight.
#pragma once
#include "common/philox.h"
#include "cuda/warp.cuh"

namespace r3dad::cuda {

constexpr int kPatchThreads = 256, kMostMoved = 2048;
constexpr uint32_t kPatchStream = 1;
enum Kind { kSink, kBulge, kDamage, kKinds };  // in the order of r3dad.synth.patch_gen.KINDS

// Drawn amounts as bits that sort ascending.
__device__ inline uint32_t ordered(float value) {
  const uint32_t bits = __float_as_uint(value);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline float from_ordered(uint32_t bits) { return __uint_as_float(bits >> 31 ? bits & 0x7FFFFFFFu : ~bits); }

// The largest of the `rank` smallest keys of a block's threads, by key(j), j < count; keys differ. All threads get it.
template <class Key>
__device__ inline unsigned long long bound_of(Key key, int count, int rank, uint32_t* histogram, uint32_t* found) {
  const int me = static_cast<int>(threadIdx.x);
  unsigned long long prefix = 0;
  for (int shift = 56;; shift -= 8) {
    for (int i = me; i < 256; i += kPatchThreads) histogram[i] = 0;
    __syncthreads();
    for (int j = me; j < count; j += kPatchThreads) {
      const unsigned long long own = key(j);
      if (shift == 56 || (own ^ prefix) >> (shift + 8) == 0) atomicAdd(&histogram[(own >> shift) & 255], 1u);
    }
    __syncthreads();
    if (me < 32) {
      const uint32_t digit = find_digit(histogram, me, &rank);
      if (me == 0) found[0] = digit, found[1] = static_cast<uint32_t>(rank);
    }
    __syncthreads();
    prefix |= static_cast<unsigned long long>(found[0]) << shift;
    rank = static_cast<int>(found[1]);
    if (histogram[found[0]] == found[1]) return prefix | ((1ull << shift) - 1);
    __syncthreads();  // before the next digit's zeros
  }
}

// good [clouds, points, 3], seeds [clouds] -> defective [clouds, points, 3], mask [clouds, points]; kind < 0: drawn.
__global__ void __launch_bounds__(kPatchThreads) displace_patch(const float* good, const int64_t* seeds, int points, int moved, float scale,
                                                                bool gaussian, int kind, float* defective, bool* mask) {
  __shared__ unsigned long long keys[kMostMoved], amounts[kMostMoved];
  __shared__ uint32_t histogram[256], found[2], taken;
  const int me = static_cast<int>(threadIdx.x);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * points;
  const float* cloud = good + 3 * first;
  const uint64_t seed = static_cast<uint64_t>(seeds[blockIdx.x]);

  const philox::Words pick = philox::words(0, 1, kPatchStream, seed);
  const int drawn = static_cast<int>(philox::uniform(pick.w[0]) * 26);
  const int corner = drawn > 25 ? 26 : drawn + (drawn >= 13);  // of 27; the middle is none
  const float view[3] = {2.0f * static_cast<float>(corner / 9 - 1), 2.0f * static_cast<float>(corner / 3 % 3 - 1),
                         2.0f * static_cast<float>(corner % 3 - 1)};
  if (kind < 0) {
    const int any = static_cast<int>(philox::uniform(pick.w[1]) * kKinds);
    kind = any < kKinds ? any : kKinds - 1;
  }

  const auto key = [&](int j) {
    return static_cast<unsigned long long>(distance_bits(view, cloud + 3 * static_cast<int64_t>(j))) << 32 | static_cast<unsigned>(j);
  };
  if (me == 0) taken = 0;
  const unsigned long long bound = bound_of(key, points, moved, histogram, found);
  for (int j = me; j < points; j += kPatchThreads) {
    const unsigned long long own = key(j);
    mask[first + j] = own <= bound;
    if (own <= bound) keys[atomicAdd(&taken, 1u)] = own;
    for (int d = 0; d < 3; ++d) defective[3 * (first + j) + d] = cloud[3 * static_cast<int64_t>(j) + d];
  }
  const int size = power_of_two(moved);
  for (int i = me; i < size; i += kPatchThreads) {
    if (i >= moved) {
      keys[i] = amounts[i] = ~0ull;
      continue;
    }
    float amount[3];
    philox::normal(static_cast<uint32_t>(i), 2, kPatchStream, seed, amount);
    if (!gaussian) amount[0] = philox::uniform(philox::words(static_cast<uint32_t>(i), 2, kPatchStream, seed).w[0]);
    amounts[i] = ordered(-amount[0]);
  }
  sort(keys, size, me, kPatchThreads, [] { __syncthreads(); });
  if (kind != kDamage) sort(amounts, size, me, kPatchThreads, [] { __syncthreads(); });

  // Sorted, they fall: the nearest point of a sink moves farthest; a bulge's are the same with the opposite sign.
  for (int i = me; i < moved; i += kPatchThreads) {
    const int64_t at = static_cast<int64_t>(keys[i] & kAll);
    const float amount = scale * (kind == kBulge ? 1.0f : -1.0f) * from_ordered(static_cast<uint32_t>(amounts[i]));
    const float along[3] = {cloud[3 * at] - view[0], cloud[3 * at + 1] - view[1], cloud[3 * at + 2] - view[2]};
    const float length = fmaxf(sqrtf(along[0] * along[0] + along[1] * along[1] + along[2] * along[2]), 1e-12f);
    for (int d = 0; d < 3; ++d) defective[3 * (first + at) + d] = cloud[3 * at + d] + amount * (along[d] / length);
  }
}

}  // namespace r3dad::cuda
