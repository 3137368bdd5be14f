// Philox noise, one thread per point.
#include "common/philox.h"
#include "cuda/ops.h"

namespace r3dad::cuda {
namespace {

__global__ void fill(const int64_t* seeds, int64_t total, int64_t points, uint32_t step, uint32_t stream, float* out) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= total) return;
  const uint64_t seed = static_cast<uint64_t>(seeds[i / points]);
  philox::normal(static_cast<uint32_t>(i % points), step, stream, seed, out + 3 * i);
}

}  // namespace

cudaError_t philox_normal(const int64_t* seeds, int64_t batch, int64_t points, uint32_t step, uint32_t stream, float* out,
                          cudaStream_t on) {
  const int64_t total = batch * points;
  if (total == 0) return cudaSuccess;
  fill<<<static_cast<unsigned>((total + 255) / 256), 256, 0, on>>>(seeds, total, points, step, stream, out);
  return cudaGetLastError();
}

}  // namespace r3dad::cuda
