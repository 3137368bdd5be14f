// Work items of the reverse process: tiles of points of one cloud, each through all steps.
#include <algorithm>
#include <vector>

#include "dispatch.h"
#include "memory.h"
#include "ops.h"
#include "parallel.h"

namespace r3dad {

void reverse_diffusion(const ReverseNet& net, int64_t batch, int64_t points, const float* start, const float* condition,
                       const float* gate_shape, const float* shift_shape, const int64_t* seeds, int precision, float* out, int threads) {
  if (batch == 0 || points == 0) return;
  const ReverseKernel& kernel = kernels().reverse[precision];
  const Buffer<char> packed(kernel.packed_bytes(net));
  parallel_for(net.layers, threads, [&](int64_t layer, int) { kernel.pack(net, static_cast<int>(layer), packed.get()); });

  // Items are whole register tiles. With several threads they get smaller so that the last ones end together.
  const int64_t units = (points + kernel.unit - 1) / kernel.unit, largest = kernel.most / kernel.unit;
  const int64_t wanted = threads > 1 ? (16 * static_cast<int64_t>(threads) + batch - 1) / batch : 1;
  const int64_t items = std::min(units, std::max((units + largest - 1) / largest, wanted));
  const int64_t per_item = (units + items - 1) / items * kernel.unit, parts = (points + per_item - 1) / per_item;
  const int64_t width = net.layer[0].in - 3;
  std::vector<Buffer<char>> scratch;
  for (int i = 0; i < workers(batch * parts, threads); ++i)
    scratch.emplace_back(kernel.scratch_bytes(net, static_cast<int>(per_item)));
  parallel_for(batch * parts, threads, [&](int64_t item, int worker) {
    const int64_t cloud = item / parts, first = item % parts * per_item, row = cloud * points + first;
    const ReverseTile tile{first,
                           static_cast<int>(std::min(per_item, points - first)),
                           static_cast<uint64_t>(seeds[cloud]),
                           start + 3 * row,
                           condition ? condition + width * row : nullptr,
                           gate_shape + cloud * net.total,
                           shift_shape + cloud * net.total,
                           out + 3 * row};
    kernel.tile(net, tile, packed.get(), scratch[worker].get());
  });
}

}  // namespace r3dad
