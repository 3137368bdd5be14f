// The encoder: pointwise layers with a running maximum per item, then the head over whole clouds.
#include <algorithm>
#include <limits>
#include <vector>

#include "dispatch.h"
#include "memory.h"
#include "ops.h"
#include "parallel.h"

namespace r3dad {

void encode(const float* points, int64_t batch, int64_t n, int layers, int pointwise, const int* widths, const float* const* weights,
            const float* const* biases, float* out, int threads) {
  if (batch == 0) return;
  const Kernels& isa = kernels();
  auto padded = [&](int width) { return (width + isa.panel - 1) / isa.panel * isa.panel; };
  std::vector<Buffer<float>> packed, bias;
  std::vector<DenseLayer> layer;
  for (int l = 0; l < layers; ++l) {
    const int in = widths[l], wide = padded(widths[l + 1]);
    packed.emplace_back(static_cast<std::size_t>(in) * wide);
    bias.emplace_back(wide);
    std::fill(std::copy_n(biases[l], widths[l + 1], bias[l].get()), bias[l].get() + wide, 0.0f);
    layer.push_back({in, widths[l + 1], bias[l].get(), packed[l].get()});
  }
  parallel_for(layers, threads, [&](int64_t l, int) { isa.pack(weights[l], widths[l], widths[l], widths[l + 1], packed[l].get()); });

  const int tile = 8 * isa.unit, width = widths[pointwise], wide = padded(width);
  // Several tiles per item where there is work enough: fewer partial maxima.
  const int64_t tiles = (n + tile - 1) / tile, per_item = batch * tiles >= 128 * static_cast<int64_t>(threads) ? 8 : 1;
  const int64_t parts = (tiles + per_item - 1) / per_item;
  const Buffer<float> maxima(batch * parts * wide);
  std::vector<Buffer<char>> scratch;
  const int64_t bytes = std::max(isa.mlp_scratch_bytes(layer.data(), pointwise, tile),
                                 isa.mlp_scratch_bytes(layer.data() + pointwise, layers - pointwise, tile));
  for (int i = 0; i < workers(batch * parts, threads); ++i) scratch.emplace_back(bytes);
  parallel_for(batch * parts, threads, [&](int64_t item, int worker) {
    const int64_t cloud = item / parts, first = item % parts * per_item * tile;
    float* maximum = maxima.get() + item * wide;
    std::fill(maximum, maximum + wide, -std::numeric_limits<float>::infinity());
    for (int64_t i = first; i < std::min(n, first + per_item * tile); i += tile)
      isa.mlp_tile({layer.data(), pointwise, points + 3 * (cloud * n + i), static_cast<int>(std::min<int64_t>(tile, n - i)), maximum,
                    nullptr},
                   scratch[worker].get());
  });

  const Buffer<float> whole(batch * width);
  for (int64_t cloud = 0; cloud < batch; ++cloud)
    for (int c = 0; c < width; ++c) {
      float best = maxima[cloud * parts * wide + c];
      for (int64_t part = 1; part < parts; ++part) best = std::max(best, maxima[(cloud * parts + part) * wide + c]);
      whole[cloud * width + c] = best + biases[pointwise - 1][c];
    }
  const int64_t chunks = (batch + tile - 1) / tile;
  parallel_for(chunks, std::min<int64_t>(threads, scratch.size()), [&](int64_t chunk, int worker) {
    const int64_t first = chunk * tile;
    isa.mlp_tile({layer.data() + pointwise, layers - pointwise, whole.get() + first * width,
                  static_cast<int>(std::min<int64_t>(tile, batch - first)), nullptr, out + first * widths[layers]},
                 scratch[worker].get());
  });
}

}  // namespace r3dad
