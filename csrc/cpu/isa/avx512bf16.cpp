// AVX-512 with the bfloat16 dot product; everything else is the AVX-512 unit's.
#include "../kernels.h"
#include "simd.h"

namespace r3dad {
#include "math.inc"
#include "dense.inc"
#include "reverse.inc"
#include "probe.inc"

const Kernels* kernels_avx512bf16() {
  static Kernels kernels = *kernels_avx512();
  kernels.name = "avx512bf16";
  kernels.probe_half = probe_dot;
  kernels.reverse_half = reverse_kernel<Half>(4 * MR);
  return &kernels;
}

}  // namespace r3dad
