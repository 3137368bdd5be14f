#include "../kernels.h"
#include "simd.h"

namespace r3dad {
#include "knn.inc"
#include "math.inc"
#include "dense.inc"
#include "nearest.inc"
#include "mlp.inc"
#include "squash.inc"
#include "reverse_pack.inc"
#include "reverse_parts.inc"
#include "reverse.inc"
#include "gather.inc"
#include "probe.inc"

const Kernels* kernels_avx2() {
  static const Kernels kernels = {"avx2",
                                  VW,
                                  messages,
                                  messages_backward,
                                  neighbour_mean,
                                  knn_block,
                                  knn_brute,
                                  nearest_block,
                                  nearest_dense,
                                  MR,
                                  PN,
                                  pack_rows,
                                  pack_transposed,
                                  mlp_scratch_bytes,
                                  mlp_tile,
                                  squash_scratch_bytes,
                                  squash_forward,
                                  squash_backward_x,
                                  squash_product_bytes,
                                  squash_product_scratch_bytes,
                                  squash_product,
                                  {probe_fma},
                                  {reverse_kernel<Single>(8 * MR), reverse_kernel<Single>(8 * MR), reverse_kernel<Single>(8 * MR)}};
  return &kernels;
}

}  // namespace r3dad
