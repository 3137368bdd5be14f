// The C++ face of the operations on the CPU: raw pointers and sizes, C-contiguous; definitions in r3dad/ops. No function keeps a pointer.
#pragma once
#include <cstdint>

namespace r3dad {

// query [batch, queries, 3], reference [batch, points, 3], finite; 1 <= k <= points. Out: [batch, queries, k].
void knn(const float* query, const float* reference, int64_t batch, int64_t queries, int64_t points, int k, float* distances,
         int64_t* indices, int threads);

struct KdTree;

// A reference [count, 3] that many searches share, finite, count >= 1; the queries are another tree's points (or its own), or
// query [queries, 3]. Out: [queries, k].
KdTree knn_tree(const float* points, int64_t count, int threads);
void knn(const KdTree& tree, const KdTree& queries, int k, float* distances, int64_t* indices, int threads);
void knn(const KdTree& tree, const float* query, int64_t queries, int k, float* distances, int64_t* indices, int threads);

// query [batch, queries, 3 * k], reference [batch, rows, 3 * k], finite. Out: squared distance to the nearest row [batch, queries] and,
// unless null, its index (ties to the smaller).
void nearest_row(const float* query, const float* reference, int64_t batch, int64_t queries, int64_t rows, int k, float* distances,
                 int64_t* indices, int threads);

// points [batch, n, 3], reconstruction [batch, m, 3], finite; 1 <= k <= min(n, m). Out: [batch, n].
void cluster_distance(const float* points, const float* reconstruction, int64_t batch, int64_t n, int64_t m, int k, float* distances,
                      int threads);

// points [batch, n, 3], n >= 1; weights[l] [widths[l + 1], widths[l]], the first `pointwise` layers before the maximum. Out: [batch, last].
void encode(const float* points, int64_t batch, int64_t n, int layers, int pointwise, const int* widths, const float* const* weights,
            const float* const* biases, float* out, int threads);

// x [batch, n, in], weight [out, in], gate, shift [batch, out]; slope at most 1. Out: y [batch, n, out].
void concat_squash(const float* x, const float* weight, const float* bias, const float* gate, const float* shift, float slope,
                   int64_t batch, int64_t n, int in, int out, float* y, int threads);

// Gradients; grad, y [batch, n, out]. Out: dx like x, dweight like weight, dbias [out], dgate and dshift [batch, out].
void concat_squash_backward(const float* grad, const float* x, const float* weight, const float* bias, const float* gate, const float* y,
                            float slope, int64_t batch, int64_t n, int in, int out, float* dx, float* dweight, float* dbias,
                            float* dgate, float* dshift, int threads);

// An index [points, k] with any strides, in elements; one outside of [0, limit) is a std::out_of_range.
struct IndexView {
  const int64_t* at;
  int64_t row, step, limit;
};

// theirs, own [n, width], edge [4, width], points, normals [n, 3], spacing [n]; width at least a register's lanes, k at most 64,
// index.limit n. Out: [n, 2 width].
void messages(const float* theirs, const float* own, const float* edge, const float* points, const float* normals, const float* spacing,
              const IndexView& index, int64_t n, int width, int k, float* out, int threads);

// The same, and grad [n, 2 width]. Added to: of_theirs, of_own [n, width], of_edge [4, width]. On one thread: points share neighbours.
void messages_backward(const float* grad, const float* theirs, const float* own, const float* edge, const float* points, const float* normals,
                       const float* spacing, const IndexView& index, int64_t n, int width, int k, float* of_theirs, float* of_own,
                       float* of_edge);

// values [index.limit, columns], columns a multiple of a register's lanes; weights [n, k] with strides. Out: their means,
// the first `wanted` [n, wanted].
void neighbour_mean(const float* values, int columns, int wanted, const IndexView& index, const float* weights, int64_t weight_row,
                    int64_t weight_step, int64_t n, int k, float* out, int threads);

struct ReverseNet;

// start, out [batch, points, 3]; condition [batch, points, layer[0].in - 3]; gate_shape, shift_shape [batch, total]; seeds [batch];
// precision: a Precision of kernels.h.
void reverse_diffusion(const ReverseNet& net, int64_t batch, int64_t points, const float* start, const float* condition,
                       const float* gate_shape, const float* shift_shape, const int64_t* seeds, int precision, float* out, int threads);

}  // namespace r3dad
