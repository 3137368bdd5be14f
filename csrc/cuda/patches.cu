#include "cuda/patches.cuh"

#include "cuda/ops.h"

namespace r3dad::cuda {

cudaError_t displace_patch(const float* good, const int64_t* seeds, int64_t batch, int64_t points, int moved, float scale, bool gaussian,
                           int kind, float* defective, bool* mask, cudaStream_t on) {
  if (batch == 0) return cudaSuccess;
  if (moved < 1 || moved > kMostMoved || moved > points || points > INT32_MAX - kPatchThreads || kind >= kKinds || batch > INT32_MAX)
    return cudaErrorInvalidValue;
  displace_patch<<<static_cast<unsigned>(batch), kPatchThreads, 0, on>>>(good, seeds, static_cast<int>(points), moved, scale, gaussian,
                                                                         kind, defective, mask);
  return cudaGetLastError();
}

}  // namespace r3dad::cuda
