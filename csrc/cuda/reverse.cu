#include "cuda/tensor.cuh"

#include "cuda/reverse.cuh"

#include "cuda/ops.h"

namespace r3dad::cuda {
namespace {

template <int TILES>
cudaError_t launch(const Reverse& r, cudaStream_t on) {
  const int bytes = reverse_memory(r, 16 * TILES).total;
  const int64_t blocks = static_cast<int64_t>(r.clouds) * ((r.points + 16 * TILES - 1) / (16 * TILES));
  if (blocks > INT32_MAX) return cudaErrorInvalidValue;
  const cudaError_t error = cudaFuncSetAttribute(reverse_tile<TILES>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  reverse_tile<TILES><<<static_cast<unsigned>(blocks), kReverseThreads, bytes, on>>>(r);
  return cudaGetLastError();
}

}  // namespace

cudaError_t gate_rows(const int32_t* column, const float* bias, const float* gate_time, const float* gate_shape, const float* shift_time,
                      const float* shift_shape, int64_t steps, int clouds, int total, int width, float2* gates, cudaStream_t on) {
  if (steps * clouds == 0) return cudaSuccess;
  if (steps * clouds > INT32_MAX) return cudaErrorInvalidValue;
  gate_rows<<<static_cast<unsigned>(steps * clouds), kReverseThreads, 0, on>>>(column, bias, gate_time, gate_shape, shift_time, shift_shape,
                                                                              clouds, total, width, gates);
  return cudaGetLastError();
}

cudaError_t reverse_steps(const Reverse& r, int tile, int cluster, cudaStream_t on) {
  if (r.points == 0 || r.clouds == 0) return cudaSuccess;
  if (r.between == 0 || r.points > INT32_MAX - 128) return cudaErrorInvalidValue;
  int device = 0, processors = 0, room = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&room, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error != cudaSuccess) return error;
  // 128 points, which halve the weights' traffic, only if they leave no processor idle.
  const int64_t large = static_cast<int64_t>(r.clouds) * ((r.points + 127) / 128);
  if (cluster != 0) return reverse_clusters(r, tile != 0 ? tile : large >= processors ? 128 : 64, cluster, on);
  if (tile == 0) {
    tile = large >= processors && reverse_memory(r, 128).total <= room ? 128 : reverse_memory(r, 64).total <= room ? 64 : 32;
  }
  return tile == 128 ? launch<8>(r, on) : tile == 64 ? launch<4>(r, on) : tile == 32 ? launch<2>(r, on) : cudaErrorInvalidValue;
}

}  // namespace r3dad::cuda
