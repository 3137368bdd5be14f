// AVX-512 with the bfloat16 dot product; everything else is the unit's with that of bytes.
#include "../kernels.h"
#include "simd.h"

namespace r3dad {
#include "math.inc"
#include "dense.inc"
#include "reverse_pack.inc"
#include "reverse_parts.inc"
#include "reverse.inc"
#include "probe.inc"

const Kernels* kernels_avx512bf16() {
  static Kernels kernels = *kernels_avx512vnni();
  kernels.name = "avx512bf16";
  kernels.probe[kBFloat16] = probe_dot;
  kernels.reverse[kBFloat16] = reverse_kernel<Half>(4 * MR);
  return &kernels;
}

}  // namespace r3dad
