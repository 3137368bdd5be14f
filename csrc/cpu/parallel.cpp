#include "parallel.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace r3dad {

void parallel_for(int64_t items, int threads, const std::function<void(int64_t, int)>& work) {
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::mutex guard;
  auto run = [&](int worker) {
    try {
      for (int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < items;) work(item, worker);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(guard);
      failure = std::current_exception();
      next.store(items, std::memory_order_relaxed);
    }
  };
  std::vector<std::thread> others;
  const int count = workers(items, threads);
  others.reserve(count - 1);
  try {
    for (int worker = 1; worker < count; ++worker) others.emplace_back(run, worker);
  } catch (const std::system_error&) {
    // The system gives no more threads: those that started and this one do the work.
  }
  run(0);
  for (auto& thread : others) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace r3dad
