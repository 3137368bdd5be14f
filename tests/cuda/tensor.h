// The functions of csrc/cuda/tensor.cuh on the host, as the PTX manual describes the instructions.
#pragma once
#include "warp.h"

namespace r3dad::cuda {

inline unsigned char* dynamic_memory() { return emulated::memory[emulated::rank()]; }
inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - dynamic_memory());
}

inline void copy_async(void* to, const void* from) { emulated::me().copies.back().push_back({to, from}); }
inline void commit_copies() { emulated::me().copies.emplace_back(); }
template <int N>
inline void wait_copies() {
  auto& groups = emulated::me().copies;
  for (; groups.size() > N + 1; groups.pop_front())
    for (const auto& copy : groups.front()) std::memcpy(copy.to, copy.from, 16);
}

inline uint32_t bfloat16(float value) {
  const uint32_t bits = __float_as_uint(value);
  return std::isnan(value) ? 0x7FFF : (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
}
inline uint32_t pack_bfloat16(float low, float high) { return bfloat16(low) | bfloat16(high) << 16; }
inline float half_of(uint32_t both, int which) { return __uint_as_float(which ? both & 0xFFFF0000u : both << 16); }

inline void load_matrices(uint32_t (&to)[4], const void* row) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  emulated::with_all(&row, [&](auto of) {
    for (int i = 0; i < 4; ++i) std::memcpy(&to[i], static_cast<const char*>(of(8 * i + lane / 4)) + lane % 4 * 4, 4);
  });
}

inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Operands {
    uint32_t a[4], b[2];
  } own{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const int lane = static_cast<int>(threadIdx.x % 32);
  emulated::with_all(&own, [&](auto of) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
      for (int k = 0; k < 16; ++k) {
        const int in_group = k % 8 / 2, late = k >= 8;
        const uint32_t left = of(row % 8 * 4 + in_group).a[(row >= 8) + 2 * late], right = of(column * 4 + in_group).b[late];
        c[i] += half_of(left, k % 2) * half_of(right, k % 2);
      }
    }
  });
}

}  // namespace r3dad::cuda
