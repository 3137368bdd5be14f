// The whole reverse process in one kernel for compute capability 9.0: as reverse.cuh, with wgmma, bulk copies and clusters of blocks.
//
// A block has one or two groups of four warps and one warp that fetches. A group keeps 64 points of one cloud in shared memory; it
// multiplies all columns of its own rows, so groups meet nobody but at the weights. The activations of a layer follow its inputs in a ring
// of columns; the last columns of a layer may lie over its inputs, which are read by then. The last layer's sums over columns stay within
// four lanes.
//
// Weights come in pieces of 16 kB in the order of use, the same in all blocks of a cluster. Each block fetches its share of a piece and
// writes it into all blocks (multicast), so a cluster reads the weights once a step. Who waits for whom:
//   full[slot]   1 arrival (the block's own fetcher, which expects kPiece bytes), and the bytes, from all blocks' fetchers. Groups wait for
//                it.
//   empty[slot]  4 * groups * cluster arrivals: each warp of each group of all blocks, once its products have read the piece. Fetchers wait
//                for it, since their share goes into all blocks.
//   gates_full[2], gates_empty[2]  the same for a step's gates, within a block: 1 arrival and the bytes; 4 * groups arrivals.
// Bytes may come before the fetcher's own arrival: it is what ends the phase, and no fetcher writes into a phase that has not begun, since
// then some warp of that block has not freed the slot. No deadlock: order what is fetched as gates of step 0, pieces of step 0, gates of
// step 1 ... All blocks of a cluster have the same order, also those past the last tile, which compute on zeros. A fetcher waits at most
// for the release of what stands kSlots pieces or two gates before, a group for the next of the order; so the first in the order that is
// not yet there waits for nobody who waits for it. Blocks leave together, so none is written to that has ended.
#pragma once
#include "cuda/reverse_point.cuh"
#include "cuda/reverse_sm90.h"

namespace r3dad::cuda {

// A slot of a ring and the parity of its phase.
struct Turn {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void next(int slots) {
    if (++slot == slots) slot = 0, parity ^= 1;
  }
};

// Places in shared memory are held as bytes from its start, which take fewer registers than pointers.
struct Barriers {
  int at;
  __device__ static uint64_t* barrier(int place) { return reinterpret_cast<uint64_t*>(dynamic_memory() + place); }
  __device__ uint64_t* full(int slot) const { return barrier(at + 8 * slot); }
  __device__ uint64_t* empty(int slot) const { return barrier(at + 8 * (kSlots + slot)); }
  __device__ uint64_t* gates_full(int slot) const { return barrier(at + 8 * (2 * kSlots + slot)); }
  __device__ uint64_t* gates_empty(int slot) const { return barrier(at + 8 * (2 * kSlots + 2 + slot)); }
};

// What a thread of a group knows.
struct Group {
  int activations, capacity;
  Barriers barriers;
  int number, thread, cluster;
  int first = 0;  // the column of the ring where the inputs of the layer begin
  Turn turn = {};

  __device__ int wrapped(int column) const { return column < capacity ? column : column - capacity; }
  __device__ unsigned char* column(int c) const { return dynamic_memory() + activations + wrapped(c) * kColumnBytes; }
  // This warp is done with a slot of the cluster.
  __device__ void release(int slot) const {
    if (thread % 32 < cluster) barrier_arrive(barriers.empty(slot), thread % 32);
  }
};

// One layer between: inputs at group.first -> outputs after them, or for the last of them (LAST) its sums with the last layer's weights,
// added to ends [2 rows][3]. N columns at a time.
template <int N, bool LAST>
__device__ inline void group_layer(Group& group, const float2* gates, const float* last, int inputs, int outputs, float slope,
                                   float (&ends)[2][3]) {
  constexpr int kInputs = piece_inputs(N);
  const int to = group.wrapped(group.first + inputs);
  for (int chunk = 0; chunk < outputs; chunk += N) {
    float sum[N / 2];
    const auto piece = [&](int k, bool add) {
      const unsigned char* a = group.column(group.first + k);
      const unsigned char* b = dynamic_memory() + group.turn.slot * kPiece;
      barrier_wait(group.barriers.full(group.turn.slot), group.turn.parity);
      products_begin();
#pragma unroll
      for (int deep = 0; deep < kInputs; deep += 16)
        multiply(sum, matrix_at(shared_address(a + deep * kColumnBytes), 8 * kColumnBytes, 128),
                 matrix_at(shared_address(b + deep * 2 * N), 8 * 2 * N, 128), add || deep > 0);
      products_commit();
    };
    piece(0, false);
    for (int k = kInputs; k < inputs; k += kInputs) {
      const int before = group.turn.slot;
      group.turn.next(kSlots);
      piece(k, true);
      products_wait<1>();
      group.release(before);
    }
    products_wait<0>();
    products_end(sum);
    group.release(group.turn.slot);
    group.turn.next(kSlots);
    group_sync(group.number);  // all inputs are read, outputs may lie over them
#pragma unroll
    for (int block = 0; block < N; block += 128) {
      unsigned char* out = group.column(to + chunk + block);
#pragma unroll
      for (int i = block / 2; i < block / 2 + 64; i += 4) {
        const int column = chunk + sum_column(group.thread, i);
        const float4 gate = *reinterpret_cast<const float4*>(gates + column);
        float2 weight[3] = {};
        if (LAST)
          for (int d = 0; d < 3; ++d) weight[d] = *reinterpret_cast<const float2*>(last + d * outputs + column);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float left = leaky(sum[i + 2 * half] * gate.x + gate.y, slope);
          const float right = leaky(sum[i + 2 * half + 1] * gate.z + gate.w, slope);
          if (LAST)
            for (int d = 0; d < 3; ++d) ends[half][d] += left * weight[d].x + right * weight[d].y;
          else
            store(out + (sum_column(group.thread, i) - block) / 8 * 8 * kColumnBytes + sum_row(group.thread, 2 * half) * 16 +
                      group.thread % 4 * 4,
                  pack_bfloat16(left, right));
        }
      }
    }
  }
  fence_stores();
  group_sync(group.number);
  group.first = to;
}

