// The choice of an instruction set at run time.
#pragma once
#include <string>
#include <vector>

#include "kernels.h"

namespace r3dad {

// Instruction sets that were built and that this machine has, weakest first.
std::vector<std::string> available_isas();

// The table in use: the strongest available, or what R3DAD_CPU_ISA or use_isa() named.
const Kernels& kernels();

// Throws std::invalid_argument when `name` is unknown or not available here.
void use_isa(const std::string& name);

}  // namespace r3dad
