// CUDA kernels run on the host, lane by lane, so that their logic is tested where there is no GPU. A lane is a coroutine; it gives way at each
// warp-wide operation until all lanes of its warp have come there. For tests only: no other order of lanes, no memory hazards are seen.
#pragma once
#include <ucontext.h>

#include <climits>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

struct Dim {
  unsigned x;
};
inline Dim threadIdx, blockIdx;

namespace emulated {

struct Lane {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  int arrivals = 0;
};
inline std::vector<Lane>* lanes;
inline ucontext_t scheduler;
inline unsigned long long slots[2][1024];
inline std::function<void()> body;

inline void enter() {
  body();
  (*lanes)[threadIdx.x].arrivals = INT_MAX;
}

// Leaves a value, waits for the warp, and gives where the warp's values lie.
inline const unsigned long long* meet(unsigned long long value) {
  const unsigned me = threadIdx.x, first = me / 32 * 32;
  const int arrival = ++(*lanes)[me].arrivals;
  slots[arrival & 1][me] = value;
  for (unsigned other = first; other < first + 32; ++other) {
    while ((*lanes)[other].arrivals < arrival) {
      swapcontext(&(*lanes)[me].context, &scheduler);
      threadIdx.x = me;
    }
  }
  return &slots[arrival & 1][first];
}

inline void launch(unsigned blocks, unsigned threads, std::function<void()> kernel) {
  body = std::move(kernel);
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
    std::vector<Lane> all(threads);
    lanes = &all;
    for (Lane& lane : all) {
      lane.stack.reset(new char[1 << 16]);
      getcontext(&lane.context);
      lane.context.uc_stack.ss_sp = lane.stack.get();
      lane.context.uc_stack.ss_size = 1 << 16;
      lane.context.uc_link = &scheduler;
      makecontext(&lane.context, enter, 0);
    }
    for (bool busy = true; busy;) {
      busy = false;
      for (unsigned i = 0; i < threads; ++i) {
        if (all[i].arrivals == INT_MAX) continue;
        busy = true;
        threadIdx.x = i;
        swapcontext(&scheduler, &all[i].context);
      }
    }
  }
}

}  // namespace emulated

inline void __syncwarp() { emulated::meet(0); }
inline unsigned __ballot_sync(unsigned, bool vote) {
  const auto* votes = emulated::meet(vote);
  unsigned mask = 0;
  for (int i = 0; i < 32; ++i) mask |= static_cast<unsigned>(votes[i]) << i;
  return mask;
}
inline int __shfl_sync(unsigned, int value, int from) { return static_cast<int>(emulated::meet(static_cast<unsigned>(value))[from]); }
inline int __shfl_up_sync(unsigned, int value, int by) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  return static_cast<int>(emulated::meet(static_cast<unsigned>(value))[lane < by ? lane : lane - by]);
}
inline int __ffs(int mask) { return __builtin_ffs(mask); }
inline int __popc(unsigned mask) { return __builtin_popcount(mask); }
inline void atomicAdd(uint32_t* to, uint32_t value) { *to += value; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}
inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
