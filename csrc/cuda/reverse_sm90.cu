#include "cuda/hopper.cuh"

#include "cuda/reverse_sm90.cuh"

#include "cuda/ops.h"

namespace r3dad::cuda {
namespace {

template <int GROUPS>
cudaError_t launch(const Reverse& r, int cluster, cudaStream_t on) {
  const int tile = kGroupRows * GROUPS, bytes = cluster_memory(r, GROUPS).total;
  const int64_t tiles = static_cast<int64_t>(r.clouds) * ((r.points + tile - 1) / tile);
  const int64_t blocks = (tiles + cluster - 1) / cluster * cluster;
  if (blocks > INT32_MAX) return cudaErrorInvalidValue;
  const cudaError_t error = cudaFuncSetAttribute(reverse_cluster<GROUPS>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(128 * (GROUPS + 1));
  config.dynamicSmemBytes = static_cast<size_t>(bytes);
  config.stream = on;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, reverse_cluster<GROUPS>, r, cluster);
}

}  // namespace

cudaError_t reverse_clusters(const Reverse& r, int tile, int cluster, cudaStream_t on) {
  const bool power = cluster > 0 && cluster <= kMostCluster && (cluster & (cluster - 1)) == 0;
  if (!power || (tile != 64 && tile != 128)) return cudaErrorInvalidValue;
  return tile == 128 ? launch<2>(r, cluster, on) : launch<1>(r, cluster, on);
}

}  // namespace r3dad::cuda
