// The CUDA kernels on the host, behind the functions of r3dad._cuda.
#include "hopper.h"

#include "cuda/cluster.cuh"
#include "cuda/knn.cuh"
#include "cuda/patches.cuh"
#include "cuda/reverse.cuh"
#include "cuda/reverse_sm90.cuh"

using namespace r3dad::cuda;

namespace {

unsigned blocks(int64_t rows, int warps) { return static_cast<unsigned>((rows + warps - 1) / warps); }

template <class Index>
void run_knn(const float* query, const float* reference, int64_t batch, int64_t queries, int64_t points, int k, float* distances,
             Index* indices) {
  emulated::launch(blocks(batch * queries, kKnnWarps), 32 * kKnnWarps, [=] {
    knn_warp(query, reference, batch * queries, queries, static_cast<int>(points), k, distances, indices);
  });
}

template <int TILES>
void run_reverse(const Reverse& r) {
  emulated::launch(blocks(r.points, 16 * TILES) * static_cast<unsigned>(r.clouds), kReverseThreads, [=] { reverse_tile<TILES>(r); });
}

template <int GROUPS>
void run_clusters(const Reverse& r, int cluster) {
  const unsigned tiles = blocks(r.points, kGroupRows * GROUPS) * static_cast<unsigned>(r.clouds), whole = static_cast<unsigned>(cluster);
  emulated::launch_clusters((tiles + whole - 1) / whole * whole, 128 * (GROUPS + 1), whole, [=] { reverse_cluster<GROUPS>(r, cluster); });
}

}  // namespace

extern "C" {

// The last warp of a block runs first.
void last_warp_first(bool yes) { emulated::reversed = yes; }

// Bulk copies land at once and products run late, or the other way round.
void copies_early(bool yes) { emulated::early = yes; }

void knn(const float* query, const float* reference, int64_t batch, int64_t queries, int64_t points, int k, float* distances,
         int64_t* indices, void*) {
  run_knn(query, reference, batch, queries, points, k, distances, indices);
}

void cluster_distance(const float* points, const float* reconstruction, int64_t batch, int64_t n, int64_t m, int k, int32_t* near_points,
                      int32_t* near_reconstruction, float* means, float* out, void*) {
  run_knn(points, points, batch, n, n, k, nullptr, near_points);
  run_knn(reconstruction, reconstruction, batch, m, m, k, nullptr, near_reconstruction);
  float* others = means + 3 * batch * n;
  emulated::launch(blocks(batch * n, kClusterWarps), 32 * kClusterWarps,
                   [=] { cluster_means(points, near_points, reconstruction, batch * n, n, m, k, means); });
  emulated::launch(blocks(batch * m, kClusterWarps), 32 * kClusterWarps,
                   [=] { cluster_means(reconstruction, near_reconstruction, reconstruction, batch * m, m, m, k, others); });
  emulated::launch(blocks(batch * n, kClusterWarps), 32 * kClusterWarps, [=] {
    cluster_nearest({points, near_points, means, n}, {reconstruction, near_reconstruction, others, m}, batch * n, k, out);
  });
}

void displace_patch(const float* good, const int64_t* seeds, int64_t batch, int64_t points, int moved, float scale, bool gaussian, int kind,
                    float* defective, bool* mask, void*) {
  emulated::launch(static_cast<unsigned>(batch), kPatchThreads, [=] {
    displace_patch(good, seeds, static_cast<int>(points), moved, scale, gaussian, kind, defective, mask);
  });
}

void gate_rows(const int32_t* column, const float* bias, const float* gate_time, const float* gate_shape, const float* shift_time,
               const float* shift_shape, int64_t steps, int clouds, int total, int width, float2* gates, void*) {
  emulated::launch(static_cast<unsigned>(steps * clouds), kReverseThreads, [=] {
    gate_rows(column, bias, gate_time, gate_shape, shift_time, shift_shape, clouds, total, width, gates);
  });
}

void reverse_steps(const float* start, const float* share, const int64_t* seeds, const float* first, const float* last,
                   const uint4* weights, const float2* gates, const float* coefficients, float* out, int points, int clouds, int steps,
                   int between, const int* widths, float slope, int tile, int cluster, void*) {
  const Reverse r = reverse_of(start, share, seeds, first, last, weights, gates, coefficients, out, points, clouds, steps, between, widths,
                               slope);
  if (cluster) (tile == 64 ? run_clusters<1> : run_clusters<2>)(r, cluster);
  else (tile == 128 ? run_reverse<8> : tile == 32 ? run_reverse<2> : run_reverse<4>)(r);
}

// Bytes of shared memory that a tile takes; `cluster`: of the kernel for clusters.
void reverse_bytes(const int* widths, int between, int tile, int cluster, int* bytes) {
  const Reverse r =
      reverse_of(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, 0, 0, 0, between, widths, 0);
  *bytes = r.between == 0 ? 0 : cluster ? cluster_memory(r, tile / kGroupRows).total : reverse_memory(r, tile).total;
}

}
