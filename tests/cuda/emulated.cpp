// The CUDA kernels behind a C interface, on the host.
#include "warp.h"

#include "cuda/knn.cuh"

using namespace r3dad::cuda;

extern "C" void knn(const float* query, const float* reference, int64_t total, int64_t queries, int points, int k, float* distances,
                    int64_t* indices) {
  emulated::launch(static_cast<unsigned>((total + kKnnWarps - 1) / kKnnWarps), 32 * kKnnWarps,
                   [=] { knn_warp(query, reference, total, queries, points, k, distances, indices); });
}
