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

// One side: means in double, then a tree of the scaled and centred means with the rows in its order.
struct Side {
  int64_t count;
  int k, width;
  const Rows& rows;
  std::vector<double> means;  // [count, 3], sums / sqrt(k)
  KdTree tree;
  Buffer<float> ordered;  // [blocks * kRowLeaf, width]

  Side(const Rows& from, int64_t n, int points, int threads)
      : count(n), k(points), width((3 * points + 31) / 32 * 32), rows(from), means(3 * n) {
    parallel_for((n + 255) / 256, threads, [&](int64_t part, int) {
      std::vector<float> row(3 * k);
      for (int64_t i = part * 256; i < std::min(n, part * 256 + 256); ++i) {
        rows(i, row.data());
        double total[3] = {0, 0, 0};
        for (int j = 0; j < k; ++j)
          for (int d = 0; d < 3; ++d) total[d] += row[3 * j + d];
        for (int d = 0; d < 3; ++d) means[3 * i + d] = total[d] / std::sqrt(static_cast<double>(k));
      }
    });
  }

  // Returns the largest magnitude of a centred mean.
  float order(const double* centre, int threads) {
    Buffer<float> centred(3 * count);
    float largest = 0;
    for (int64_t i = 0; i < 3 * count; ++i) {
      centred[i] = static_cast<float>(means[i] - centre[i % 3]);
      largest = std::max(largest, std::fabs(centred[i]));
    }
    tree = build_kdtree(centred.get(), count, kRowLeaf, threads);
    ordered = Buffer<float>(tree.blocks * kRowLeaf * width);
    parallel_for(tree.blocks, threads, [&](int64_t block, int) {
      for (int64_t at = block * kRowLeaf; at < (block + 1) * kRowLeaf; ++at) {
        float* row = ordered.get() + at * width;
        std::fill(row, row + width, 0.0f);
        if (tree.ids[at] != std::numeric_limits<uint32_t>::max()) rows(tree.ids[at], row);
      }
    });
    return largest;
  }
};

// Where the means do not separate the rows: products of centred rows.
void nearest_by_products(const Side& query, const Side& reference, float* distances, int64_t* indices, int threads) {
  const Kernels& isa = kernels();
  const int width = query.width;
  const int64_t points = reference.count, padded = (points + isa.panel - 1) / isa.panel * isa.panel;
  std::vector<double> centre(width, 0.0);
  for (int64_t i = 0; i < points; ++i)
    for (int j = 0; j < width; ++j) centre[j] += reference.ordered[i * width + j];
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
        const float v = static_cast<float>(reference.ordered[(first + i) * width + j] - centre[j]);
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
    Buffer<float> centred, slack;
    Buffer<char> scratch;
  };
  std::vector<Worker> pool;
  for (int i = 0; i < workers(chunks, threads); ++i)
    pool.push_back({Buffer<float>(chunk * lda), Buffer<float>(chunk), Buffer<char>(chunk * (16 + 8 * kCandidates))});
  parallel_for(chunks, threads, [&](int64_t item, int worker) {
    const Worker& own = pool[worker];
    const int64_t first = item * chunk, count = std::min(chunk, query.count - first);
    for (int64_t i = 0; i < chunk; ++i) {
      double norm = 0;
      for (int j = 0; j < width; ++j) {
        const float v = i < count ? static_cast<float>(query.ordered[(first + i) * width + j] - centre[j]) : 0.0f;
        own.centred[i * lda + j] = -2.0f * v;
        norm += static_cast<double>(v) * v;
      }
      // A value |r|^2 - 2 q.r of `width` fused additions, of rows centred with one rounding each, is off by at most
      // (width + 8) u (|q| + |r|)^2; the full comparison by (width + 8) u d^2, and d <= |q| + |r|. Twice both, for two rows.
      const double length = std::sqrt(norm) + reach;
      own.slack[i] = static_cast<float>(4.0 * (width + 16) * kUnit * length * length);
    }
    isa.nearest_dense({query.ordered.get() + first * width, own.centred.get(), own.slack.get(), query.tree.ids.get() + first,
                       static_cast<int>(count), width, lda, reference.ordered.get(), packed.get(), norms.get(),
                       reference.tree.ids.get(), static_cast<int>(points), static_cast<int>(padded), distances, indices},
                      own.scratch.get());
  });
}

void nearest(const Rows& query_rows, const Rows& reference_rows, int64_t queries, int64_t points, int k, float* distances,
             int64_t* indices, int threads) {
  Side query(query_rows, queries, k, threads), reference(reference_rows, points, k, threads);
  double centre[3] = {0, 0, 0};
  for (int64_t i = 0; i < 3 * points; ++i) centre[i % 3] += reference.means[i];
  for (double& c : centre) c /= static_cast<double>(points);
  const float largest = std::max(query.order(centre, threads), reference.order(centre, threads));

  // Margins. Scaled means are rounded once to float, each coordinate by at most u * largest, so a difference of two by 2 u * largest
  // and the length of that difference by 2 sqrt(3) u * largest; its square as computed is low by at most a factor 1 - 5u (absolute
  // part, relative part). The full comparison is high by at most (width / 16 + 8) u and more lanes make that less.
  const float absolute = 4.0f * kUnit * largest;
  const float relative = 1.0f + (query.width + 16) * kUnit;
  const int64_t blocks = query.tree.blocks;
  auto run = [&](int64_t block, int64_t budget) {
    Neighbourhood near(reference.tree);
    const int count = query.tree.count(block);
    const float* means = query.tree.xyz.get() + block * 3 * kRowLeaf;
    near.start(box_of(means, kRowLeaf, count), 2);
    return kernels().nearest_block(
        {query.ordered.get() + block * kRowLeaf * query.width, means, query.tree.ids.get() + block * kRowLeaf, count, kRowLeaf,
         query.width, reference.ordered.get(), reference.tree.xyz.get(), reference.tree.ids.get(), near.first().data(),
         static_cast<int>(near.first().size()), Neighbourhood::all, &near, relative, absolute, distances, indices},
        budget);
  };
  // Two blocks of queries tell whether the means separate these rows; they depend on the data alone, so the way does too.
  const int64_t probes[2] = {blocks / 3, 2 * blocks / 3};
  int64_t compared = 0, asked = 0;
  for (int i = 0; i < (blocks > 1 ? 2 : 1); ++i) {
    const int64_t count = query.tree.count(probes[i]), budget = count * points / 8 + 64;
    compared += run(probes[i], budget);
    asked += count;
  }
  if (points > 4 * kRowLeaf && compared > asked * points / 8) return nearest_by_products(query, reference, distances, indices, threads);
  parallel_for(blocks, threads, [&](int64_t block, int) { run(block, std::numeric_limits<int64_t>::max()); });
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
