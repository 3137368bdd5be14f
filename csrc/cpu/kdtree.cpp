#include "kdtree.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "parallel.h"

namespace r3dad {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Item {
  float v[3];
  uint32_t id;
};

struct Span {
  int64_t first, blocks, node;  // blocks [first, first + blocks), the node's place
};

class Builder {
 public:
  Builder(const float* points, int64_t n, KdTree& tree) : items_(n), tree_(tree) {
    for (int64_t i = 0; i < n; ++i)
      items_[i] = {{points[3 * i], points[3 * i + 1], points[3 * i + 2]}, static_cast<uint32_t>(i)};
  }

  // Boxes and splits the span's node; returns whether there are two halves.
  bool split(const Span& span, Span& left, Span& right) {
    const int64_t a = span.first * tree_.leaf, b = std::min((span.first + span.blocks) * tree_.leaf, tree_.points);
    Node node{{{kInf, kInf, kInf}, {-kInf, -kInf, -kInf}}, std::numeric_limits<uint32_t>::max()};
    for (int64_t i = a; i < b; ++i) {
      for (int d = 0; d < 3; ++d) {
        node.box.lo[d] = std::min(node.box.lo[d], items_[i].v[d]);
        node.box.hi[d] = std::max(node.box.hi[d], items_[i].v[d]);
      }
      node.first_id = std::min(node.first_id, items_[i].id);
    }
    tree_.nodes[span.node] = node;
    if (span.blocks == 1) {
      leaf(span.first, a, b);
      return false;
    }
    int axis = 0;
    for (int d = 1; d < 3; ++d)
      if (node.box.hi[d] - node.box.lo[d] > node.box.hi[axis] - node.box.lo[axis]) axis = d;
    const int64_t half = KdTree::left_blocks(span.blocks), middle = a + half * tree_.leaf;
    // Equal coordinates are split by index, so a block of duplicates holds a range of indices that ties can be pruned by.
    std::nth_element(items_.get() + a, items_.get() + middle, items_.get() + b, [axis](const Item& x, const Item& y) {
      return x.v[axis] < y.v[axis] || (x.v[axis] == y.v[axis] && x.id < y.id);
    });
    left = {span.first, half, span.node + 1};
    right = {span.first + half, span.blocks - half, span.node + 2 * half};
    return true;
  }

  void build(const Span& span) {
    Span left, right;
    if (!split(span, left, right)) return;
    build(left);
    build(right);
  }

 private:
  void leaf(int64_t block, int64_t a, int64_t b) {
    uint32_t* ids = tree_.ids.get() + block * tree_.leaf;
    float* xyz = tree_.xyz.get() + 3 * block * tree_.leaf;
    for (int64_t j = 0; j < tree_.leaf; ++j) {
      const bool inside = a + j < b;
      ids[j] = inside ? items_[a + j].id : std::numeric_limits<uint32_t>::max();
      for (int d = 0; d < 3; ++d) xyz[d * tree_.leaf + j] = inside ? items_[a + j].v[d] : kInf;
    }
  }

  Buffer<Item> items_;
  KdTree& tree_;
};

}  // namespace

KdTree build_kdtree(const float* points, int64_t n, int leaf, int threads) {
  KdTree tree;
  tree.points = n;
  tree.leaf = leaf;
  tree.blocks = (n + leaf - 1) / leaf;
  tree.ids = Buffer<uint32_t>(tree.blocks * leaf);
  tree.xyz = Buffer<float>(3 * tree.blocks * leaf);
  tree.nodes.resize(2 * tree.blocks - 1);
  Builder builder(points, n, tree);
  std::vector<Span> spans{{0, tree.blocks, 0}};
  while (threads > 1 && n > 16384 && spans.size() < 4 * static_cast<std::size_t>(threads)) {
    std::vector<Span> halves;
    for (const Span& span : spans) {
      Span left, right;
      if (!builder.split(span, left, right)) continue;
      halves.push_back(left);
      halves.push_back(right);
    }
    spans = std::move(halves);
  }
  parallel_for(spans.size(), threads, [&](int64_t i, int) { builder.build(spans[i]); });
  return tree;
}

namespace {

// Boxes of the node over blocks [first, first + blocks) and of those below.
Box rebox(KdTree& tree, int64_t node, int64_t first, int64_t blocks) {
  Box box{{kInf, kInf, kInf}, {-kInf, -kInf, -kInf}};
  if (blocks == 1) {
    const float* xyz = tree.xyz.get() + 3 * first * tree.leaf;
    for (int d = 0; d < 3; ++d)
      for (int i = 0; i < tree.count(first); ++i) {
        box.lo[d] = std::min(box.lo[d], xyz[d * tree.leaf + i]);
        box.hi[d] = std::max(box.hi[d], xyz[d * tree.leaf + i]);
      }
  } else {
    const int64_t half = KdTree::left_blocks(blocks);
    const Box left = rebox(tree, node + 1, first, half), right = rebox(tree, node + 2 * half, first + half, blocks - half);
    for (int d = 0; d < 3; ++d) {
      box.lo[d] = std::min(left.lo[d], right.lo[d]);
      box.hi[d] = std::max(left.hi[d], right.hi[d]);
    }
  }
  tree.nodes[node].box = box;
  return box;
}

}  // namespace