// The first layer, on the plain cores: a thread takes a row and eight columns at a time. x [64, 3]; share [inside, width] or null.
__device__ inline void first_layer(const Group& group, const Reverse& r, const float2* gates, const float* x, const float* share,
                                   int inside) {
  const int width = r.widths[0], row = group.thread % kGroupRows;
  for (int first = group.thread / kGroupRows * 8; first < width; first += 16) {
    uint32_t pairs[4];
    for (int i = 0; i < 4; ++i) {
      const int column = first + 2 * i;
      float2 y = {0, 0};
      if (share && row < inside) y = *reinterpret_cast<const float2*>(share + static_cast<int64_t>(row) * width + column);
      for (int d = 0; d < 3; ++d) {
        const float2 weight = *reinterpret_cast<const float2*>(r.first + d * width + column);
        y.x += x[3 * row + d] * weight.x;
        y.y += x[3 * row + d] * weight.y;
      }
      const float4 gate = *reinterpret_cast<const float4*>(gates + column);
      pairs[i] = pack_bfloat16(leaky(y.x * gate.x + gate.y, r.slope), leaky(y.y * gate.z + gate.w, r.slope));
    }
    store(group.column(first) + row * 16, uint4{pairs[0], pairs[1], pairs[2], pairs[3]});
  }
  fence_stores();
  group_sync(group.number);
}

