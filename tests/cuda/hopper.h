// The functions of csrc/cuda/hopper.cuh on the host, as the PTX manual describes the instructions: what a matrix descriptor says, which
// thread holds which sum, when a barrier's phase ends. Nothing here is taken from the kernel's own arithmetic.
//
// What runs beside the program may do so at once or as late as the program allows; `early` says which, for copies, and the other for
// products. So a slot that is overwritten too soon shows in one order and one that is read too soon in the other. What ordinary stores
// write, products see at once with `early`, else only after their thread's fence; all warps of a group must see the same matrices whole,
// though each needs but its own rows.
#pragma once
#include <map>
#include <utility>

#include "tensor.h"

namespace emulated {

struct Barrier {
  int expected, pending, bytes = 0, phase = 0;
};
struct BulkCopy {
  int block, bytes;
  uint32_t to, barrier;
  const void* from;
};
struct Product {
  uint64_t a, b;
  float* d;
  int columns;
  bool add;
};
struct Meeting {
  int count = 0, generation = 0;
};
struct Beside {  // of a lane
  std::vector<std::pair<uint32_t, int>> stores;  // not fenced yet: place and bytes
  std::deque<std::vector<Product>> products;     // groups on their way; the last is open
  size_t computed = 0;
};
inline bool early = true;
alignas(128) inline unsigned char seen[kMostBlocks][kMemory];  // shared memory as products see it
inline std::map<std::pair<int, uint32_t>, Barrier> barriers;    // by block and place
inline std::map<std::pair<int, int>, Meeting> meetings;          // of groups, by block and number
inline std::map<std::pair<int, int>, std::vector<uint64_t>> sums;  // of all that a group's products saw, by block and number
inline std::deque<BulkCopy> bulk_copies;
inline std::vector<Beside> beside;

inline Barrier& barrier(int block, uint32_t place) {
  const auto found = barriers.find({block, place});
  if (found == barriers.end()) fail("a barrier is used that was not initialised");
  return found->second;
}
inline void check_alive(int block) {
  const int threads = static_cast<int>(blockDim.x);
  for (int i = block * threads; i < (block + 1) * threads; ++i)
    if ((*lanes)[static_cast<size_t>(i)].arrivals != INT_MAX) return;
  fail("a block is written to that has ended");
}
inline void end_phase(Barrier& b) {
  if (b.pending != 0 || b.bytes != 0) return;
  ++b.phase;
  b.pending = b.expected;
  ++events;
}
inline void arrive(int block, uint32_t place) {
  check_alive(block);
  Barrier& b = barrier(block, place);
  if (b.pending == 0) fail("more arrive at a barrier than it expects");
  --b.pending;
  ++events;
  end_phase(b);
}
inline void land(const BulkCopy& copy) {
  check_alive(copy.block);
  std::memcpy(memory[copy.block] + copy.to, copy.from, static_cast<size_t>(copy.bytes));
  std::memcpy(seen[copy.block] + copy.to, copy.from, static_cast<size_t>(copy.bytes));
  Barrier& b = barrier(copy.block, copy.barrier);
  b.bytes -= copy.bytes;
  end_phase(b);
}
inline void send(const BulkCopy& copy) {
  if (copy.bytes % 16 || copy.to % 16 || reinterpret_cast<uintptr_t>(copy.from) % 16) fail("a bulk copy is not of whole 16 bytes");
  if (early) land(copy);
  else bulk_copies.push_back(copy);
}
// The latest copy lands first, or the first with `reversed`.
inline bool land_one() {
  if (bulk_copies.empty()) return false;
  const BulkCopy copy = reversed ? bulk_copies.front() : bulk_copies.back();
  if (reversed) bulk_copies.pop_front();
  else bulk_copies.pop_back();
  land(copy);
  return true;
}

// Eight numbers of a row, from input 0 or 8 on.
inline const unsigned char* eight(uint64_t descriptor, int row, int half) {
  const auto field = [&](int bit) { return static_cast<uint32_t>(descriptor >> bit & 0x3FFF) << 4; };
  return seen[rank()] + field(0) + static_cast<uint32_t>(row / 8) * field(32) + static_cast<uint32_t>(half) * field(16) +
         static_cast<uint32_t>(row % 8 * 16);
}
inline float number(uint64_t descriptor, int row, int k) {
  uint16_t bits;
  std::memcpy(&bits, eight(descriptor, row, k / 8) + k % 8 * 2, 2);
  return __uint_as_float(static_cast<uint32_t>(bits) << 16);
}
inline uint64_t sum_of(uint64_t descriptor, int rows) {
  uint64_t sum = 0;
  for (int i = 0; i < 2 * rows; ++i) {
    uint64_t words[2];
    std::memcpy(words, eight(descriptor, i / 2, i % 2), 16);
    sum = (sum * 31 + words[0]) * 31 + words[1];
  }
  return sum;
}
inline Beside& mine() { return beside[current]; }
inline void compute(const Product& p) {
  if (p.a >> 46 || p.b >> 46) fail("a matrix descriptor asks for swizzling or a base offset");
  const int thread = static_cast<int>(threadIdx.x) % 128, warp = thread / 32, lane = thread % 32;
  if (lane == 0) {
    auto& all = sums[{rank(), static_cast<int>(threadIdx.x) / 128}];
    const uint64_t own = sum_of(p.a, 64) * 31 + sum_of(p.b, p.columns);
    if (mine().computed == all.size()) all.push_back(own);
    if (all[mine().computed++] != own) fail("warps of a group see different matrices");
  }
  float left[2][16];
  for (int half = 0; half < 2; ++half)
    for (int k = 0; k < 16; ++k) left[half][k] = number(p.a, 16 * warp + lane / 4 + 8 * half, k);
  for (int n = 0; n < p.columns / 8; ++n)
    for (int i = 0; i < 4; ++i) {
      float& d = p.d[4 * n + i];
      if (!p.add) d = 0;
      for (int k = 0; k < 16; ++k) d += left[i / 2][k] * number(p.b, 8 * n + lane % 4 * 2 + i % 2, k);
    }
}

inline void check() {
  for (const auto& b : barriers)
    if (b.second.pending != b.second.expected || b.second.bytes) fail("a block ends in the middle of a barrier's phase");
  if (!bulk_copies.empty()) fail("a block ends before its copies");
  barriers.clear();
}
inline void begin() {
  check();
  std::memset(seen, 0xFF, sizeof seen);
  meetings.clear();
  sums.clear();
  beside.assign(lanes->size(), {});
  for (Beside& lane : beside) lane.products.emplace_back();
}
inline void launch_clusters(unsigned blocks, unsigned threads, unsigned cluster, std::function<void()> kernel) {
  launch(blocks, threads, std::move(kernel), cluster, begin, land_one);
  check();
}

}  // namespace emulated

