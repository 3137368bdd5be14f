// The CUDA kernels behind a C interface, on the host.
#include "warp.h"

#include "cuda/cluster.cuh"
#include "cuda/knn.cuh"
#include "cuda/patches.cuh"

using namespace r3dad::cuda;

namespace {

unsigned blocks(int64_t rows, int warps) { return static_cast<unsigned>((rows + warps - 1) / warps); }

template <class Index>
void run_knn(const float* query, const float* reference, int64_t total, int64_t queries, int points, int k, float* distances,
             Index* indices) {
  emulated::launch(blocks(total, kKnnWarps), 32 * kKnnWarps,
                   [=] { knn_warp(query, reference, total, queries, points, k, distances, indices); });
}

}  // namespace

extern "C" {

// The last warp of a block runs first.
void last_warp_first(bool yes) { emulated::reversed = yes; }

void knn(const float* query, const float* reference, int64_t total, int64_t queries, int points, int k, float* distances,
         int64_t* indices) {
  run_knn(query, reference, total, queries, points, k, distances, indices);
}

void cluster_distance(const float* points, const float* reconstruction, int64_t batch, int64_t n, int64_t m, int k, int32_t* near_points,
                      int32_t* near_reconstruction, float* means, float* out) {
  run_knn(points, points, batch * n, n, static_cast<int>(n), k, nullptr, near_points);
  run_knn(reconstruction, reconstruction, batch * m, m, static_cast<int>(m), k, nullptr, near_reconstruction);
  float* others = means + 3 * batch * n;
  emulated::launch(blocks(batch * n, kClusterWarps), 32 * kClusterWarps,
                   [=] { cluster_means(points, near_points, reconstruction, batch * n, n, m, k, means); });
  emulated::launch(blocks(batch * m, kClusterWarps), 32 * kClusterWarps,
                   [=] { cluster_means(reconstruction, near_reconstruction, reconstruction, batch * m, m, m, k, others); });
  emulated::launch(blocks(batch * n, kClusterWarps), 32 * kClusterWarps, [=] {
    cluster_nearest({points, near_points, means, n}, {reconstruction, near_reconstruction, others, m}, batch * n, k, out);
  });
}

void displace_patch(const float* good, const int64_t* seeds, int64_t batch, int points, int moved, float scale, bool gaussian, int kind,
                    float* defective, bool* mask) {
  emulated::launch(static_cast<unsigned>(batch), kPatchThreads,
                   [=] { displace_patch(good, seeds, points, moved, scale, gaussian, kind, defective, mask); });
}

}
