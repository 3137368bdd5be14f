// Tile products of bfloat16 (AMX). Everything else is the unit's with the dot product of bytes, but for bytes themselves: products of
// bfloat16 are finer, and here they are faster.
#include "../kernels.h"
#include "simd.h"

namespace r3dad {
#include "math.inc"
#include "dense.inc"
#include "tiles.inc"
#include "reverse_pack.inc"
#include "reverse_parts.inc"
#include "reverse_tiles.inc"
#include "probe.inc"

const Kernels* kernels_amxbf16() {
  static Kernels kernels = *kernels_avx512vnni();
  kernels.name = "amxbf16";
  kernels.probe[kBFloat16] = probe_tiles;
  kernels.reverse[kBFloat16] = kernels.reverse[kInt8] = reverse_tiles_kernel<HalfTiles>(128);
  return &kernels;
}

}  // namespace r3dad
