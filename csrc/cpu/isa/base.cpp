#include "../kernels.h"
#include "simd.h"

namespace r3dad {
#include "knn.inc"
#include "math.inc"
#include "dense.inc"
#include "nearest.inc"
#include "reverse.inc"

const Kernels* kernels_base() {
  static const Kernels kernels = {"base", knn_block, knn_brute, nearest_block, nearest_dense, MR, PN, pack_rows,
                                  reverse_kernel<Single>(8 * MR), reverse_kernel<Single>(8 * MR)};
  return &kernels;
}

}  // namespace r3dad
