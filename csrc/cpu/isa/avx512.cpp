#include "../kernels.h"
#include "simd.h"

namespace r3dad {
#include "knn.inc"

const Kernels* kernels_avx512() {
  static constexpr Kernels kernels = {"avx512", knn_block, knn_brute};
  return &kernels;
}

}  // namespace r3dad
