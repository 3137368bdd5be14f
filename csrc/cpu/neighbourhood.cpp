#include "neighbourhood.h"

#include <algorithm>
#include <limits>

namespace r3dad {

void Neighbourhood::start(const Box& box, int wanted) {
  box_ = box;
  nearest_blocks(tree_, box, wanted, first_);
}

const KnnReach* Neighbourhood::list(float reach, bool without_first) {
  blocks_within(tree_, box_, reach, block_, node_);
  std::size_t count = 0;
  for (std::size_t i = 0; i < block_.size(); ++i)
    if (!without_first || std::find(first_.begin(), first_.end(), block_[i]) == first_.end()) {
      block_[count] = block_[i];
      node_[count++] = node_[i];
    }
  const std::size_t padded = (count + 15) / 16 * 16;
  boxes_.assign(6 * padded, 0.0f);
  first_id_.assign(padded, 0);
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = tree_.nodes[node_[i]];
    for (int d = 0; d < 3; ++d) {
      boxes_[d * padded + i] = node.box.lo[d];
      boxes_[(3 + d) * padded + i] = node.box.hi[d];
    }
    first_id_[i] = node.first_id;
  }
  result_ = {reach, static_cast<int>(count), static_cast<int>(padded), block_.data(), boxes_.data(), first_id_.data()};
  return &result_;
}


Box box_of(const float* xyz, int stride, int count) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  Box box{{inf, inf, inf}, {-inf, -inf, -inf}};
  for (int d = 0; d < 3; ++d)
    for (int i = 0; i < count; ++i) {
      box.lo[d] = std::min(box.lo[d], xyz[d * stride + i]);
      box.hi[d] = std::max(box.hi[d], xyz[d * stride + i]);
    }
  return box;
}

}  // namespace r3dad
