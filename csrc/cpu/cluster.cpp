// Nearest rows, and the distance of clusters: neighbours of both clouds, rows of coordinates, nearest row.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "dispatch.h"
#include "kdtree.h"
#include "memory.h"
#include "neighbourhood.h"
#include "ops.h"
#include "parallel.h"

namespace r3dad {
namespace {

constexpr float kUnit = 0x1p-24f;  // half an ulp of 1

// Writes the 3k coordinates of row i, one point after the other.
using Rows = std::function<void(int64_t, float*)>;

// Sums of the coordinates of rows in double, over the square root of k: [count, 3].
std::vector<double> scaled_means(const Rows& rows, int64_t count, int k, int threads) {
  std::vector<double> means(3 * count);
  const double scale = 1 / std::sqrt(static_cast<double>(k));
  parallel_for((count + 255) / 256, threads, [&](int64_t part, int) {
    std::vector<float> row(3 * k);
    for (int64_t i = part * 256; i < std::min(count, part * 256 + 256); ++i) {
      rows(i, row.data());
      double total[12] = {};  // four points side by side
      int j = 0;
      for (; j + 12 <= 3 * k; j += 12)
        for (int d = 0; d < 12; ++d) total[d] += row[j + d];
      for (; j < 3 * k; ++j) total[j % 3] += row[j];
      for (int d = 0; d < 3; ++d) means[3 * i + d] = ((total[d] + total[d + 3]) + (total[d + 6] + total[d + 9])) * scale;
    }
  });
  return means;
}

// One side: a tree of the scaled and centred means.
struct Side {
  int64_t count;
  int width;  // of a padded row
  const Rows& rows;
  float largest = 0;  // magnitude of a centred mean
  KdTree tree;

  Side(const Rows& from, const std::vector<double>& means, const double* centre, int padded, int threads)
      : count(static_cast<int64_t>(means.size()) / 3), width(padded), rows(from) {
    const Buffer<float> centred(3 * count);
    for (int64_t i = 0; i < count; ++i)
      for (int d = 0; d < 3; ++d) {
        centred[3 * i + d] = static_cast<float>(means[3 * i + d] - centre[d]);
        largest = std::max(largest, std::fabs(centred[3 * i + d]));
      }
    tree = build_kdtree(centred.get(), count, kRowLeaf, threads);
  }

