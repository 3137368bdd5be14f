// What every instruction-set unit provides, behind one table of function pointers, and the plain structures passed to it.
// This header is seen by instruction-set units: only types and declarations.
#pragma once
#include <cstdint>

namespace r3dad {

// ---- k nearest neighbours -------------------------------------------------------------------------------------------------------

enum { kLeaf = 64 };  // reference points per block

struct KnnScratch {
  float* distance;       // [first_blocks * kLeaf]
  float* minima;         // [groups], see knn_groups
  float* candidate;      // [capacity + kLeaf + 16]
  uint32_t* candidate_id;  // the same
  uint32_t* rank;        // the same
  float* sorted;         // the same
  uint32_t* sorted_id;   // the same
  int capacity;          // at least 4k
};

// The blocks that can hold a neighbour of the present query block, found by the tree (a baseline unit).
struct KnnReach {
  float reach;            // squared gap up to which blocks are listed
  int count, padded;      // blocks listed; rounded up to 16
  const uint32_t* block;  // [count]
  const float* box;       // [6, padded]: lo and hi per axis
  const uint32_t* first_id;  // [padded] smallest index in the block
};

struct KnnBlock {
  const float* query;  // [3, stride] of the query block
  const uint32_t* query_id;
  int queries, stride, k;
  const float* xyz;      // reference, [blocks, 3, kLeaf]
  const uint32_t* ids;   // [blocks, kLeaf]
  const uint32_t* first;  // the nearest blocks, computed for every query
  int first_count;
  // Lists every other block within `reach` of the query block.
  const KnnReach* (*within)(void* context, float reach);
  void* context;
  float* distances;  // [Q, k]
  int64_t* indices;
};

struct KnnBrute {
  const float* query;  // [queries, 3]
  int64_t queries;
  const float* xyz;  // [3, padded], padded with infinity to a multiple of 64
  int64_t points, padded;
  int k;
  float* distances;  // [queries, k]
  int64_t* indices;
};

// Running minima kept per query; k of them bound the k-th distance from above.
static constexpr int knn_groups(int k) { return k <= 32 ? 64 : (k + 31) / 32 * 64; }

// Slow paths in a baseline unit: the k smallest of (distance, index) to the front; sorted when `sorted`.
void knn_select(float* distance, uint32_t* id, int count, int k, bool sorted);

// ---- reverse process ------------------------------------------------------------------------------------------------------------

struct ReverseLayer {
  int in, out;
  const float *weight, *bias;  // [out, in], [out]
};

struct ReverseNet {
  int layers, steps;
  int64_t total;  // sum of all out
  const ReverseLayer* layer;
  const float *gate_time, *shift_time;  // [steps, total]
  const float* coefficients;            // [steps, 3]
  float slope;                          // at most 1
};

// Consecutive points of one cloud.
struct ReverseTile {
  int64_t first;
  int points;
  uint64_t seed;
  const float *start, *condition;  // [points, 3], [points, layer[0].in - 3]
  const float *gate_shape, *shift_shape;  // [total]
  float* out;                             // [points, 3]
};

enum Precision { kFloat32, kBFloat16, kInt8, kPrecisions };

struct ReverseKernel {
  int unit, most;  // rows of a register tile; points of the largest work item
  int64_t (*packed_bytes)(const ReverseNet&);
  void (*pack)(const ReverseNet&, int layer, char* packed);
  int64_t (*scratch_bytes)(const ReverseNet&, int points);
  void (*tile)(const ReverseNet&, const ReverseTile&, const char* packed, char* scratch);
};

// ---- nearest row ----------------------------------------------------------------------------------------------------------------

enum { kRowLeaf = 32 };     // rows per block of the tree of means
enum { kCandidates = 256 };  // kept per query before they are compared in full

struct NearestBlock {
  const float* query_rows;  // [queries, width]
  const float* query_mean;  // [3, stride], scaled by sqrt(k)
  const uint32_t* query_ids;
  int queries, stride, width;
  const float* rows;   // [blocks * kRowLeaf, width] in the tree's order
  const float* means;  // [blocks, 3, kRowLeaf], scaled
  const uint32_t* ids;  // [blocks, kRowLeaf]
  const uint32_t* first;  // nearest blocks
  int first_count;
  const KnnReach* (*within)(void* context, float reach);
  void* context;
  float relative, absolute;  // margins for rounding
  float* distances;          // by query id
  int64_t* indices;          // or null
};

struct NearestDense {
  const float* query_rows;  // [queries, width]
  const float* centred;     // [queries up to the register tile, lda], centred and times -2
  const float* slack;       // [queries] twice the error of a product's value
  const uint32_t* query_ids;
  int queries, width;
  int64_t lda;
  const float* rows;    // [points, width]
  const float* packed;  // panels of the centred rows
  const float* norms;   // [padded] squared length of the centred rows
  const uint32_t* ids;
  int points, padded;
  float* distances;
  int64_t* indices;
};

// ---- encoder --------------------------------------------------------------------------------------------------------------------

struct DenseLayer {
  int in, out;
  const float* bias;    // [padded out]
  const float* packed;         // panels
};

struct MlpTile {
  const DenseLayer* layer;
  int layers;
  const float* in;  // [rows, layer[0].in]
  int rows;
  float* maximum;  // [padded out of the last layer], updated; or null:
  float* out;      // [rows, out of the last layer]
};

// ---- one concat-squash layer ----------------------------------------------------------------------------------------------------

struct SquashForward {
  int rows, in, out;
  const float *x, *packed;    // [rows, in], panels of the weight
  const float *gate, *shift;  // [padded out]; the bias is in the shift
  float slope;                // at most 1
  float* y;                   // [rows, out]
};

struct SquashBackward {
  int rows, in, out;
  const float *grad, *y, *packed;  // [rows, out] twice, panels of the transposed weight
  const float* gate;               // [out]
  float slope;
  float* dx;  // [rows, in]
};

enum { kProductRows = 128 };

struct SquashProduct {
  int rows, in, out, columns;  // columns [0, columns) of grad and y, whose rows are `out` long
  const float *grad, *y, *x;
  float slope;
  float* product;  // [columns up to the register tile, in up to a panel], updated
  float* sums;     // [columns], updated
};

// ---- gathers from neighbours ----------------------------------------------------------------------------------------------------

enum { kMaxHeard = 64 };

struct MessageRound {
  const float *theirs, *own;  // [n, width]
  const float* edge;          // [4, width]
  const float *points, *normals, *spacing;  // [n, 3] twice, [n]
  const int64_t* index;                     // [i * index_row + neighbour * index_step]
  int64_t index_row, index_step;
  int width, k;  // at least VW; at most kMaxHeard
  float* out;    // [n, 2 width]
};

struct MessageGradient {
  MessageRound round;          // without `out`
  const float* grad;           // [n, 2 width]
  float *theirs, *own, *edge;  // added to: [n, width] twice, [4, width]
};

struct NeighbourMean {
  const float* values;  // [any, columns]
  const int64_t* index;
  int64_t index_row, index_step;
  const float* weights;
  int64_t weight_row, weight_step;
  int columns, wanted, k;  // a multiple of VW; the first `wanted` are stored
  float* out;              // [n, wanted]
};

struct Kernels {
  const char* name;
  int lanes;  // VW
  void (*messages)(const MessageRound&, int64_t first, int64_t last);
  void (*messages_backward)(const MessageGradient&, int64_t first, int64_t last);
  void (*neighbour_mean)(const NeighbourMean&, int64_t first, int64_t last);
  void (*knn_block)(const KnnBlock&, const KnnScratch&);
  void (*knn_brute)(const KnnBrute&, const KnnScratch&);
  // Returns the number of full comparisons; stops early beyond the budget.
  int64_t (*nearest_block)(const NearestBlock&, int64_t budget);
  void (*nearest_dense)(const NearestDense&, char* scratch);
  int unit, panel;  // rows and columns of a register tile of float32 products
  // Rows [n, k] with stride ld to panels of `panel` columns, zero-padded.
  void (*pack)(const float* rows, int64_t ld, int k, int n, float* out);
  void (*pack_transposed)(const float* rows, int k, int n, float* out);
  int64_t (*mlp_scratch_bytes)(const DenseLayer* layer, int layers, int rows);
  void (*mlp_tile)(const MlpTile&, char* scratch);
  int64_t (*squash_scratch_bytes)(int in, int out, int rows);
  void (*squash_forward)(const SquashForward&, char* scratch);
  void (*squash_backward_x)(const SquashBackward&, char* scratch);
  int64_t (*squash_product_bytes)(int in, int columns);
  int64_t (*squash_product_scratch_bytes)(int in, int columns);
  void (*squash_product)(const SquashProduct&, char* scratch);
  // Ceilings: run `loops` rounds of products on registers and return their FLOP; null where there are no such products.
  double (*probe[kPrecisions])(int64_t loops);
  ReverseKernel reverse[kPrecisions];  // products of the hidden layers; float32 where there are no such products
};

const Kernels* kernels_base();
const Kernels* kernels_avx2();
const Kernels* kernels_avx512();
const Kernels* kernels_avx512vnni();
const Kernels* kernels_avx512bf16();
const Kernels* kernels_amxbf16();  // with R3DAD_AMX

}  // namespace r3dad
