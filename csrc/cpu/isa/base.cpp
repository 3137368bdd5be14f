#include "../kernels.h"
#include "simd.h"

namespace r3dad {
#include "knn.inc"

const Kernels* kernels_base() {
  static constexpr Kernels kernels = {"base", knn_block, knn_brute};
  return &kernels;
}

}  // namespace r3dad
