// Blocks of points that gather from their neighbours.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "dispatch.h"
#include "ops.h"
#include "parallel.h"

namespace r3dad {
namespace {

constexpr int64_t kPoints = 256;

// An index outside of [0, index.limit) is found before anything is read by it.
void check(const IndexView& index, int k, int64_t first, int64_t last) {
  bool wrong = false;
  for (int64_t i = first; i < last; ++i)
    for (int j = 0; j < k; ++j)
      wrong |= static_cast<uint64_t>(index.at[i * index.row + j * index.step]) >= static_cast<uint64_t>(index.limit);
  if (wrong) throw std::out_of_range("index outside of 0.." + std::to_string(index.limit - 1));
}

// Calls work(first, last) for blocks of points.
template <class Work>
void in_blocks(int64_t n, const IndexView& index, int k, int threads, const Work& work) {
  parallel_for((n + kPoints - 1) / kPoints, threads, [&](int64_t item, int) {
    const int64_t first = item * kPoints, last = std::min(n, first + kPoints);
    check(index, k, first, last);
    work(first, last);
  });
}

}  // namespace

void messages(const float* theirs, const float* own, const float* edge, const float* points, const float* normals, const float* spacing,
              const IndexView& index, int64_t n, int width, int k, float* out, int threads) {
  const MessageRound round{theirs, own, edge, points, normals, spacing, index.at, index.row, index.step, width, k, out};
  in_blocks(n, index, k, threads, [&](int64_t first, int64_t last) { kernels().messages(round, first, last); });
}

void messages_backward(const float* grad, const float* theirs, const float* own, const float* edge, const float* points, const float* normals,
                       const float* spacing, const IndexView& index, int64_t n, int width, int k, float* of_theirs, float* of_own,
                       float* of_edge) {
  // The edge's gradient block by block: a long sum in float32 loses less.
  std::vector<float> block(4 * width);
  const MessageRound round{theirs, own, edge, points, normals, spacing, index.at, index.row, index.step, width, k, nullptr};
  for (int64_t first = 0; first < n; first += kPoints) {
    const int64_t last = std::min(n, first + kPoints);
    check(index, k, first, last);
    std::fill(block.begin(), block.end(), 0.0f);
    kernels().messages_backward({round, grad, of_theirs, of_own, block.data()}, first, last);
    for (int f = 0; f < 4 * width; ++f) of_edge[f] += block[f];
  }
}

void neighbour_mean(const float* values, int columns, int wanted, const IndexView& index, const float* weights, int64_t weight_row, int64_t weight_step,
                    int64_t n, int k, float* out, int threads) {
  const NeighbourMean mean{values, index.at, index.row, index.step, weights, weight_row, weight_step, columns, wanted, k, out};
  in_blocks(n, index, k, threads, [&](int64_t first, int64_t last) { kernels().neighbour_mean(mean, first, last); });
}

}  // namespace r3dad
