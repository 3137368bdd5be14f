// The whole reverse process in one kernel: a block keeps a tile of points of one cloud in shared memory through all layers of all steps.
//
// First and last layer run on the plain cores in float32, those between on the tensor cores in bfloat16. Activations lie in two buffers of
// shared memory in turn, the eight columns of 16 bytes exchanged by row so that neither loads nor stores meet in a bank. Weights come in
// the order in which they are used, each warp's columns as one stream of kilobytes that is read again every step: a lane copies and reads
// the same 32 bytes of each, so no thread waits for another's copy. The last layer's sums over columns are made per warp and added in the
// order of the warps. Nothing depends on the size of the tile.
#pragma once
#include "cuda/reverse_point.cuh"
#include "cuda/warp.cuh"

namespace r3dad::cuda {

// Where 16-bit column `column` of row `row` lies in a buffer of rows of `width`, in bytes; pieces of 8 columns stay whole.
__device__ inline int swizzled(int row, int column, int width) { return 2 * (row * width + ((column / 8 ^ row % 8) * 8 + column % 8)); }

// A warp's stream of weights.
struct Stream {
  unsigned char* ring;  // of this lane, in its warp's part
  const uint4 *weights, *end, *next;
  int slot;

  __device__ void fetch() {
    unsigned char* to = ring + (slot + kStages - 1) % kStages * kItem;
    copy_async(to, next);
    copy_async(to + kItem / 2, next + 32);
    commit_copies();
    next += kItem / 16;
    if (next >= end) next = weights;
  }
  // The piece that is next in use, and another on its way, into the place of the last.
  __device__ void take(uint4 (&piece)[2]) {
    wait_copies<kStages - 2>();
    piece[0] = *reinterpret_cast<const uint4*>(ring + slot * kItem);
    piece[1] = *reinterpret_cast<const uint4*>(ring + slot * kItem + kItem / 2);
    fetch();
    slot = (slot + 1) % kStages;
  }
};

// One layer between: in [16 TILES, inputs] of a buffer -> out, or for the last of them (LAST) its sums with the last layer's weights,
// sums [warps, 16 TILES, 3]. A warp takes 8 COLUMNS of every 64 COLUMNS columns.
template <int TILES, int COLUMNS, bool LAST>
__device__ inline void layer(const unsigned char* in, unsigned char* out, float* sums, const float2* gates, const float* last, int inputs,
                             int outputs, float slope, Stream& stream) {
  constexpr int kDeep = 4 / COLUMNS;  // products of 16 inputs in a piece of the stream
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32, pair = lane % 4 * 2;
  for (int chunk = 0; chunk < outputs; chunk += 64 * COLUMNS) {
    const int mine = chunk + 8 * COLUMNS * warp + pair;
    float sum[TILES][COLUMNS][4] = {};
    for (int k = 0; k < inputs; k += 16 * kDeep) {
      uint4 piece[2];
      stream.take(piece);
      const uint32_t b[4][2] = {{piece[0].x, piece[0].y}, {piece[0].z, piece[0].w}, {piece[1].x, piece[1].y}, {piece[1].z, piece[1].w}};
#pragma unroll
      for (int deep = 0; deep < kDeep; ++deep) {
#pragma unroll
        for (int t = 0; t < TILES; ++t) {
          uint32_t a[4];
          load_matrices(a, in + swizzled(16 * t + lane % 16, k + 16 * deep + lane / 16 * 8, inputs));
#pragma unroll
          for (int c = 0; c < COLUMNS; ++c) multiply_add(sum[t][c], a, b[deep * COLUMNS + c][0], b[deep * COLUMNS + c][1]);
        }
      }
    }
    float ends[2 * TILES][3] = {};
#pragma unroll
    for (int c = 0; c < COLUMNS; ++c) {
      const int column = mine + 8 * c;
      const float4 both = *reinterpret_cast<const float4*>(gates + column);
      const float2 gate[2] = {{both.x, both.y}, {both.z, both.w}};
      float weight[2][3] = {};
      if (LAST)
        for (int d = 0; d < 3; ++d) weight[0][d] = last[d * outputs + column], weight[1][d] = last[d * outputs + column + 1];
#pragma unroll
      for (int t = 0; t < TILES; ++t)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float y[2];
          for (int i = 0; i < 2; ++i) y[i] = leaky(sum[t][c][2 * half + i] * gate[i].x + gate[i].y, slope);
          if (LAST)
            for (int d = 0; d < 3; ++d) ends[2 * t + half][d] += y[0] * weight[0][d] + y[1] * weight[1][d];
          else
            *reinterpret_cast<uint32_t*>(out + swizzled(16 * t + 8 * half + lane / 4, column, outputs)) = pack_bfloat16(y[0], y[1]);
        }
    }
    if (LAST) {
#pragma unroll
      for (int i = 0; i < 2 * TILES; ++i)
        for (int d = 0; d < 3; ++d) {
          float whole = ends[i][d] + __shfl_xor_sync(kAll, ends[i][d], 1);
          whole += __shfl_xor_sync(kAll, whole, 2);
          float* to = sums + (warp * 16 * TILES + 8 * i + lane / 4) * 3 + d;
          if (lane % 4 == d) *to = chunk ? *to + whole : whole;
        }
    }
  }
}

