// The blocks of a tree near one query block, as the instruction-set units take them.
#pragma once
#include <vector>

#include "kdtree.h"
#include "kernels.h"

namespace r3dad {

// Listed again with a wider reach when a query needs it.
class Neighbourhood {
 public:
  explicit Neighbourhood(const KdTree& tree) : tree_(tree) {}

  void start(const Box& box, int wanted);
  const std::vector<uint32_t>& first() const { return first_; }

  // `others` leaves out the blocks of first(), `all` does not.
  static const KnnReach* others(void* self, float reach) { return static_cast<Neighbourhood*>(self)->list(reach, true); }
  static const KnnReach* all(void* self, float reach) { return static_cast<Neighbourhood*>(self)->list(reach, false); }

 private:
  const KnnReach* list(float reach, bool without_first);

  const KdTree& tree_;
  Box box_{};
  std::vector<uint32_t> first_, block_, node_, first_id_;
  std::vector<float> boxes_;
  KnnReach result_{};
};

// xyz [3, stride].
Box box_of(const float* xyz, int stride, int count);

}  // namespace r3dad
