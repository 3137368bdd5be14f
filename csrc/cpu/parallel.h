// A queue of work items over threads that live for one call: nothing spins, nothing survives a fork.
#pragma once
#include <cstdint>
#include <functional>

namespace r3dad {

// Calls work(item, worker) for every item in [0, items); worker is in [0, workers(items, threads)). Exceptions are passed on.
void parallel_for(int64_t items, int threads, const std::function<void(int64_t, int)>& work);

inline int workers(int64_t items, int threads) {
  return static_cast<int>(items < 1 ? 1 : items < threads ? items : threads < 1 ? 1 : threads);
}

}  // namespace r3dad
