// Philox4x32-10 (Salmon et al., SC 2011) and the normal numbers made of it; the same bits as r3dad/philox.py on host and device.
#pragma once
#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define R3DAD_HD __host__ __device__ inline
#else
#define R3DAD_HD static inline
#endif

namespace r3dad::philox {

constexpr uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;

struct Words {
  uint32_t w[4];
};

R3DAD_HD Words words(uint32_t point, uint32_t step, uint32_t stream, uint64_t seed) {
  uint32_t c0 = point, c1 = step, c2 = stream, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(c0) * kMultiplier0, p1 = static_cast<uint64_t>(c2) * kMultiplier1;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return {{c0, c1, c2, c3}};
}

// Uniform in (0, 1].
R3DAD_HD float uniform(uint32_t word) { return static_cast<float>(word) * 0x1p-32f + 0x1p-33f; }

// Three standard normal numbers of one point (Box-Muller).
R3DAD_HD void normal(uint32_t point, uint32_t step, uint32_t stream, uint64_t seed, float* out) {
  const Words v = words(point, step, stream, seed);
  const float r0 = sqrtf(-2.0f * logf(uniform(v.w[0]))), r1 = sqrtf(-2.0f * logf(uniform(v.w[2])));
  const float a0 = 6.283185307179586f * uniform(v.w[1]), a1 = 6.283185307179586f * uniform(v.w[3]);
  out[0] = r0 * cosf(a0);
  out[1] = r0 * sinf(a0);
  out[2] = r1 * cosf(a1);
}

}  // namespace r3dad::philox
