// What the reverse process on the GPU is called with, and the shared memory that a tile takes.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace r3dad::cuda {

constexpr int kReverseWarps = 8, kReverseThreads = 32 * kReverseWarps, kMostBetween = 8;
constexpr int kStages = 4, kItem = 1024;        // of a warp's stream of weights: pieces on their way or in use, bytes of one
constexpr int kPanel = 16 * kReverseWarps;      // the least columns that all warps share; widths are multiples of it
constexpr int kRing = kStages * kItem * kReverseWarps;

// Layers between the first and the last go from widths[l] to widths[l + 1], l < between; padded with zeros.
struct Reverse {
  const float *start, *share;    // [clouds, points, 3]; the condition's share of the first layer [clouds, points, widths[0]] or null
  const int64_t* seeds;          // [clouds]
  const float *first, *last;     // [3, widths[0]], [3, widths[between]]
  const uint4* weights;          // [warps, items of a step, kItem bytes], for clusters [pieces of a step, kPiece bytes], both packed by
                                 // kernels/reverse_diffusion_cuda.py
  const float2* gates;           // [steps, clouds, width]: gate, and bias * gate + shift; width = sum of widths + 4
  const float* coefficients;     // [steps, 3]
  float* out;                    // [clouds, points, 3]
  int points, clouds, steps, between, items, width;
  int widths[kMostBetween + 1];
  float slope;
};

// Bytes of the two buffers and of all shared memory, for a tile of `tile` points.
struct ReverseMemory {
  int buffer[2], total;
};
__host__ __device__ inline ReverseMemory reverse_memory(const Reverse& r, int tile) {
  ReverseMemory memory{{0, 0}, 0};
  const auto hold = [&](int which, int bytes) { memory.buffer[which] = memory.buffer[which] > bytes ? memory.buffer[which] : bytes; };
  for (int l = 0; l < r.between; ++l) hold(l % 2, 2 * tile * r.widths[l]);
  hold(r.between % 2, 12 * tile * kReverseWarps);  // the last layer's sums
  memory.total = kRing + memory.buffer[0] + memory.buffer[1] + 12 * tile;
  return memory;
}

// widths [between + 1]; what follows from them is filled in. Too many or odd widths: between is 0.
inline Reverse reverse_of(const float* start, const float* share, const int64_t* seeds, const float* first, const float* last,
                          const uint4* weights, const float2* gates, const float* coefficients, float* out, int points, int clouds,
                          int steps, int between, const int* widths, float slope) {
  Reverse r{start, share, seeds, first, last, weights, gates, coefficients, out, points, clouds, steps, between, 0, 4, {}, slope};
  bool fits = between >= 1 && between <= kMostBetween;
  for (int l = 0; fits && l <= between; ++l) {
    fits = widths[l] > 0 && widths[l] % kPanel == 0 && widths[l] <= 2 * kReverseThreads;
    r.widths[l] = widths[l];
    r.width += widths[l];
    if (l) r.items += 2 * widths[l - 1] * widths[l] / (kItem * kReverseWarps);
  }
  if (!fits) r.between = 0;
  return r;
}

}  // namespace r3dad::cuda
