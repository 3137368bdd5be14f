// What both kernels of the reverse process do point by point, outside the matrix products.
#pragma once
#include "common/philox.h"
#include "cuda/reverse.h"

namespace r3dad::cuda {

__device__ inline float leaky(float y, float slope) { return y > 0 ? y : slope * y; }

// One step of one point x [3]: sum [3] are the last layer's products, gates [3] that layer's.
__device__ inline void advance(const Reverse& r, int step, int cloud, int point, const float (&sum)[3], const float2* gates, float* x) {
  const float *coefficient = r.coefficients + 3 * step, sigma = coefficient[2];
  float noise[3] = {0, 0, 0};
  if (sigma != 0)
    philox::normal(static_cast<uint32_t>(point), static_cast<uint32_t>(step + 1), 0, static_cast<uint64_t>(r.seeds[cloud]), noise);
  for (int d = 0; d < 3; ++d) {
    const float e = x[d] + (sum[d] * gates[d].x + gates[d].y);
    x[d] = coefficient[0] * x[d] + coefficient[1] * e + sigma * noise[d];
  }
}

}  // namespace r3dad::cuda
