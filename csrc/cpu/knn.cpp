// Work items of the neighbour search: k-d blocks of queries against the reference's tree, or brute force for a few queries.
#include "ops.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "dispatch.h"
#include "kdtree.h"
#include "memory.h"
#include "neighbourhood.h"
#include "parallel.h"

namespace r3dad {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

class Scratch {
 public:
  Scratch(int64_t distances, int k)
      : capacity_(std::max(4 * k, 512)),
        distance_(distances),
        minima_(knn_groups(k)),
        candidate_(room()),
        sorted_(room()),
        id_(room()),
        rank_(room()),
        sorted_id_(room()) {}
  KnnScratch view() const {
    return {distance_.get(), minima_.get(), candidate_.get(), id_.get(), rank_.get(), sorted_.get(), sorted_id_.get(), capacity_};
  }

 private:
  std::size_t room() const { return capacity_ + 2 * kLeaf; }
  int capacity_;
  Buffer<float> distance_, minima_, candidate_, sorted_;
  Buffer<uint32_t> id_, rank_, sorted_id_;
};

void brute(const float* query, const float* reference, int64_t batch, int64_t queries, int64_t points, int k, float* distances,
           int64_t* indices, int threads) {
  const int64_t padded = (points + kLeaf - 1) / kLeaf * kLeaf;
  constexpr int64_t kChunk = 64;
  const int64_t chunks = (queries + kChunk - 1) / kChunk;
  struct Worker {
    Scratch scratch;
    Buffer<float> xyz;
    int64_t cloud = -1;
  };
  std::vector<Worker> pool;
  for (int i = 0; i < workers(batch * chunks, threads); ++i) pool.push_back({Scratch(padded, k), Buffer<float>(3 * padded)});
  parallel_for(batch * chunks, threads, [&](int64_t item, int worker) {
    Worker& own = pool[worker];
    const int64_t cloud = item / chunks, first = item % chunks * kChunk;
    if (own.cloud != cloud) {
      const float* p = reference + cloud * points * 3;
      for (int d = 0; d < 3; ++d) {
        float* row = own.xyz.get() + d * padded;
        for (int64_t i = 0; i < points; ++i) row[i] = p[3 * i + d];
        std::fill(row + points, row + padded, kInf);
      }
      own.cloud = cloud;
    }
    const int64_t row = cloud * queries + first;
    kernels().knn_brute({query + row * 3, std::min(kChunk, queries - first), own.xyz.get(), points, padded, k,
                         distances + row * k, indices + row * k},
                        own.scratch.view());
  });
}

}  // namespace

void knn_select(float* distance, uint32_t* id, int count, int k, bool sorted) {
  struct Pair {
    float d;
    uint32_t id;
    bool operator<(const Pair& other) const { return d < other.d || (d == other.d && id < other.id); }
  };
  thread_local std::vector<Pair> pairs;
  pairs.resize(count);
  for (int i = 0; i < count; ++i) pairs[i] = {distance[i], id[i]};
  if (k < count) std::nth_element(pairs.begin(), pairs.begin() + k, pairs.end());
  if (sorted) std::sort(pairs.begin(), pairs.begin() + k);
  for (int i = 0; i < k; ++i) {
    distance[i] = pairs[i].d;
    id[i] = pairs[i].id;
  }
}

namespace {

// Blocks that are computed for every query of a block.
int first_blocks(int k) { return k <= 16 ? 3 : std::max(4, (6 * k + kLeaf - 1) / kLeaf); }

// Query blocks about as wide as the reference's; for one neighbour, whole ones cost the tree less than they cost the search.
int query_leaf(int64_t queries, int64_t points, int k) {
  if (k == 1) return kLeaf;
  return static_cast<int>(std::clamp<int64_t>(kLeaf * queries / std::max<int64_t>(points, 1), 4, kLeaf));
}

void search_block(const KdTree& tree, const KdTree& from, int64_t block, int k, float* distances, int64_t* indices, const Scratch& scratch) {
  Neighbourhood near(tree);
  const float* xyz = from.xyz.get() + block * 3 * from.leaf;
  near.start(box_of(xyz, from.leaf, from.count(block)), first_blocks(k));
  kernels().knn_block({xyz, from.ids.get() + block * from.leaf, from.count(block), from.leaf, k, tree.xyz.get(), tree.ids.get(),
                       near.first().data(), static_cast<int>(near.first().size()), Neighbourhood::others, &near, distances, indices},
                      scratch.view());
}

std::vector<Scratch> scratches(int64_t items, int threads, int k) {
  std::vector<Scratch> result;
  for (int i = 0; i < workers(items, threads); ++i) result.emplace_back(static_cast<int64_t>(first_blocks(k)) * kLeaf, k);
  return result;
}

}  // namespace

KdTree knn_tree(const float* points, int64_t count, int threads) { return build_kdtree(points, count, kLeaf, threads); }

void knn(const KdTree& tree, const KdTree& queries, int k, float* distances, int64_t* indices, int threads) {
  const std::vector<Scratch> scratch = scratches(queries.blocks, threads, k);
  parallel_for(queries.blocks, threads, [&](int64_t block, int worker) {
    search_block(tree, queries, block, k, distances, indices, scratch[worker]);
  });
}

void knn(const KdTree& tree, const float* query, int64_t queries, int k, float* distances, int64_t* indices, int threads) {
  if (queries == 0) return;
  knn(tree, build_kdtree(query, queries, query_leaf(queries, tree.points, k), threads), k, distances, indices, threads);
}

void knn(const float* query, const float* reference, int64_t batch, int64_t queries, int64_t points, int k, float* distances,
         int64_t* indices, int threads) {
  if (batch == 0 || queries == 0) return;
  if (queries <= 64 || points <= 2 * kLeaf) return brute(query, reference, batch, queries, points, k, distances, indices, threads);
  const bool self = query == reference && queries == points;
  const int leaf = self ? kLeaf : query_leaf(queries, points, k);
  const int inside = batch == 1 ? threads : 1;
  std::vector<KdTree> trees(batch), query_trees(self ? 0 : batch);
  parallel_for(batch, batch == 1 ? 1 : threads, [&](int64_t cloud, int) {
    trees[cloud] = build_kdtree(reference + cloud * points * 3, points, kLeaf, inside);
    if (!self) query_trees[cloud] = build_kdtree(query + cloud * queries * 3, queries, leaf, inside);
  });
  const std::vector<KdTree>& asking = self ? trees : query_trees;
  const int64_t blocks = asking[0].blocks;
  const std::vector<Scratch> scratch = scratches(batch * blocks, threads, k);
  parallel_for(batch * blocks, threads, [&](int64_t item, int worker) {
    const int64_t cloud = item / blocks, row = cloud * queries * k;
    search_block(trees[cloud], asking[cloud], item % blocks, k, distances + row, indices + row, scratch[worker]);
  });
}

}  // namespace r3dad