// One block per tile of 16 TILES points.
template <int TILES>
__global__ void __launch_bounds__(kReverseThreads, 1) reverse_tile(const Reverse r) {
  constexpr int kTile = 16 * TILES;
  const int me = static_cast<int>(threadIdx.x), lane = me % 32, warp = me / 32;
  const int tiles = (r.points + kTile - 1) / kTile;
  const int cloud = static_cast<int>(blockIdx.x) / tiles, first_point = static_cast<int>(blockIdx.x) % tiles * kTile;
  const int64_t first_row = static_cast<int64_t>(cloud) * r.points + first_point;
  const int inside = min(kTile, r.points - first_point);
  unsigned char* ring = dynamic_memory();
  const ReverseMemory memory = reverse_memory(r, kTile);
  const auto buffer = [&](int l) { return ring + kRing + (l % 2 ? memory.buffer[0] : 0); };
  float* x = reinterpret_cast<float*>(ring + memory.total - 12 * kTile);
  float* sums = reinterpret_cast<float*>(buffer(r.between));

  const uint4* own = r.weights + static_cast<int64_t>(warp) * r.items * (kItem / 16) + lane;
  Stream stream{ring + warp * kStages * kItem + 16 * lane, own, own + static_cast<int64_t>(r.items) * (kItem / 16), own, 1};
  for (; stream.slot != 0; stream.slot = (stream.slot + 1) % kStages) stream.fetch();  // the first kStages - 1 into the places from 0
  for (int i = me; i < 3 * kTile; i += kReverseThreads) x[i] = i < 3 * inside ? r.start[3 * first_row + i] : 0.0f;

  const int pairs = r.widths[0] / 2, column = me % pairs * 2, rows = kReverseThreads / pairs;
  for (int step = 0; step < r.steps; ++step) {
    const float2* gates = r.gates + (static_cast<int64_t>(step) * r.clouds + cloud) * r.width;
    __syncthreads();
    if (me / pairs < rows) {  // the first layer: two columns a thread
      float weight[2][3];
      for (int i = 0; i < 2; ++i)
        for (int d = 0; d < 3; ++d) weight[i][d] = r.first[d * r.widths[0] + column + i];
      const float2 gate[2] = {gates[column], gates[column + 1]};
      for (int row = me / pairs; row < kTile; row += rows) {
        float y[2] = {0, 0};
        if (r.share && row < inside)
          for (int i = 0; i < 2; ++i) y[i] = r.share[(first_row + row) * r.widths[0] + column + i];
        for (int i = 0; i < 2; ++i) {
          for (int d = 0; d < 3; ++d) y[i] += x[3 * row + d] * weight[i][d];
          y[i] = leaky(y[i] * gate[i].x + gate[i].y, r.slope);
        }
        *reinterpret_cast<uint32_t*>(buffer(0) + swizzled(row, column, r.widths[0])) = pack_bfloat16(y[0], y[1]);
      }
    }
    gates += r.widths[0];
    __syncthreads();
    for (int l = 0; l < r.between; ++l) {
      const int inputs = r.widths[l], outputs = r.widths[l + 1];
      const auto run = [&](auto kernel) {
        kernel(buffer(l), buffer(l + 1), sums, gates, r.last, inputs, outputs, r.slope, stream);
      };
      const bool wide = outputs % (2 * kPanel) == 0;
      if (l + 1 < r.between) {
        if (wide) run(layer<TILES, 4, false>);
        else run(layer<TILES, 2, false>);
      } else {
        if (wide) run(layer<TILES, 4, true>);
        else run(layer<TILES, 2, true>);
      }
      gates += outputs;
      __syncthreads();
    }
    if (me < kTile) {
      float sum[3] = {0, 0, 0};
      for (int d = 0; d < 3; ++d)
        for (int w = 0; w < kReverseWarps; ++w) sum[d] += sums[(w * kTile + me) * 3 + d];
      advance(r, step, cloud, first_point + me, sum, gates, x + 3 * me);
    }
  }
  wait_copies<0>();
  __syncthreads();
  for (int i = me; i < 3 * inside; i += kReverseThreads) r.out[3 * first_row + i] = x[i];
}

// gates [steps, clouds, width]; column [width]: where a padded column stands among `total`, -1 for the added ones. One block a row.
__global__ void __launch_bounds__(kReverseThreads) gate_rows(const int32_t* column, const float* bias, const float* gate_time,
                                                             const float* gate_shape, const float* shift_time, const float* shift_shape,
                                                             int clouds, int total, int width, float2* gates) {
  const int64_t row = blockIdx.x, time = row / clouds * total, shape = row % clouds * total;
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kReverseThreads) {
    const int c = column[i];
    float2 value = {0.0f, 0.0f};
    if (c >= 0) {
      value.x = 1.0f / (1.0f + expf(-(gate_time[time + c] + gate_shape[shape + c])));
      value.y = bias[c] * value.x + (shift_time[time + c] + shift_shape[shape + c]);
    }
    gates[row * width + i] = value;
  }
}

}  // namespace r3dad::cuda
