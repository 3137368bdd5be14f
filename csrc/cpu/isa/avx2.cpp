#include "../kernels.h"
#include "simd.h"

namespace r3dad {
#include "knn.inc"

const Kernels* kernels_avx2() {
  static constexpr Kernels kernels = {"avx2", knn_block, knn_brute};
  return &kernels;
}

}  // namespace r3dad