KdTree moved_kdtree(const KdTree& tree, const float* points) {
  KdTree moved;
  moved.points = tree.points;
  moved.blocks = tree.blocks;
  moved.leaf = tree.leaf;
  const int64_t places = tree.blocks * tree.leaf;
  moved.ids = Buffer<uint32_t>(places);
  moved.xyz = Buffer<float>(3 * places);
  moved.nodes = tree.nodes;
  std::copy_n(tree.ids.get(), places, moved.ids.get());
  for (int64_t block = 0; block < tree.blocks; ++block)
    for (int j = 0; j < tree.leaf; ++j) {
      const int64_t place = block * tree.leaf + j;
      for (int d = 0; d < 3; ++d)
        moved.xyz[3 * block * tree.leaf + d * tree.leaf + j] = place < tree.points ? points[3 * static_cast<int64_t>(tree.ids[place]) + d] : kInf;
    }
  rebox(moved, 0, 0, moved.blocks);
  return moved;
}

float box_distance(const Box& a, const Box& b) {
  float gap[3];
  for (int d = 0; d < 3; ++d) gap[d] = std::max(0.0f, std::max(a.lo[d] - b.hi[d], b.lo[d] - a.hi[d]));
  return (gap[0] * gap[0] + gap[1] * gap[1]) + gap[2] * gap[2];
}

void nearest_blocks(const KdTree& tree, const Box& box, int wanted, std::vector<uint32_t>& out) {
  struct Near {
    float key;
    uint32_t block;
  };
  struct Visit {
    float key;
    int64_t node, first, blocks;
  };
  // Boxes that touch are told apart by their centres; any choice is right, a near one prunes better.
  auto key = [&](int64_t node) {
    const Box& other = tree.nodes[node].box;
    float centre = 0;
    for (int d = 0; d < 3; ++d) {
      const float c = 0.5f * (other.lo[d] - box.lo[d]) + 0.5f * (other.hi[d] - box.hi[d]);
      centre += c * c;
    }
    return box_distance(other, box) + 1e-3f * centre;
  };
  wanted = static_cast<int>(std::min<int64_t>(wanted, tree.blocks));
  std::vector<Near> best;
  best.reserve(wanted + 1);
  std::vector<Visit> stack{{0, 0, 0, tree.blocks}};
  while (!stack.empty()) {
    const Visit v = stack.back();
    stack.pop_back();
    // An inner node's centre says nothing about its leaves: only its gap can rule it out.
    if (static_cast<int>(best.size()) == wanted && box_distance(tree.nodes[v.node].box, box) > best.back().key) continue;
    if (v.blocks == 1) {
      const Near near{key(v.node), static_cast<uint32_t>(v.first)};
      if (static_cast<int>(best.size()) == wanted && !(near.key < best.back().key)) continue;
      auto at = std::upper_bound(best.begin(), best.end(), near, [](const Near& x, const Near& y) { return x.key < y.key; });
      best.insert(at, near);
      if (static_cast<int>(best.size()) > wanted) best.pop_back();
      continue;
    }
    const int64_t half = KdTree::left_blocks(v.blocks), l = v.node + 1, r = v.node + 2 * half;
    const Visit left{key(l), l, v.first, half}, right{key(r), r, v.first + half, v.blocks - half};
    const bool left_first = left.key <= right.key;
    stack.push_back(left_first ? right : left);
    stack.push_back(left_first ? left : right);
  }
  out.clear();
  for (const Near& near : best) out.push_back(near.block);
}

void blocks_within(const KdTree& tree, const Box& box, float reach, std::vector<uint32_t>& blocks,
                   std::vector<uint32_t>& nodes) {
  struct Visit {
    int64_t node, first, blocks;
  };
  blocks.clear();
  nodes.clear();
  std::vector<Visit> stack{{0, 0, tree.blocks}};
  while (!stack.empty()) {
    const Visit v = stack.back();
    stack.pop_back();
    if (!(box_distance(tree.nodes[v.node].box, box) <= reach)) continue;
    if (v.blocks == 1) {
      blocks.push_back(static_cast<uint32_t>(v.first));
      nodes.push_back(static_cast<uint32_t>(v.node));
      continue;
    }
    const int64_t half = KdTree::left_blocks(v.blocks);
    stack.push_back({v.node + 2 * half, v.first + half, v.blocks - half});
    stack.push_back({v.node + 1, v.first, half});
  }
}

}  // namespace r3dad
