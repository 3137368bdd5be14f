// Distance of every row of neighbours to the nearest row of another cloud: exact, one warp per query, rows gathered and never stored.
//
// By Cauchy and Schwarz two rows of k points are at least as far apart as their means times the square root of k. So the row with the
// nearest mean gives a bound, and of the others only those are compared whole whose mean lies within; each comparison may lower the bound.
#pragma once
#include "cuda/warp.cuh"

namespace r3dad::cuda {

constexpr int kClusterWarps = 4;
constexpr float kUnit = 0x1p-24f;  // half an ulp of 1

// means [clouds, 3, rows]: of each row's points, from the first point of `centre`'s cloud, times the square root of k. points [clouds,
// rows, 3], near [clouds, rows, k], centre [clouds, centres, 3]; total = clouds * rows. One warp a row.
__global__ void __launch_bounds__(32 * kClusterWarps) cluster_means(const float* points, const int32_t* near, const float* centre,
                                                                    int64_t total, int64_t rows, int64_t centres, int k, float* means) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kClusterWarps + threadIdx.x / 32;
  if (row >= total) return;
  const int64_t cloud = row / rows;
  const float* from = points + 3 * cloud * rows;
  double sum[3] = {0, 0, 0};
  for (int j = lane; j < k; j += 32) {
    const float* p = from + 3 * static_cast<int64_t>(near[row * k + j]);
    for (int d = 0; d < 3; ++d) sum[d] += p[d];
  }
  for (int d = 0; d < 3; ++d) {
    const double whole = warp_sum(sum[d]) - static_cast<double>(k) * centre[3 * cloud * centres + d];
    if (lane == d) means[(3 * cloud + d) * rows + row % rows] = static_cast<float>(whole / sqrt(static_cast<double>(k)));
  }
}

// One cloud's rows and their means.
struct Rows {
  const float* points;
  const int32_t* near;
  const float* means;
  int64_t count;
};

// out [clouds, query.count]; total = clouds * query.count.
__global__ void __launch_bounds__(32 * kClusterWarps) cluster_nearest(Rows query, Rows reference, int64_t total, int k, float* out) {
  __shared__ float shared[kClusterWarps][3][kMostNeighbours];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kClusterWarps + warp;
  if (row >= total) return;
  const int64_t cloud = row / query.count;
  const float *from = query.points + 3 * cloud * query.count, *to = reference.points + 3 * cloud * reference.count;
  const float* own = query.means + 3 * cloud * query.count + row % query.count;
  const float* x = reference.means + 3 * cloud * reference.count;
  const float *y = x + reference.count, *z = y + reference.count;
  const float mean[3] = {own[0], own[query.count], own[2 * query.count]};
  const int32_t* near = reference.near + cloud * reference.count * k;
  const int rows = static_cast<int>(reference.count);
  for (int j = lane; j < k; j += 32) {  // read by the same lane only
    const float* p = from + 3 * static_cast<int64_t>(query.near[row * k + j]);
    for (int d = 0; d < 3; ++d) shared[warp][d][j] = p[d];
  }

  const auto apart = [&](int r) { return squared(mean[0] - x[r], mean[1] - y[r], mean[2] - z[r]); };
  const auto compared = [&](int r) {
    float sum = 0;
    for (int j = lane; j < k; j += 32) {
      const float* p = to + 3 * static_cast<int64_t>(near[static_cast<int64_t>(r) * k + j]);
      sum += squared(shared[warp][0][j] - p[0], shared[warp][1][j] - p[1], shared[warp][2][j] - p[2]);
    }
    return warp_sum(sum);
  };
  // Margins. A mean is rounded once, each coordinate by at most u times itself, and one of the reference is no farther than ours plus the
  // distance: together 2 sqrt(3) u times our largest coordinate, and a part relative to the distance. With the sums of the comparison, of
  // at most 48 + 5 additions, that part stays under 128 u, 256 u of the square.
  const float absolute = 4 * kUnit * fmaxf(fabsf(mean[0]), fmaxf(fabsf(mean[1]), fabsf(mean[2])));
  const auto reach = [&](float best) {
    const float length = sqrtf(best * (1 + 256 * kUnit)) + absolute;
    return length * length;
  };

  float least = INFINITY;
  int at = 0;
  for (int r = lane; r < rows; r += 32) {
    const float d = apart(r);
    if (d < least) least = d, at = r;
  }
  for (int step = 16; step > 0; step /= 2) {
    const float other = __shfl_xor_sync(kAll, least, step);
    const int other_at = __shfl_xor_sync(kAll, at, step);
    if (other < least || (other == least && other_at < at)) least = other, at = other_at;
  }
  float best = compared(at), limit = reach(best);
  for (int first = 0; first < rows; first += 32) {
    const float d = first + lane < rows ? apart(first + lane) : NAN;
    unsigned left = __ballot_sync(kAll, d <= limit);
    while (left) {
      const float other = compared(first + __ffs(static_cast<int>(left)) - 1);
      left &= left - 1;
      if (other < best) {  // in all lanes or none: a sum has the same bits in each
        best = other;
        limit = reach(best);
        left &= __ballot_sync(kAll, d <= limit);
      }
    }
  }
  if (lane == 0) out[row] = best;
}

}  // namespace r3dad::cuda
