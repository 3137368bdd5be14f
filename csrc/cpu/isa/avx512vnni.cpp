// AVX-512 with the dot product of bytes; everything else is the AVX-512 unit's.
#include "../kernels.h"
#include "simd.h"

namespace r3dad {
#include "math.inc"
#include "dense.inc"
#include "reverse_pack.inc"
#include "reverse_parts.inc"
#include "reverse.inc"
#include "probe.inc"

const Kernels* kernels_avx512vnni() {
  static Kernels kernels = *kernels_avx512();
  kernels.name = "avx512vnni";
  kernels.probe[kInt8] = probe_bytes;
  kernels.reverse[kInt8] = reverse_kernel<Byte>(4 * MR);
  return &kernels;
}

}  // namespace r3dad
