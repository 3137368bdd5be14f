// The few vector operations the kernels are written in, for one instruction set: V floats and U 32-bit words of VW lanes.
// Included by instruction-set units only, inside their own namespace: nothing here may have external linkage, and no header of the
// standard library that defines functions may be included (the linker could keep the AVX-512 copy of an inline function for everybody).
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define R3DAD_INLINE static inline __attribute__((always_inline))

namespace {

#if defined(__AVX512F__)
constexpr int VW = 16;
#elif defined(__AVX2__)
constexpr int VW = 8;
#else
constexpr int VW = 4;
#endif
typedef float V __attribute__((vector_size(VW * 4), may_alias));
typedef uint32_t U __attribute__((vector_size(VW * 4), may_alias));
typedef int32_t S __attribute__((vector_size(VW * 4), may_alias));
typedef float Vu __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef uint32_t Uu __attribute__((vector_size(VW * 4), aligned(4), may_alias));

R3DAD_INLINE V splat(float f) { return f - (V){}; }
R3DAD_INLINE U splat_u(uint32_t u) { return u + (U){}; }
R3DAD_INLINE V load(const float* p) { return *(const Vu*)p; }
R3DAD_INLINE void store(float* p, V v) { *(Vu*)p = v; }
R3DAD_INLINE U load_u(const uint32_t* p) { return *(const Uu*)p; }
R3DAD_INLINE void store_u(uint32_t* p, U v) { *(Uu*)p = v; }
R3DAD_INLINE U bits(V v) { return (U)v; }
R3DAD_INLINE V floats(U u) { return (V)u; }
R3DAD_INLINE U lanes() {
  U u;
  for (int i = 0; i < VW; ++i) u[i] = i;
  return u;
}

#if defined(__AVX512F__)
R3DAD_INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
R3DAD_INLINE V vmin(V a, V b) { return _mm512_min_ps(a, b); }
R3DAD_INLINE V vmax(V a, V b) { return _mm512_max_ps(a, b); }
R3DAD_INLINE V vsqrt(V a) { return _mm512_sqrt_ps(a); }
R3DAD_INLINE uint32_t mask_le(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
R3DAD_INLINE uint32_t mask_lt(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
R3DAD_INLINE uint32_t mask_eq(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
R3DAD_INLINE uint32_t mask_le(U a, U b) { return _mm512_cmple_epu32_mask((__m512i)a, (__m512i)b); }
// count + 1 where a < b
R3DAD_INLINE U count_less(U count, V a, V b) {
  return (U)_mm512_mask_sub_epi32((__m512i)count, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), (__m512i)count, _mm512_set1_epi32(-1));
}
R3DAD_INLINE float sum(V a) { return _mm512_reduce_add_ps(a); }
R3DAD_INLINE float minimum(V a) { return _mm512_reduce_min_ps(a); }
R3DAD_INLINE U high_product(U a, uint32_t m) {
  const __m512i x = (__m512i)a, f = _mm512_set1_epi32((int)m);
  const __m512i even = _mm512_srli_epi64(_mm512_mul_epu32(x, f), 32), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), f);
  return (U)_mm512_mask_mov_epi32(even, 0xAAAA, odd);
}
// Writes the selected lanes one after the other, and rubbish behind them: VW floats of room. (vcompressps to memory is slow on Zen.)
R3DAD_INLINE int compress(float* d, uint32_t* i, V v, U u, uint32_t mask) {
  store(d, _mm512_maskz_compress_ps((__mmask16)mask, v));
  store_u(i, (U)_mm512_maskz_compress_epi32((__mmask16)mask, (__m512i)u));
  return __builtin_popcount(mask);
}
#else
R3DAD_INLINE U count_less(U count, V a, V b) { return count - (U)(a < b); }
R3DAD_INLINE int compress(float* d, uint32_t* i, V v, U u, uint32_t mask) {
  int count = 0;
  for (; mask; mask &= mask - 1, ++count) {
    const int lane = __builtin_ctz(mask);
    d[count] = v[lane];
    i[count] = u[lane];
  }
  return count;
}
R3DAD_INLINE float sum(V a) {
  float r[VW];
  store(r, a);
  for (int half = VW / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) r[i] += r[i + half];
  return r[0];
}
R3DAD_INLINE float minimum(V a) {
  float r = a[0];
  for (int i = 1; i < VW; ++i) r = a[i] < r ? a[i] : r;
  return r;
}
#if defined(__AVX2__)
R3DAD_INLINE V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
R3DAD_INLINE V vmin(V a, V b) { return _mm256_min_ps(a, b); }
R3DAD_INLINE V vmax(V a, V b) { return _mm256_max_ps(a, b); }
R3DAD_INLINE V vsqrt(V a) { return _mm256_sqrt_ps(a); }
R3DAD_INLINE uint32_t mask_le(V a, V b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ)); }
R3DAD_INLINE uint32_t mask_lt(V a, V b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
R3DAD_INLINE uint32_t mask_eq(V a, V b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)); }
R3DAD_INLINE uint32_t mask_le(U a, U b) { return _mm256_movemask_ps((__m256)(a <= b)); }
R3DAD_INLINE U high_product(U a, uint32_t m) {
  const __m256i x = (__m256i)a, f = _mm256_set1_epi32((int)m);
  const __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(x, f), 32), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), f);
  return (U)_mm256_blend_epi32(even, odd, 0xAA);
}
#elif defined(__SSE2__)
R3DAD_INLINE V fma(V a, V b, V c) { return a * b + c; }
R3DAD_INLINE V vmin(V a, V b) { return _mm_min_ps(a, b); }
R3DAD_INLINE V vmax(V a, V b) { return _mm_max_ps(a, b); }
R3DAD_INLINE V vsqrt(V a) { return _mm_sqrt_ps(a); }
R3DAD_INLINE uint32_t mask_le(V a, V b) { return _mm_movemask_ps(_mm_cmple_ps(a, b)); }
R3DAD_INLINE uint32_t mask_lt(V a, V b) { return _mm_movemask_ps(_mm_cmplt_ps(a, b)); }
R3DAD_INLINE uint32_t mask_eq(V a, V b) { return _mm_movemask_ps(_mm_cmpeq_ps(a, b)); }
R3DAD_INLINE uint32_t mask_le(U a, U b) { return _mm_movemask_ps((__m128)(a <= b)); }
R3DAD_INLINE U high_product(U a, uint32_t m) {
  U r;
  for (int i = 0; i < VW; ++i) r[i] = (uint32_t)(((uint64_t)a[i] * m) >> 32);
  return r;
}
#else
R3DAD_INLINE V fma(V a, V b, V c) { return a * b + c; }
R3DAD_INLINE V vmin(V a, V b) { return a < b ? a : b; }
R3DAD_INLINE V vmax(V a, V b) { return a > b ? a : b; }
R3DAD_INLINE V vsqrt(V a) {
  for (int i = 0; i < VW; ++i) a[i] = sqrtf(a[i]);
  return a;
}
R3DAD_INLINE uint32_t lane_mask(S s) {
  uint32_t m = 0;
  for (int i = 0; i < VW; ++i) m |= (s[i] ? 1u : 0u) << i;
  return m;
}
R3DAD_INLINE uint32_t mask_le(V a, V b) { return lane_mask(a <= b); }
R3DAD_INLINE uint32_t mask_lt(V a, V b) { return lane_mask(a < b); }
R3DAD_INLINE uint32_t mask_eq(V a, V b) { return lane_mask(a == b); }
R3DAD_INLINE uint32_t mask_le(U a, U b) { return lane_mask(a <= b); }
R3DAD_INLINE U high_product(U a, uint32_t m) {
  U r;
  for (int i = 0; i < VW; ++i) r[i] = (uint32_t)(((uint64_t)a[i] * m) >> 32);
  return r;
}
#endif
#endif

}  // namespace
