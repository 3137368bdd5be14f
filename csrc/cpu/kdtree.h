// A balanced k-d order of a cloud in blocks of `leaf` points with bounding boxes.
#pragma once
#include <cstdint>
#include <vector>

#include "memory.h"

namespace r3dad {

struct Box {
  float lo[3], hi[3];
};

struct Node {
  Box box;
  uint32_t first_id;  // smallest point index below this node
};

// Every leaf but the last is full; the last is padded with points at infinity and index UINT32_MAX.
// Nodes stand in preorder: the left child of a node over blocks [a, b) follows it, the right one stands 2 * left blocks behind.
struct KdTree {
  int64_t points = 0, blocks = 0;
  int leaf = 0;
  Buffer<uint32_t> ids;   // [blocks, leaf]
  Buffer<float> xyz;      // [blocks, 3, leaf]
  std::vector<Node> nodes;

  static constexpr int64_t left_blocks(int64_t blocks) { return blocks / 2; }
  int count(int64_t block) const { return static_cast<int>(block + 1 < blocks ? leaf : points - block * leaf); }
};

// points [n, 3], finite, 1 <= n < 2^32 - 1.
KdTree build_kdtree(const float* points, int64_t n, int leaf, int threads);

// The same points in other places, points [n, 3]: the blocks stay, so the tree is as good as they still hold together.
KdTree moved_kdtree(const KdTree& tree, const float* points);

// Squared gap between two boxes, rounded operation by operation like the distance of two points: as rounding is monotone it never
// exceeds the computed distance of any two points inside, so pruning by it needs no margin.
float box_distance(const Box& a, const Box& b);

// The `wanted` blocks nearest to `box`, nearest first.
void nearest_blocks(const KdTree& tree, const Box& box, int wanted, std::vector<uint32_t>& out);

// Calls for every block whose gap to `box` is at most `reach`, in ascending order; fills indices only.
void blocks_within(const KdTree& tree, const Box& box, float reach, std::vector<uint32_t>& blocks, std::vector<uint32_t>& nodes);

}  // namespace r3dad