// All steps of one group's points; x [64, 3] in shared memory.
__device__ inline void run_group(Group& group, const Reverse& r, const float2* all_gates, float* x, int cloud, int first_point) {
  const int inside = max(0, min(kGroupRows, r.points - first_point)), lane = group.thread % 32;
  const int64_t first_row = static_cast<int64_t>(cloud) * r.points + first_point;
  for (int i = group.thread; i < 3 * kGroupRows; i += 128) x[i] = i < 3 * inside ? r.start[3 * first_row + i] : 0.0f;
  Turn turn;
  for (int step = 0; step < r.steps; ++step, turn.next(2)) {
    const float2* gates = all_gates + turn.slot * r.width;
    barrier_wait(group.barriers.gates_full(turn.slot), turn.parity);
    group_sync(group.number);  // the points have moved
    group.first = 0;
    first_layer(group, r, gates, x, r.share ? r.share + first_row * r.widths[0] : nullptr, inside);
    gates += r.widths[0];
    float ends[2][3] = {};
    for (int l = 0; l < r.between; ++l) {
      const int inputs = r.widths[l], outputs = r.widths[l + 1];
      const bool wide = sum_columns(outputs) == 256;
      if (l + 1 < r.between) {
        if (wide) group_layer<256, false>(group, gates, r.last, inputs, outputs, r.slope, ends);
        else group_layer<128, false>(group, gates, r.last, inputs, outputs, r.slope, ends);
      } else {
        if (wide) group_layer<256, true>(group, gates, r.last, inputs, outputs, r.slope, ends);
        else group_layer<128, true>(group, gates, r.last, inputs, outputs, r.slope, ends);
      }
      gates += outputs;
    }
    for (int half = 0; half < 2; ++half)
      for (int d = 0; d < 3; ++d) {
        ends[half][d] += __shfl_xor_sync(0xFFFFFFFFu, ends[half][d], 1);
        ends[half][d] += __shfl_xor_sync(0xFFFFFFFFu, ends[half][d], 2);
      }
    if (lane % 4 < 2) {  // a lane for each of the two rows
      const int row = sum_row(group.thread, 2 * (lane % 4));
      const float whole[3] = {lane % 4 ? ends[1][0] : ends[0][0], lane % 4 ? ends[1][1] : ends[0][1], lane % 4 ? ends[1][2] : ends[0][2]};
      advance(r, step, cloud, first_point + row, whole, gates, x + 3 * row);
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(group.barriers.gates_empty(turn.slot), cluster_rank());
  }
  group_sync(group.number);
  for (int i = group.thread; i < 3 * inside; i += 128) r.out[3 * first_row + i] = x[i];
}

// Fetches the gates of each step and this block's share of each piece of weights; one thread.
__device__ inline void fetch_all(const Reverse& r, const Barriers& barriers, unsigned char* pieces, unsigned char* gates, int cloud,
                                 int cluster) {
  const int share = kPiece / cluster, own = cluster_rank() * share, row_bytes = 8 * r.width;
  int count = 0;
  for (int l = 0; l < r.between; ++l) count += 2 * r.widths[l] * r.widths[l + 1] / kPiece;
  Turn turn, gates_turn;
  for (int step = 0; step < r.steps; ++step, gates_turn.next(2)) {
    barrier_wait(barriers.gates_empty(gates_turn.slot), gates_turn.parity ^ 1);
    barrier_expect(barriers.gates_full(gates_turn.slot), row_bytes);
    bulk_copy(gates + gates_turn.slot * row_bytes, r.gates + (static_cast<int64_t>(step) * r.clouds + cloud) * r.width, row_bytes,
              barriers.gates_full(gates_turn.slot));
    const unsigned char* from = reinterpret_cast<const unsigned char*>(r.weights) + own;
    for (int piece = 0; piece < count; ++piece, turn.next(kSlots), from += kPiece) {
      barrier_wait(barriers.empty(turn.slot), turn.parity ^ 1);
      barrier_expect(barriers.full(turn.slot), kPiece);
      bulk_copy_to(pieces + turn.slot * kPiece + own, from, share, barriers.full(turn.slot), (1 << cluster) - 1);
    }
  }
}

// One block per tile of 64 GROUPS points, and more to fill the last cluster. weights: [pieces of a step, kPiece bytes].
template <int GROUPS>
__global__ void __launch_bounds__(128 * (GROUPS + 1), 1) reverse_cluster(const Reverse r, int cluster) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kTile = kGroupRows * GROUPS;
  unsigned char* memory = dynamic_memory();
  const ClusterMemory place = cluster_memory(r, GROUPS);
  const Barriers barriers{place.barriers};
  const int me = static_cast<int>(threadIdx.x), tiles = (r.points + kTile - 1) / kTile;
  const bool real = static_cast<int>(blockIdx.x) / tiles < r.clouds;
  const int cloud = real ? static_cast<int>(blockIdx.x) / tiles : 0;
  const int first_point = real ? static_cast<int>(blockIdx.x) % tiles * kTile : r.points;
  if (me == 0) {
    for (int i = 0; i < kSlots; ++i) {
      barrier_init(barriers.full(i), 1);
      barrier_init(barriers.empty(i), 4 * GROUPS * cluster);
    }
    for (int i = 0; i < 2; ++i) {
      barrier_init(barriers.gates_full(i), 1);
      barrier_init(barriers.gates_empty(i), 4 * GROUPS);
    }
    barrier_inits_done();
  }
  cluster_sync();
  if (me < 128 * GROUPS) {
    if (GROUPS > 1) more_registers<232>();
    const int number = me / 128;
    Group group{place.activations + number * place.capacity * kColumnBytes, place.capacity, barriers, number, me % 128, cluster};
    run_group(group, r, reinterpret_cast<const float2*>(memory + place.gates),
              reinterpret_cast<float*>(memory + place.points) + number * kGroupRows * 3, cloud, first_point + number * kGroupRows);
  } else {
    if (GROUPS > 1) fewer_registers<40>();
    if (me == 128 * GROUPS) fetch_all(r, barriers, memory, memory + place.gates, cloud, cluster);
    __syncwarp();
  }
  cluster_sync();
#else
  __trap();  // built without sm_90a; the launch checks for it
#endif
}

}  // namespace r3dad::cuda