namespace r3dad::cuda {

inline int cluster_rank() { return emulated::rank(); }
inline void cluster_sync() { __syncthreads(); }
inline void group_sync(int group) {
  emulated::Meeting& meeting = emulated::meetings[{emulated::rank(), group}];
  const int generation = meeting.generation;
  ++emulated::events;
  if (++meeting.count == 128) meeting = {0, generation + 1};
  while (meeting.generation == generation) emulated::give_way();
}
template <int COUNT>
inline void more_registers() {}
template <int COUNT>
inline void fewer_registers() {}

inline void barrier_init(uint64_t* barrier, int count) {
  emulated::barriers[{emulated::rank(), shared_address(barrier)}] = {count, count};
}
inline void barrier_inits_done() {}
inline void barrier_expect(uint64_t* barrier, int bytes) {
  emulated::barrier(emulated::rank(), shared_address(barrier)).bytes += bytes;
  emulated::arrive(emulated::rank(), shared_address(barrier));
}
inline void barrier_arrive(uint64_t* barrier, int rank) { emulated::arrive(rank, shared_address(barrier)); }
inline void barrier_wait(uint64_t* barrier, uint32_t parity) {
  const emulated::Barrier& b = emulated::barrier(emulated::rank(), shared_address(barrier));
  while ((static_cast<uint32_t>(b.phase) & 1) == parity) emulated::give_way();
  ++emulated::events;
}

inline void bulk_copy_to(void* to, const void* from, int bytes, uint64_t* barrier, int blocks) {
  for (int block = 0; block < emulated::kMostBlocks; ++block)
    if (blocks >> block & 1) emulated::send({block, bytes, shared_address(to), shared_address(barrier), from});
}
inline void bulk_copy(void* to, const void* from, int bytes, uint64_t* barrier) {
  bulk_copy_to(to, from, bytes, barrier, 1 << emulated::rank());
}

template <class T>
inline void store(void* to, T value) {
  std::memcpy(to, &value, sizeof value);
  if (emulated::early) std::memcpy(emulated::seen[emulated::rank()] + shared_address(to), &value, sizeof value);
  emulated::mine().stores.push_back({shared_address(to), sizeof value});
}
inline void fence_stores() {
  for (const auto& [place, bytes] : emulated::mine().stores)
    std::memcpy(emulated::seen[emulated::rank()] + place, dynamic_memory() + place, static_cast<size_t>(bytes));
  emulated::mine().stores.clear();
}

inline void products_begin() {}
template <int COUNT>
inline void multiply(float (&d)[COUNT], uint64_t a, uint64_t b, bool add) {
  const emulated::Product product{a, b, d, 2 * COUNT, add};
  if (emulated::early) emulated::mine().products.back().push_back(product);
  else emulated::compute(product);
}
inline void products_commit() { emulated::mine().products.emplace_back(); }
template <int LEFT>
inline void products_wait() {
  auto& groups = emulated::mine().products;
  for (; groups.size() > LEFT + 1; groups.pop_front())
    for (const auto& product : groups.front()) emulated::compute(product);
}
template <int COUNT>
inline void products_end(float (&)[COUNT]) {}

}  // namespace r3dad::cuda
