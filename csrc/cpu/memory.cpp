#include "memory.h"

#include <cstdint>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace r3dad {

void expect_writes(void* memory, std::size_t bytes) {
#if defined(__linux__)
  constexpr std::uintptr_t huge = std::uintptr_t{2} << 20;
  const auto begin = (reinterpret_cast<std::uintptr_t>(memory) + huge - 1) / huge * huge;
  const auto end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) / huge * huge;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a hint: it may fail
#else
  static_cast<void>(memory);
  static_cast<void>(bytes);
#endif
}

}  // namespace r3dad