  // Rows [first, first + number) of the tree's order, zero-padded.
  void gather(int64_t first, int64_t number, float* out) const {
    for (int64_t at = first; at < first + number; ++at, out += width) {
      if (tree.ids[at] == std::numeric_limits<uint32_t>::max()) {
        std::fill(out, out + width, 0.0f);
        continue;
      }
      std::fill(out + width - 32, out + width, 0.0f);
      rows(tree.ids[at], out);
    }
  }
};

// Where the means do not separate the rows: products of centred rows.
void nearest_by_products(const Side& query, const Side& reference, const float* ordered, float* distances, int64_t* indices,
                         int threads) {
  const Kernels& isa = kernels();
  const int width = query.width;
  const int64_t points = reference.count, padded = (points + isa.panel - 1) / isa.panel * isa.panel;
  std::vector<double> centre(width, 0.0);
  for (int64_t i = 0; i < points; ++i)
    for (int j = 0; j < width; ++j) centre[j] += ordered[i * width + j];
  for (double& c : centre) c /= static_cast<double>(points);

  const Buffer<float> packed(padded * width), norms(padded);
  const int64_t panels = padded / isa.panel;
  std::vector<double> longest(panels, 0.0);
  parallel_for(panels, threads, [&](int64_t panel, int) {
    const int64_t first = panel * isa.panel, count = std::min<int64_t>(isa.panel, points - first);
    const Buffer<float> rows(isa.panel * width);
    std::fill(norms.get() + first, norms.get() + first + isa.panel, std::numeric_limits<float>::infinity());
    for (int64_t i = 0; i < count; ++i) {
      double norm = 0;
      for (int j = 0; j < width; ++j) {
        const float v = static_cast<float>(ordered[(first + i) * width + j] - centre[j]);
        rows[i * width + j] = v;
        norm += static_cast<double>(v) * v;
      }
      norms[first + i] = static_cast<float>(norm);
      longest[panel] = std::max(longest[panel], norm);
    }
    isa.pack(rows.get(), width, width, static_cast<int>(count), packed.get() + first * width);
  });
  const double reach = std::sqrt(*std::max_element(longest.begin(), longest.end()));

  const int64_t lda = width <= 128 ? 128 : width <= 256 ? 256 : width <= 512 ? 512 : width <= 1024 ? 1024 : width;
  const int64_t chunk = 16 * isa.unit, chunks = (query.count + chunk - 1) / chunk;
  struct Worker {
    Buffer<float> rows, centred, slack;
    Buffer<char> scratch;
  };
  std::vector<Worker> pool;
  for (int i = 0; i < workers(chunks, threads); ++i)
    pool.push_back({Buffer<float>(chunk * width), Buffer<float>(chunk * lda), Buffer<float>(chunk), Buffer<char>(chunk * (16 + 8 * kCandidates))});
  parallel_for(chunks, threads, [&](int64_t item, int worker) {
    const Worker& own = pool[worker];
    const int64_t first = item * chunk, count = std::min(chunk, query.count - first);
    query.gather(first, count, own.rows.get());
    for (int64_t i = 0; i < chunk; ++i) {
      double norm = 0;
      for (int j = 0; j < width; ++j) {
        const float v = i < count ? static_cast<float>(own.rows[i * width + j] - centre[j]) : 0.0f;
        own.centred[i * lda + j] = -2.0f * v;
        norm += static_cast<double>(v) * v;
      }
      // A value |r|^2 - 2 q.r of `width` fused additions, of rows centred with one rounding each, is off by at most
      // (width + 8) u (|q| + |r|)^2; the full comparison by (width + 8) u d^2, and d <= |q| + |r|. Twice both, for two rows.
      const double length = std::sqrt(norm) + reach;
      own.slack[i] = static_cast<float>(4.0 * (width + 16) * kUnit * length * length);
    }
    isa.nearest_dense({own.rows.get(), own.centred.get(), own.slack.get(), query.tree.ids.get() + first,
                       static_cast<int>(count), width, lda, ordered, packed.get(), norms.get(),
                       reference.tree.ids.get(), static_cast<int>(points), static_cast<int>(padded), distances, indices},
                      own.scratch.get());
  });
}

void nearest(const Rows& query_rows, const Rows& reference_rows, int64_t queries, int64_t points, int k, float* distances,
             int64_t* indices, int threads) {
  const std::vector<double> query_means = scaled_means(query_rows, queries, k, threads);
  const std::vector<double> means = scaled_means(reference_rows, points, k, threads);
  double centre[3] = {0, 0, 0};
  for (int64_t i = 0; i < points; ++i)
    for (int d = 0; d < 3; ++d) centre[d] += means[3 * i + d] / static_cast<double>(points);
  const int width = (3 * k + 31) / 32 * 32;
  const Side query(query_rows, query_means, centre, width, threads), reference(reference_rows, means, centre, width, threads);
  const float largest = std::max(query.largest, reference.largest);
  const Buffer<float> ordered(reference.tree.blocks * kRowLeaf * width);
  parallel_for(reference.tree.blocks, threads, [&](int64_t block, int) {
    reference.gather(block * kRowLeaf, kRowLeaf, ordered.get() + block * kRowLeaf * width);
  });

  // Margins. Scaled means are rounded once to float, each coordinate by at most u * largest, so a difference of two by 2 u * largest
  // and the length of that difference by 2 sqrt(3) u * largest; its square as computed is low by at most a factor 1 - 5u (absolute
  // part, relative part). The full comparison is high by at most (width / 16 + 8) u and more lanes make that less.
  const float absolute = 4.0f * kUnit * largest;
  const float relative = 1.0f + (width + 16) * kUnit;
  const int64_t blocks = query.tree.blocks;
  const Buffer<float> rows(static_cast<std::size_t>(workers(blocks, threads)) * kRowLeaf * width);
  auto run = [&](int64_t block, int worker, int64_t budget) {
    float* own = rows.get() + static_cast<int64_t>(worker) * kRowLeaf * width;
    Neighbourhood near(reference.tree);
    const int count = query.tree.count(block);
    const float* query_mean = query.tree.xyz.get() + block * 3 * kRowLeaf;
    query.gather(block * kRowLeaf, count, own);
    near.start(box_of(query_mean, kRowLeaf, count), 2);
    return kernels().nearest_block(
        {own, query_mean, query.tree.ids.get() + block * kRowLeaf, count, kRowLeaf,
         width, ordered.get(), reference.tree.xyz.get(), reference.tree.ids.get(), near.first().data(),
         static_cast<int>(near.first().size()), Neighbourhood::all, &near, relative, absolute, distances, indices},
        budget);
  };
  // Two blocks of queries tell whether the means separate these rows; they depend on the data alone, so the way does too.
  const int64_t probes[2] = {blocks / 3, 2 * blocks / 3};
  int64_t compared = 0, asked = 0;
  for (int i = 0; i < (blocks > 1 ? 2 : 1); ++i) {
    const int64_t count = query.tree.count(probes[i]), budget = count * points / 8 + 64;
    compared += run(probes[i], 0, budget);
    asked += count;
  }
  if (points > 4 * kRowLeaf && compared > asked * points / 8) return nearest_by_products(query, reference, ordered.get(), distances, indices, threads);
  parallel_for(blocks, threads, [&](int64_t block, int worker) { run(block, worker, std::numeric_limits<int64_t>::max()); });
}

}  // namespace

void nearest_row(const float* query, const float* reference, int64_t batch, int64_t queries, int64_t rows, int k, float* distances,
                 int64_t* indices, int threads) {
  if (queries == 0) return;
  for (int64_t b = 0; b < batch; ++b) {
    const float *q = query + b * queries * 3 * k, *r = reference + b * rows * 3 * k;
    nearest([&](int64_t i, float* row) { std::copy_n(q + i * 3 * k, 3 * k, row); },
            [&](int64_t i, float* row) { std::copy_n(r + i * 3 * k, 3 * k, row); }, queries, rows, k, distances + b * queries,
            indices ? indices + b * queries : nullptr, threads);
  }
}

void cluster_distance(const float* points, const float* reconstruction, int64_t batch, int64_t n, int64_t m, int k, float* distances,
                      int threads) {
  if (n == 0) return;
  const int64_t most = std::max(n, m) * k;
  const Buffer<float> unused(batch ? most : 1);
  const Buffer<int64_t> near_points(batch ? n * k : 1), near_reconstruction(batch ? m * k : 1);
  auto rows = [k](const float* cloud, const int64_t* near) {
    return [cloud, near, k](int64_t i, float* row) {
      for (int j = 0; j < k; ++j) std::copy_n(cloud + 3 * near[i * k + j], 3, row + 3 * j);
    };
  };
  for (int64_t b = 0; b < batch; ++b) {
    const float *p = points + b * n * 3, *r = reconstruction + b * m * 3;
    knn(p, p, 1, n, n, k, unused.get(), near_points.get(), threads);
    knn(r, r, 1, m, m, k, unused.get(), near_reconstruction.get(), threads);
    nearest(rows(p, near_points.get()), rows(r, near_reconstruction.get()), n, m, k, distances + b * n, nullptr, threads);
  }
}

}  // namespace r3dad
