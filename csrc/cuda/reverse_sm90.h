// Where things lie in the shared memory of the kernel for compute capability 9.0, for device and host.
//
// Matrices for wgmma are laid out without swizzle: pieces of 8 rows by 16 bytes, 128 bytes in a row, so that neither a warp's stores of
// sums nor the tensor cores' loads meet in a bank. Activations of a group are [columns / 8][64 rows][8], a piece of weights is [inputs /
// 8][columns][8].
#pragma once
#include "cuda/reverse.h"

namespace r3dad::cuda {

constexpr int kGroupRows = 64;             // points of a group of four warps: the rows of a wgmma
constexpr int kSlots = 4, kPiece = 16384;  // pieces of weights in a block, bytes of one
constexpr int kColumnBytes = 2 * kGroupRows;
constexpr int kMostCluster = 8;

// Columns that a group sums at a time, and the inputs that a piece of weights holds for them.
__host__ __device__ inline int sum_columns(int outputs) { return outputs % 256 ? 128 : 256; }
__host__ __device__ constexpr int piece_inputs(int columns) { return kPiece / 2 / columns; }

// A matrix of 16-bit numbers at a shared address, K innermost, as wgmma is told: bits 0-13 address, 16-29 from 8 inputs to the next 8
// (leading dimension), 32-45 from 8 rows to the next 8 (stride dimension), all without their last 4 bits; no swizzle (PTX ISA, matrix
// descriptor).
__host__ __device__ inline uint64_t matrix_at(uint32_t address, int next_inputs, int next_rows) {
  const auto field = [](uint32_t bytes) { return static_cast<uint64_t>((bytes & 0x3FFFF) >> 4); };
  return field(address) | field(static_cast<uint32_t>(next_inputs)) << 16 | field(static_cast<uint32_t>(next_rows)) << 32;
}

// Sum i of a thread of a group (PTX ISA, register fragments of wgmma's D).
__host__ __device__ inline int sum_row(int thread, int i) { return thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8; }
__host__ __device__ inline int sum_column(int thread, int i) { return i / 4 * 8 + thread % 4 * 2 + i % 2; }

// The pieces of weights come first; then, in bytes from the start, the rest. A group's activations are a ring of `capacity` columns.
struct ClusterMemory {
  int capacity, activations, gates, points, barriers, total;
};
__host__ __device__ inline ClusterMemory cluster_memory(const Reverse& r, int groups) {
  ClusterMemory m{};
  const auto hold = [&](int columns) { m.capacity = m.capacity > columns ? m.capacity : columns; };
  for (int l = 0; l < r.between; ++l) {
    const int inputs = r.widths[l], outputs = r.widths[l + 1];
    hold(inputs);
    if (l + 1 == r.between) break;  // its outputs are summed on the spot
    hold(outputs);
    hold(inputs + outputs - sum_columns(outputs));  // the last columns may lie over the inputs
  }
  m.activations = kSlots * kPiece;
  m.gates = m.activations + groups * m.capacity * kColumnBytes;
  m.points = m.gates + 2 * 8 * r.width;
  m.barriers = m.points + groups * kGroupRows * 12;
  m.total = m.barriers + 8 * (2 * kSlots + 4);
  return m;
}

}  // namespace r3dad::cuda
