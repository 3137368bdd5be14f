// CUDA kernels run on the host, lane by lane, so that their logic is tested where there is no GPU. A lane is a coroutine; it gives way at
// each warp-wide operation until all lanes of its warp have come there, and at a block's barrier until all its warps have. A warp runs as
// far as it can before the next one begins, the first or the last first (`reversed`): a barrier that is missing shows as two different
// results. Copies that run beside the program land as late as they may. The blocks of a cluster run together, one after the other
// otherwise.
#pragma once
#include <ucontext.h>

#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)

struct Dim {
  unsigned x;
};
inline Dim threadIdx, blockIdx, blockDim;

namespace emulated {

struct Copy {
  void* to;
  const void* from;
};
struct Lane {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  int arrivals = 0, barriers = 0;
  std::deque<std::vector<Copy>> copies;  // groups on their way; the last is open
};
constexpr int kMostBlocks = 8;     // of a cluster
inline std::vector<Lane>* lanes;   // of all blocks of a cluster
inline unsigned current;           // the one that runs
inline ucontext_t scheduler;
inline unsigned long long slots[2][kMostBlocks * 1024];
inline std::function<void()> body;
inline int released;               // barriers of the block (of the cluster) that all have passed
inline unsigned long long events;  // arrivals of any kind
inline bool reversed;              // the last warp first
constexpr int kMemory = 1 << 18;
alignas(128) inline unsigned char memory[kMostBlocks][kMemory];

inline Lane& me() { return (*lanes)[current]; }
inline int rank() { return static_cast<int>(current / blockDim.x); }  // of this block in its cluster
inline void give_way() { swapcontext(&me().context, &scheduler); }
[[noreturn]] inline void fail(const char* why) {
  std::fprintf(stderr, "%s\n", why);
  std::abort();
}

inline void enter() {
  body();
  ++events;
  me().arrivals = INT_MAX;
}

// Leaves a value, waits for the warp, and gives where the warp's values lie.
inline const unsigned long long* meet(unsigned long long value) {
  const unsigned first = current / 32 * 32;
  const int arrival = ++me().arrivals;
  ++events;
  slots[arrival & 1][current] = value;
  for (unsigned other = first; other < first + 32; ++other) {
    while ((*lanes)[other].arrivals < arrival) give_way();
  }
  return &slots[arrival & 1][first];
}

// The value that each lane of the warp holds at `value`, for `use`.
template <class T, class Use>
inline void with_all(const T* value, Use use) {
  const auto* addresses = meet(reinterpret_cast<unsigned long long>(value));
  use([&](int lane) -> const T& { return *reinterpret_cast<const T*>(addresses[lane]); });
  meet(0);
}

// Apart, since it returns twice to where its registers were saved.
__attribute__((noinline)) inline void prepare(Lane& lane) {
  lane.stack.reset(new char[1 << 16]);
  lane.copies.emplace_back();
  getcontext(&lane.context);
  lane.context.uc_stack.ss_sp = lane.stack.get();
  lane.context.uc_stack.ss_size = 1 << 16;
  lane.context.uc_link = &scheduler;
  makecontext(&lane.context, enter, 0);
}

// `begin` is called before each cluster; `unstick` lets something happen that the program waits for without doing it, and says whether
// there was such a thing.
inline void launch(
    unsigned blocks, unsigned threads, std::function<void()> kernel, unsigned cluster = 1, const std::function<void()>& begin = [] {},
    const std::function<bool()>& unstick = [] { return false; }) {
  body = std::move(kernel);
  blockDim.x = threads;
  for (unsigned first = 0; first < blocks; first += cluster) {
    std::vector<Lane> all(cluster * threads);
    std::memset(memory, 0xFF, cluster * sizeof memory[0]);  // NaN
    lanes = &all;
    begin();
    released = 0;
    for (Lane& lane : all) prepare(lane);
    const unsigned warps = cluster * threads / 32;
    for (bool left = true; left;) {
      left = false;
      const auto start = events;
      for (unsigned turn = 0; turn < warps; ++turn) {
        const unsigned warp = reversed ? warps - 1 - turn : turn;
        for (auto before = events + 1; before != events;) {
          before = events;
          for (unsigned i = 32 * warp; i < 32 * warp + 32; ++i) {
            left |= all[i].arrivals != INT_MAX;
            if (all[i].arrivals == INT_MAX || all[i].barriers > released) continue;
            current = i;
            threadIdx.x = i % threads;
            blockIdx.x = first + i / threads;
            swapcontext(&scheduler, &all[i].context);
          }
        }
      }
      if (!left || events != start) continue;
      bool together = true;
      for (const Lane& lane : all) together &= lane.arrivals == INT_MAX || lane.barriers > released;
      if (together) ++released;
      else if (!unstick()) fail("threads wait for one another");
    }
  }
}

}  // namespace emulated

inline void __syncwarp() { emulated::meet(0); }
inline void __syncthreads() {
  ++emulated::events;
  const int barrier = ++emulated::me().barriers;
  while (barrier > emulated::released) emulated::give_way();
}
inline unsigned __ballot_sync(unsigned, bool vote) {
  const auto* votes = emulated::meet(vote);
  unsigned mask = 0;
  for (int i = 0; i < 32; ++i) mask |= static_cast<unsigned>(votes[i]) << i;
  return mask;
}
template <class T>
inline T exchanged(T value, int from) {
  unsigned long long bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = emulated::meet(bits)[from];
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
template <class T>
inline T __shfl_sync(unsigned, T value, int from) {
  return exchanged(value, from);
}
template <class T>
inline T __shfl_xor_sync(unsigned, T value, int mask) {
  return exchanged(value, static_cast<int>(threadIdx.x % 32) ^ mask);
}
template <class T>
inline T __shfl_up_sync(unsigned, T value, int by) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  return exchanged(value, lane < by ? lane : lane - by);
}
inline int __ffs(int mask) { return __builtin_ffs(mask); }
inline int __popc(unsigned mask) { return __builtin_popcount(mask); }
template <class T>
inline T atomicAdd(T* to, T value) {
  const T before = *to;
  *to += value;
  return before;
}
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
