#include "../kernels.h"

namespace r3dad {

const Kernels* kernels_avx512bf16() {
  static Kernels kernels = *kernels_avx512();
  kernels.name = "avx512bf16";
  return &kernels;
}

}  // namespace r3dad
