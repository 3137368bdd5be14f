#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace r3dad {
namespace {

struct Isa {
  const Kernels* (*table)();
  bool present;
};

std::vector<Isa> isas() {
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
  all.push_back({kernels_avx512bf16, vnni && __builtin_cpu_supports("avx512bf16")});
#endif
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
    if (isa.present) best = isa.table();
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
