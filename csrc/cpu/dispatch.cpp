#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#if defined(R3DAD_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace r3dad {
namespace {

struct Isa {
  const Kernels* (*table)();
  bool present;
  bool unasked = true;  // may be taken without being named
};

#if defined(R3DAD_AMX)
// Tile registers are Linux's to give: once for a process, its threads and its forks.
bool tiles_granted() {
  unsigned a, b, c, d;
  constexpr unsigned bfloat16 = 1u << 22, tiles = 1u << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (bfloat16 | tiles)) != (bfloat16 | tiles)) return false;
  constexpr long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA; the headers of older systems lack them
  return syscall(SYS_arch_prctl, request, tile_data) == 0;
}
#endif

std::vector<Isa> found() {
  std::vector<Isa> all{{kernels_base, true}};
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  all.push_back({kernels_avx2, avx2});
  all.push_back({kernels_avx512, avx512});
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  all.push_back({kernels_avx512vnni, vnni});
  // Intel's cores start a dot product of bfloat16 every other cycle where two FMAs of float32 start in each: half the FLOP, so that
  // products in float32 are faster, and better.
  const bool bf16 = vnni && __builtin_cpu_supports("avx512bf16");
  all.push_back({kernels_avx512bf16, bf16, !__builtin_cpu_is("intel")});
#if defined(R3DAD_AMX)
  all.push_back({kernels_amxbf16, bf16 && tiles_granted()});
#endif
#endif
  return all;
}

const std::vector<Isa>& isas() {
  static const std::vector<Isa> all = found();
  return all;
}

const Kernels* find(const std::string& name) {
  std::string known;
  for (const Isa& isa : isas()) {
    if (isa.present && name == isa.table()->name) return isa.table();
    if (isa.present) known += (known.empty() ? "" : ", ") + std::string(isa.table()->name);
  }
  throw std::invalid_argument("R3DAD_CPU_ISA: '" + name + "' is not one of the instruction sets of this machine (" + known + ")");
}

const Kernels* strongest() {
  const Kernels* best = nullptr;
  for (const Isa& isa : isas())
    if (isa.present && isa.unasked) best = isa.table();
  return best;
}

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : isas())
    if (isa.present) names.emplace_back(isa.table()->name);
  return names;
}

const Kernels& kernels() {
  const Kernels* table = chosen.load();
  if (!table) {
    const char* wanted = std::getenv("R3DAD_CPU_ISA");
    table = wanted && *wanted ? find(wanted) : strongest();
    chosen.store(table);
  }
  return *table;
}

void use_isa(const std::string& name) { chosen.store(find(name)); }

}  // namespace r3dad
